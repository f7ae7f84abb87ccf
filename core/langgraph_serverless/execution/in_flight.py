"""Which nodes a run is executing, noted before they begin: for the error of a run that dies of one of them.

A checkpoint tells what comes next only as far as it has been saved (``durability: exit`` saves none on the way), and not what
was sent with ``Send``. So on a run's last attempts every start of a node that is not noted yet waits for one short write under the run's
lease; on all others there is nothing to be noted, and nothing is paid.

Never keeps a node from starting: what cannot be noted is logged. Nodes of subgraphs are named with their parents, as
``parent|node``, which is how LangGraph names them in a checkpoint's namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableConfig

from langgraph_serverless.domain.runs import ClaimedRun
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.telemetry import logger

#: Names in one note.
MOST_NODES = 20

#: Writes the names, in the place of those noted before.
NoteNodes = Callable[[Sequence[str]], Awaitable[None]]


class NodesInFlight(AsyncCallbackHandler):
    """A callback of one run, for the event loop that it is made in."""

    # of all that is called back, only the starts and ends of nodes
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, claimed: ClaimedRun, note: NoteNodes) -> None:
        self._about = claimed.about
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        #: By the callback's own id: the namespace of a task that has begun.
        self._begun: dict[Any, str] = {}
        self._noted: set[str] = set()

    @property
    def nodes(self) -> Sequence[str]:
        """The innermost nodes that have begun and not ended, by name."""
        begun = set(self._begun.values())
        inner = {space for space in begun if not any(other.startswith(f"{space}|") for other in begun)}
        return sorted(map(node_name, inner))[:MOST_NODES]

    async def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: Any,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        metadata = metadata or {}
        # what a node calls inherits its metadata; only the node itself has its name as well
        if kwargs.get("name") != metadata.get("langgraph_node") or not (
            space := metadata.get("langgraph_checkpoint_ns")
        ):
            return
        self._begun[run_id] = str(space)
        if asyncio.get_running_loop() is self._loop:
            await self._write()
        else:
            # below a synchronous node, which may be holding up our loop: this must not wait for it
            asyncio.run_coroutine_threadsafe(self._write(), self._loop)

    async def on_chain_end(self, outputs: Any, *, run_id: Any, **kwargs: Any) -> None:
        self._begun.pop(run_id, None)

    async def on_chain_error(self, error: BaseException, *, run_id: Any, **kwargs: Any) -> None:
        self._begun.pop(run_id, None)

    async def _write(self) -> None:
        async with self._turn:
            nodes = self.nodes
            if self._noted.issuperset(nodes):
                return  # one of many that were sent to the same node
            try:
                await self._note(nodes)
            except (UnavailableError, LeaseLostError) as error:
                # the run itself learns of it where it counts
                logger.warning("nodes not noted: %s", error, extra=self._about | {"action": "note_nodes"})
            else:
                self._noted = set(nodes)


def with_note(config: RunnableConfig, claimed: ClaimedRun, note: NoteNodes) -> RunnableConfig:
    """The config with a callback that notes the nodes of this run."""
    callbacks = config.get("callbacks")
    return {**config, "callbacks": [*(callbacks if isinstance(callbacks, list) else ()), NodesInFlight(claimed, note)]}


def node_name(namespace: str) -> str:
    """The node that a task's namespace (``parent:task|node:task``) names; counts of calls in between are left out."""
    return "|".join(part.partition(":")[0] for part in namespace.split("|") if not part.isdigit())
