"""From what a graph streams to the events that clients see.

``ChunkTranslator`` is told which modes the client asked for and gets every chunk of the graph; it names the events
(``mode`` or ``mode|namespace``), turns their data into JSON once, and accumulates messages for the ``messages`` mode. A
temporary run has checkpoints only for its own sake (it may be handed on), so clients are told of none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, BaseMessageChunk, message_chunk_to_message

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.run_errors import describe
from langgraph_serverless.domain.serialization import dump_json

#: Modes of the wire that LangGraph streams under the same name.
SAME = frozenset({"values", "updates", "custom", "tasks", "checkpoints", "debug"})
#: LangGraph's tag of the steps that are its own business.
HIDDEN = "langsmith:hidden"
#: And its own keys in configurables.
ENGINE_PREFIX = "__pregel_"
_CHECKPOINT_KEYS = ("checkpoint_id", "thread_id", "checkpoint_ns", "checkpoint_map")


class ChunkTranslator:
    """Per run: which events a chunk becomes."""

    def __init__(
        self, modes: Sequence[str], *, subgraphs: bool = False, temporary: bool = False, mask: bool = True
    ) -> None:
        self._modes = frozenset(modes) - ({"checkpoints"} if temporary else set())
        self._subgraphs = subgraphs
        self._temporary = temporary
        self._mask = mask
        # with both asked for, only the tuples are sent
        self._tuples = "messages-tuple" in self._modes
        self._accumulate = "messages" in self._modes and not self._tuples
        self._seen: dict[str, BaseMessage] = {}

    @property
    def graph_modes(self) -> list[str]:
        """What to ask of the graph; always ``values``, the last of which is the run's output."""
        wanted = {"values", *(self._modes & SAME)}
        if self._tuples or self._accumulate:
            wanted.add("messages")
        return sorted(wanted)

    def events(self, mode: str, namespace: Sequence[str], data: Any) -> Iterator[Event]:
        """The events of one chunk, in order."""
        if namespace and not self._subgraphs:
            return
        if mode == "messages":
            yield from self._messages(namespace, data)
        elif mode in self._modes and not (self._temporary and mode == "debug" and data["type"] == "checkpoint"):
            yield Event(_name(mode, namespace), dump_json(self._public(mode, data)))

    def graph_event(
        self,
        record: Mapping[str, Any],
        on_values: Callable[[Any], None],
        repeats: Callable[[str, Sequence[str], Any], bool],
    ) -> Iterator[Event]:
        """The events of one ``astream_events`` record: what the root graph streamed in it, or else the record itself."""
        if record["event"] != "on_chain_stream" or record.get("parent_ids"):
            if HIDDEN not in record.get("tags", ()):
                yield Event("events", dump_json({**record, "data": public_task(record["data"], mask=self._mask)}))
            return
        chunk = record["data"]["chunk"]
        namespace, mode, data = chunk if self._subgraphs else ((), *chunk)
        if mode == "values" and not namespace:
            on_values(data)
        if not repeats(mode, namespace, data):
            yield from self.events(mode, namespace, data)

    def _messages(self, namespace: Sequence[str], data: tuple[BaseMessage, Mapping[str, Any]]) -> Iterator[Event]:
        message, metadata = data
        if self._tuples:
            yield Event(_name("messages", namespace), dump_json([message, metadata]))
            return
        key = message.id or ""
        if key not in self._seen:
            yield Event("messages/metadata", dump_json({key: {"metadata": metadata}}))
        if not isinstance(message, BaseMessageChunk):
            self._seen[key] = message
            yield Event("messages/complete", dump_json([message]))
            return
        earlier = self._seen.get(key)
        whole = earlier + message if isinstance(earlier, BaseMessageChunk) else message
        self._seen[key] = whole
        yield Event("messages/partial", dump_json([message_chunk_to_message(whole)]))

    def _public(self, mode: str, data: Any) -> Any:
        """What clients see of a chunk: no keys of the engine's own, ids in the short form, errors masked."""
        if mode == "tasks":
            return public_task(data, mask=self._mask)
        if mode == "checkpoints":
            return _public_checkpoint(data)
        if mode != "debug":
            return data
        if data["type"] != "checkpoint":
            return {**data, "payload": public_task(data["payload"], mask=self._mask)}
        payload = _public_checkpoint(data["payload"])
        payload["checkpoint"] = _short(payload.get("config"))
        payload["parent_checkpoint"] = _short(payload.get("parent_config"))
        payload["tasks"] = [_with_checkpoint(task) for task in payload.get("tasks") or ()]
        return {**data, "payload": payload}


def public_task(task: Mapping[str, Any], *, mask: bool) -> Mapping[str, Any]:
    """A task or its result, or the data of an ``astream_events`` record, with an error as clients see it."""
    error = task.get("error")
    return {**task, "error": describe(error, mask=mask)} if isinstance(error, BaseException) else task


def _name(mode: str, namespace: Sequence[str]) -> str:
    return f"{mode}|{'|'.join(namespace)}" if namespace else mode


def _public_checkpoint(data: Mapping[str, Any]) -> dict[str, Any]:
    public = dict(data)
    for key in ("config", "parent_config"):
        if public.get(key):
            public[key] = {"configurable": _without_engine(public[key].get("configurable") or {})}
    return public


def _with_checkpoint(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """A task; that of a subgraph names its checkpoint in place of its state."""
    state = task.get("state")
    if not isinstance(state, Mapping) or "configurable" not in state:
        return task
    public = {key: value for key, value in task.items() if key != "state"}
    return {**public, "checkpoint": _short(state)}


def _without_engine(configurable: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in configurable.items() if not key.startswith(ENGINE_PREFIX)}


def _short(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not config:
        return None
    configurable = config.get("configurable") or {}
    return {key: configurable[key] for key in _CHECKPOINT_KEYS if key in configurable}
