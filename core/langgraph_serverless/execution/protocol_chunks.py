"""From what a graph streams to the records of the thread protocol.

``RecordTranslator`` gets everything that LangGraph streams of a protocol run, subgraphs included, and says it as
``domain/protocol_records.py`` writes it: state and updates with slim messages, model output as events of content blocks, tools,
custom data, tasks, checkpoints in short, what is asked of people, and the lifecycle of subgraphs. That of the run itself is left
to readers, who learn its end from the log's last entry. Texts of errors are masked as everywhere (``domain/run_errors.py``).

Remembers only what is open: messages that models have not finished, subgraphs, and what has been asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models._compat_bridge import message_to_events
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.protocol_records import record, slim
from langgraph_serverless.domain.run_errors import MASK, describe
from langgraph_serverless.execution.chunks import public_task
from langgraph_serverless.execution.protocol_lifecycle import Lifecycle, Status

#: What is asked of the graph.
MODES = ("values", "updates", "messages", "tools", "custom", "tasks", "checkpoints")
#: Of a message whose model was stopped, as its node is executed again elsewhere.
BEGINS_AGAIN = "The message was broken off; what wrote it begins again."
#: The key under which LangGraph streams what nodes ask, and breakpoints.
_INTERRUPT = "__interrupt__"
#: And what it says about an update as a whole.
_METADATA = "__metadata__"


class Params(TypedDict, total=False):
    """Of an event of LangGraph's."""

    namespace: Sequence[str]
    timestamp: int
    data: Any
    #: Of a state: what is asked at this point.
    interrupts: Sequence[Any]


@dataclass(frozen=True, slots=True)
class _Message:
    namespace: Sequence[str]
    #: The task in which a model writes it.
    task_id: str


