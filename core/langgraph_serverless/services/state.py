"""Threads' states: reading them, their history, and writing them by hand.

A write happens only while its thread has no live run, and no run can be created meanwhile: the thread's row is locked, and
checkpoints, values and status are committed together. Everything here needs the thread's graph, whose channels and
reducers define what a state is; what the graph objects to is the client's error, in the graph's words.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import InvalidUpdateError
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.types import StateSnapshot, StateUpdate
from langgraph_sdk.runtime import AccessContext
from psycopg_pool import AsyncConnectionPool

from langgraph_serverless.domain.auth_filters import Filter, both, visible
from langgraph_serverless.domain.passed_headers import passed_headers
from langgraph_serverless.domain.ports import Authorizer, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_kwargs import of_headers, without_reserved
from langgraph_serverless.domain.serialization import dump_json, to_json
from langgraph_serverless.domain.thread_events import in_microseconds
from langgraph_serverless.domain.threads import Thread, ThreadStatus
from langgraph_serverless.errors import (
    BadRequestError,
    ConflictError,
    EncryptionError,
    GraphRefusedError,
    NotFoundError,
    UnavailableError,
)
from langgraph_serverless.execution.graph_input import graph_input
from langgraph_serverless.execution.graph_output import thread_interrupts
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.state_document import state_document
from langgraph_serverless.persistence.checkpoint_reads import StatefulThread, StateRepository
from langgraph_serverless.persistence.json import storable
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.streaming.thread_index import ThreadIndex
from langgraph_serverless.telemetry import logger

Graph = Pregel[Any, Any, Any, Any]
SaverFactory = Callable[[Connection | AsyncConnectionPool[Connection]], BaseCheckpointSaver[Any]]
StoreFactory = Callable[[], Awaitable[BaseStore]]
Write = Callable[[Graph, RunnableConfig], Awaitable[RunnableConfig]]

#: Which checkpoint is meant; everything else in a client's ``checkpoint`` object is ignored.
CHECKPOINT_KEYS = ("checkpoint_id", "checkpoint_ns", "checkpoint_map")
#: Keys of a thread's stored config that do not apply to another use of its graph.
#: ``langgraph_request_id`` would be what a client has made up: a write by hand has none.
_NOT_KEPT = frozenset({"thread_id", "run_id", "langgraph_request_id", *CHECKPOINT_KEYS})
#: What a graph and its reducers raise at values that they cannot take.
_REFUSALS = (InvalidUpdateError, ValueError, TypeError, LookupError, AttributeError, AssertionError)


class StateService:
    """Use cases around the states of threads."""

    def __init__(
        self,
        database: Database,
        registry: GraphRegistry,
        saver_factory: SaverFactory,
        store_factory: StoreFactory,
        index: ThreadIndex | None = None,
        *,
        authorize: Authorizer = allow_all,
    ) -> None:
        self._authorize = authorize
        self._database = database
        self._registry = registry
        self._saver = saver_factory
        self._store = store_factory
        self._index = index
        self._threads = StateRepository()

    async def get(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        *,
        checkpoint: Mapping[str, Any] | None = None,
        subgraphs: bool = False,
    ) -> StateSnapshot | None:
        """The newest state, or that of a checkpoint; None for a thread that has no graph yet.

        Raises:
            NotFoundError: without the thread.
            GraphRefusedError: if what is to come next cannot be told, as tasks have written what does not go together.
        """
        thread = await self._readable(caller, thread_id)
        if thread.graph_id is None:
            return None
        config = _config(caller, thread_id, thread, checkpoint)
        # a saver of its own: it lets one statement at a time through
        saver = self._saver(await self._database.pool())
        async with self._graph(thread.graph_id, "threads.read", config, saver) as graph:
            try:
                return await graph.aget_state(config, subgraphs=subgraphs)
            except InvalidUpdateError as error:
                raise GraphRefusedError(str(error)) from error

    async def history(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        *,
        limit: int = 1,
        before: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        checkpoint: Mapping[str, Any] | None = None,
    ) -> Sequence[StateSnapshot]:
        """States, newest first.

        Args:
            before: only those older than this checkpoint.
            metadata: only those whose checkpoint's metadata contains this.
            checkpoint: its ``checkpoint_ns`` names a subgraph, for that one's history instead of the root's; with a
                ``checkpoint_id``, of only this checkpoint.

        Raises:
            NotFoundError: without the thread.
        """
        thread = await self._readable(caller, thread_id)
        if thread.graph_id is None or limit < 1:
            return []
        config = _config(caller, thread_id, thread, checkpoint)
        saver = self._saver(await self._database.pool())
        older_than: RunnableConfig | None = {"configurable": {"checkpoint_id": before}} if before else None
        async with self._graph(thread.graph_id, "threads.read", config, saver) as graph:
            states = graph.aget_state_history(
                config, filter=storable(dict(metadata)) if metadata else None, before=older_than, limit=limit
            )
            return [state async for state in states]

    async def update(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        *,
        values: Any = None,
        as_node: str | None = None,
        checkpoint: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        """Write values as if a node had, on top of the newest or the named checkpoint; returns the new checkpoint.

        Then tells the readers of the thread's stream.

        Raises:
            NotFoundError: without the thread.
            ConflictError: while a run of the thread is pending or running.
            BadRequestError: if the thread has no graph.
            GraphRefusedError: if the graph refuses the values or the node.
        """

        async def write(graph: Graph, config: RunnableConfig) -> RunnableConfig:
            return await graph.aupdate_state(config, values, as_node)

        allowed = both(
            await self._authorize(caller, "threads", "update", {"thread_id": thread_id}),
            await self._authorize(caller, "threads", "read", {"thread_id": thread_id}),
        )
        written, thread, state = await self._write(caller, thread_id, checkpoint, write, allowed)
        await self._tell(thread, state)
        return written["configurable"]

    async def apply_supersteps(
        self, caller: Principal, thread_id: uuid.UUID, supersteps: Sequence[Mapping[str, Any]]
    ) -> Thread:
        """Write one checkpoint per superstep, all of them or none, and return the thread as it is then.

        Raises:
            The same as ``update``.
        """

        async def write(graph: Graph, config: RunnableConfig) -> RunnableConfig:
            steps = [[_state_update(update) for update in step.get("updates") or ()] for step in supersteps]
            return await graph.abulk_update_state(config, steps)

        allowed = await self._authorize(caller, "threads", "update", {"thread_id": thread_id})
        # nobody is told: it is how a thread is made
        _, thread, _ = await self._write(caller, thread_id, None, write, allowed)
        return thread

    async def _write(
        self,
        caller: Principal,
        thread_id: uuid.UUID,
        checkpoint: Mapping[str, Any] | None,
        write: Write,
        allowed: Filter | None,
    ) -> tuple[RunnableConfig, Thread, StateSnapshot]:
        # The lock on the thread's row keeps runs from being created until this is committed: creating one takes the same
        # lock first. The saver works on the same connection, so that checkpoints and thread change together, and so that
        # a process with a pool of one connection does not wait for itself.
        async with self._database.transaction() as connection:
            if allowed is not None:  # nobody waits for what he cannot see, nor keeps it from others
                thread = await self._threads.find(connection, thread_id)
                if thread is None or not visible(thread.metadata, allowed):
                    raise _missing(thread_id)
            thread = await self._threads.find(connection, thread_id, lock=True)
            if thread is None or not visible(thread.metadata, allowed):
                raise _missing(thread_id)
            if thread.status is ThreadStatus.BUSY:
                raise ConflictError(f"Thread {thread_id} has in-flight runs. Wait for them to finish or cancel them.")
            if thread.graph_id is None:
                raise BadRequestError(
                    f"Thread '{thread_id}' has no assigned graph ID. This usually occurs when no runs have been made "
                    "on this thread yet. Run a graph on it, or set 'graph_id' in its metadata."
                )
            config = _config(caller, thread_id, thread, checkpoint)
            async with self._graph(thread.graph_id, "threads.update", config, self._saver(connection)) as graph:
                try:
                    written = await write(graph, config)
                except _REFUSALS as error:
                    raise GraphRefusedError(str(error) or type(error).__name__) from error
                # of the root, also when a subgraph's state was written
                state = await graph.aget_state(_config(caller, thread_id, thread, None))
            stored = await self._threads.write(
                connection,
                thread_id,
                values=to_json(state.values),
                interrupts=thread_interrupts(state),
                status=ThreadStatus.INTERRUPTED if state.next else ThreadStatus.IDLE,
            )
        return written, stored, state

    async def _tell(self, thread: Thread, state: StateSnapshot) -> None:
        if self._index is None:
            return
        data = dump_json({"state": state_document(state), "thread_id": str(thread.thread_id)})
        try:
            await self._index.state_updated(thread.thread_id, in_microseconds(thread.created_at), data)
        # it is written: who is answered with an error would write it again
        except (UnavailableError, EncryptionError) as error:
            about = {"action": "state_update_untold", "thread_id": str(thread.thread_id)}
            logger.warning("nobody who follows the thread is told of its state: %s", error, extra=about)

    async def _readable(self, caller: Principal, thread_id: uuid.UUID) -> StatefulThread:
        allowed = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        async with self._database.connection() as connection:
            thread = await self._threads.find(connection, thread_id)
        if thread is None or not visible(thread.metadata, allowed):
            raise _missing(thread_id)
        return thread

    @asynccontextmanager
    async def _graph(
        self, graph_id: str, access: AccessContext, config: RunnableConfig, saver: BaseCheckpointSaver[Any]
    ) -> AsyncIterator[Graph]:
        store = await self._store()
        async with self._registry.graph(
            graph_id, access_context=access, config=config, store=store, checkpointer=saver
        ) as graph:
            yield graph


def _config(
    caller: Principal, thread_id: uuid.UUID, thread: StatefulThread, checkpoint: Mapping[str, Any] | None
) -> RunnableConfig:
    """The thread's config with the ids that a run would have; scalars in it end up in the metadata of checkpoints."""
    stored = thread.config.get("configurable") or {}
    wanted = {key: value for key, value in (checkpoint or {}).items() if key in CHECKPOINT_KEYS and value is not None}
    configurable = {
        **{key: value for key, value in without_reserved(stored).items() if key not in _NOT_KEPT},
        **of_headers(passed_headers()),
        "langgraph_auth_user": caller.as_user(),
        "langgraph_auth_user_id": caller.identity,
        "langgraph_auth_permissions": list(caller.permissions),
        "user_id": caller.identity,
        "graph_id": thread.graph_id,
        "thread_id": str(thread_id),
        "checkpoint_ns": "",
        **wanted,
    }
    if (assistant_id := thread.metadata.get("assistant_id")) is not None:
        configurable["assistant_id"] = assistant_id
    settings = {key: thread.config[key] for key in ("tags", "recursion_limit") if thread.config.get(key) is not None}
    return cast(RunnableConfig, {**settings, "configurable": configurable})


def _state_update(update: Mapping[str, Any]) -> StateUpdate:
    values = graph_input(update) if update.get("command") is not None else update.get("values")
    return StateUpdate(values, update.get("as_node"))


def _missing(thread_id: uuid.UUID) -> NotFoundError:
    return NotFoundError(f"Thread with ID {thread_id} not found")