class RecordTranslator:
    """Per execution: which records an event of LangGraph's becomes."""

    def __init__(
        self, *, temporary: bool, mask: bool, resumed: Collection[str] = (), announced: Collection[str] = ()
    ) -> None:
        """
        Args:
            resumed: namespaces of the subgraphs in which the run was handed on.
            announced: interrupts that clients know already.
        """
        self._temporary = temporary
        self._mask = mask
        self._resumed = set(resumed)
        self._asked = set(announced)
        self._lifecycle = Lifecycle()
        #: A graph has come to a breakpoint. That of a subgraph is only told by the root.
        self._halted = False
        #: By the id of the model's callbacks: the messages that it has begun.
        self._messages: dict[str, _Message] = {}
        self.tool_errors = ToolErrors()

    def records(self, method: str, params: Params, *, again: bool = False) -> Iterator[Event]:
        """The records of one event; none of what clients know already (``again``)."""
        namespace, now, data = params["namespace"], params["timestamp"], params["data"]
        if method == "messages":
            if not again:
                yield from self._message(namespace, now, *data)
        elif method == "values":
            if not again:
                yield from self._values(namespace, now, data, params.get("interrupts") or ())
        elif method == "updates":
            if not again:
                yield from self._updates(namespace, now, data)
        elif method == "tasks":
            yield from self._task(namespace, now, data, again=again)
        elif method == "checkpoints":
            yield from self._checkpoint(namespace, now, data, again=again)
        elif again:
            return
        elif method == "tools":
            yield record("tools", namespace, now, self._tool(data))
        elif method == "custom":
            yield record("custom", namespace, now, {"payload": data})
        elif method != "debug":  # which only a transformer asks for, and no channel has
            # what a transformer of the graph's author streams under a name of its own
            named = {"name": method.removeprefix("custom:"), "payload": data}
            yield record("custom", namespace, now, named)

    def closing(self, now: int, status: Status, error: str | None = None) -> Iterator[Event]:
        """What is left to be said of a run that is over."""
        if status == "completed" and self._halted:
            status = "interrupted"
        if status != "interrupted":
            for message in self._messages.values():
                yield _broken(message, now, error or MASK)
            self._messages.clear()
        for namespace, said in self._lifecycle.ends_all(status, error):
            yield record("lifecycle", namespace, now, said)

    def broken_off(self, now: int) -> Iterator[Event]:
        """What is to be said of a run that begins its superstep again elsewhere: what models have begun is not gone on with."""
        for message in self._messages.values():
            yield _broken(message, now, BEGINS_AGAIN)

    def _values(self, namespace: Sequence[str], now: int, data: Any, interrupts: Sequence[Any]) -> Iterator[Event]:
        yield from self._questions(namespace, now, interrupts)
        # a graph whose output is a single channel streams none with a question
        if not (interrupts and data == {}):
            yield record("values", namespace, now, slim(data))

    def _updates(self, namespace: Sequence[str], now: int, data: Mapping[str, Any]) -> Iterator[Event]:
        for node, update in data.items():
            if node == _INTERRUPT:
                self._halted = self._halted or not update
                yield from self._questions(namespace, now, update)
            elif node != _METADATA:
                yield record("updates", namespace, now, slim(update), node=node)

    def _questions(self, namespace: Sequence[str], now: int, interrupts: Sequence[Any]) -> Iterator[Event]:
        """The innermost graph streams them first: it is the one that asks."""
        for interrupt in interrupts:
            if interrupt.id not in self._asked:
                self._asked.add(interrupt.id)
                asked = {"interrupt_id": interrupt.id, "payload": interrupt.value}
                yield record("input.requested", namespace, now, asked)

    def _message(self, namespace: Sequence[str], now: int, said: Any, metadata: Mapping[str, Any]) -> Iterator[Event]:
        if isinstance(said, BaseMessage):
            # of a model that does not stream; what nodes return by themselves is told by the state
            if isinstance(said, AIMessage) and "ls_model_type" in metadata:
                for event in message_to_events(said, message_id=said.id):
                    yield record("messages", namespace, now, event)
            return
        kind, run_id = said.get("event"), metadata.get("run_id", "")
        if kind == "message-start":
            self._messages[run_id] = _Message(namespace, _task_id(metadata))
        elif kind in ("message-finish", "error"):
            self._messages.pop(run_id, None)
        yield record("messages", namespace, now, said)

    def _task(self, namespace: Sequence[str], now: int, task: Mapping[str, Any], *, again: bool) -> Iterator[Event]:
        if "result" not in task:
            started = self._lifecycle.begins(namespace, task)
            if not again:
                if started is not None:
                    yield record("lifecycle", namespace, now, started)
                yield record("tasks", namespace, now, task)
            return
        status, error = self._outcome(task)
        for run_id, message in list(self._messages.items()):
            if message.task_id == task["id"]:
                del self._messages[run_id]
                yield _broken(message, now, error or MASK)
        for inner, said in self._lifecycle.ends(task["id"], status, error):
            yield record("lifecycle", inner, now, said)
        if not again:
            yield record("tasks", namespace, now, public_task(task, mask=self._mask))

    def _outcome(self, task: Mapping[str, Any]) -> tuple[Status, str | None]:
        if task.get("interrupts"):
            return "interrupted", None
        error = task.get("error")
        if isinstance(error, BaseException):
            return "failed", describe(error, mask=self._mask)["message"]
        return ("failed", MASK if self._mask else str(error)) if error else ("completed", None)

    def _checkpoint(
        self, namespace: Sequence[str], now: int, data: Mapping[str, Any], *, again: bool
    ) -> Iterator[Event]:
        step, source = data["metadata"].get("step"), data["metadata"].get("source")
        if again and "|".join(namespace) in self._resumed:
            self._resumed.discard("|".join(namespace))
            if step > 0:  # behind its first nodes, so clients know that it has started; step 0 is its input, taken in
                self._lifecycle.enter(namespace)
        if again or self._temporary:
            return
        said = {"id": _checkpoint_id(data.get("config")), "step": step, "source": source}
        if parent := _checkpoint_id(data.get("parent_config")):
            said["parent_id"] = parent
        yield record("checkpoints", namespace, now, said)

    def _tool(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        if "output" in said:
            return {**said, "output": slim([said["output"]])[0]}
        if said["event"] == "tool-error":
            error = self.tool_errors.take(said["tool_call_id"])
            told = describe(error, mask=self._mask)["message"] if error else MASK if self._mask else said["message"]
            return {**said, "message": told}
        return said


class ToolErrors(BaseCallbackHandler):
    """Keeps what tools raise until LangGraph's stream tells of it, in words only, which not everybody may read."""

    run_inline = True
    ignore_llm = ignore_chat_model = ignore_chain = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self) -> None:
        #: By the callback's own id: the tool call.
        self._calls: dict[Any, str] = {}
        self._raised: dict[str, BaseException] = {}

    def in_config(self, config: RunnableConfig) -> RunnableConfig:
        """The config with this callback."""
        callbacks = config.get("callbacks")
        return {**config, "callbacks": [*(callbacks if isinstance(callbacks, list) else ()), self]}

    def take(self, tool_call_id: str) -> BaseException | None:
        return self._raised.pop(tool_call_id, None)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, **kwargs: Any) -> None:
        self._calls[run_id] = kwargs.get("tool_call_id") or str(run_id)

    def on_tool_end(self, output: Any, *, run_id: Any, **kwargs: Any) -> None:
        self._calls.pop(run_id, None)

    def on_tool_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        call = self._calls.pop(run_id, None)
        if call is not None and not isinstance(error, GraphBubbleUp):  # of a question LangGraph tells elsewhere
            self._raised[call] = error


def _broken(message: _Message, now: int, text: str) -> Event:
    return record("messages", message.namespace, now, {"event": "error", "message": text})


def _task_id(metadata: Mapping[str, Any]) -> str:
    space = str(metadata.get("langgraph_checkpoint_ns", ""))
    return space.rpartition("|")[2].partition(":")[2]


def _checkpoint_id(config: Mapping[str, Any] | None) -> str | None:
    return ((config or {}).get("configurable") or {}).get("checkpoint_id")
