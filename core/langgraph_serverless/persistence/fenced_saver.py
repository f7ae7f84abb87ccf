"""The checkpoint saver of a running run: writes only while the run's lease is held, many rows at a time, and reads back from memory.

What the graph puts is serialised at once and written a moment later in one statement (``lgs.save_v1``), which first looks for the run
with this lease's token and locks that row until it has committed: once another worker holds the run nothing is written, and
``LeaseLostError`` is raised. The rows remember the token, so that a rollback finds exactly what its run has written.

How long a moment is and what a commit waits for goes by the run's durability:

    sync    ``aput`` returns when all is on disk; the writes of a task wait a few milliseconds for others to go with
    async   nothing waits: all is written a few milliseconds later, in a busy process a tenth of a second, and the disk may follow later
    exit    the same; as a rule all of it is part of the statement that ends the run

What is left at the end is given to that statement (``take``), or written before the run is given back (``flush``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncCursor
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

from langgraph_serverless.domain.runs import Durability, Lease
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.persistence.checkpoint_ids import draw_after
from langgraph_serverless.persistence.checkpoint_loading import Stored, loaded, remembered
from langgraph_serverless.persistence.checkpoint_memory import CheckpointMemory
from langgraph_serverless.persistence.checkpoint_rows import CheckpointRow, Rows, WriteRow, parameters
from langgraph_serverless.persistence.checkpoints import SAVE, Saver, config_of, is_old
from langgraph_serverless.persistence.json import dump_jsonb
from langgraph_serverless.persistence.pool import Connection, is_outage
from langgraph_serverless.persistence.write_behind import WriteBehind

#: Seconds that rows wait for others to go with them.
SYNC_DELAY = 0.005
ASYNC_DELAY = 0.01
#: The same in a process that has more to do than it gets done.
ASYNC_PATIENCE = 0.1
#: As ``lgs.save_v1`` says that what was committed before is gone.
_GONE = "40001"

_Result = TypeVar("_Result")


class FencedSaver(Saver):
    """``Saver`` that writes only while ``lease`` is held."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        lease: Lease,
        serde: SerializerProtocol | None = None,
        *,
        durability: Durability = Durability.SYNC,
        careful: bool = False,
        thread_id: str | None = None,
        new_thread: str | None = None,
        on_read: Callable[[RunnableConfig, CheckpointTuple], None] | None = None,
    ) -> None:
        """
        Args:
            careful: write everything without delay, and to the disk: the run has lost a worker before.
            thread_id: the run's own; None: all are. Of others it is not the only writer, and they may be others' to see.
            new_thread: this thread has no checkpoint.
            on_read: whoever reads a checkpoint is looked at before it gets it: what it has asked with, and what was found.
        """
        super().__init__(pool, serde=serde)
        self._pool = pool
        self._lease = lease
        self._on_read = on_read
        self._thread_id = thread_id
        self._memory = CheckpointMemory(new_thread=new_thread)
        self._at_once = durability is Durability.SYNC
        relaxed = not self._at_once and not careful
        delay = 0.0 if careful else SYNC_DELAY if self._at_once else ASYNC_DELAY
        #: What is not in the database yet.
        self.unsaved = WriteBehind(
            self._save, delay=delay, patience=ASYNC_PATIENCE if relaxed else 0.0, relaxed=relaxed
        )

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint and the channel values that are new in it.

        Raises:
            LeaseLostError: if the run belongs to another worker by now.
        """
        if asyncio.get_running_loop() is not self.loop:
            return await self._there(self.aput(config, checkpoint, metadata, new_versions))
        configurable = config["configurable"]
        thread_id, namespace = configurable["thread_id"], configurable["checkpoint_ns"]
        parts = self._parts(config, checkpoint, metadata, new_versions)
        place = (thread_id, namespace, checkpoint["id"])
        row = CheckpointRow(configurable.get("checkpoint_id"), dump_jsonb(parts.document), dump_jsonb(parts.metadata))
        rows = Rows()
        for key, value in parts.blobs.items():
            rows.put_blob((thread_id, namespace, *key), value)
        rows.put_checkpoint(place, row)
        if not self._owns(thread_id):
            await self._save_at_once(rows)
            self._texts.update((thread_id, namespace, *key) for key in parts.blobs)
            return config_of(*place)
        self._memory.put(place, row, parts.blobs, parts.own)
        await self.unsaved.put(rows, now=self._at_once)
        return config_of(*place)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task has written before its superstep is complete.

        Raises:
            LeaseLostError: if the run belongs to another worker by now.
        """
        if asyncio.get_running_loop() is not self.loop:
            await self._there(self.aput_writes(config, writes, task_id, task_path))
            return
        configurable = config["configurable"]
        place = (configurable["thread_id"], configurable["checkpoint_ns"], configurable["checkpoint_id"])
        # special writes (errors, interrupts, resumes) have fixed places and replace what is there
        special = all(write[0] in WRITES_IDX_MAP for write in writes)
        rows = Rows()
        for index, (channel, value) in enumerate(writes):
            row = WriteRow(task_path, channel, self.serde.dumps_typed(value), special)
            key = (task_id, WRITES_IDX_MAP.get(channel, index))
            rows.put_write((*place, *key), row)
            if self._owns(place[0]):
                self._memory.put_write(place, key, row)
        if self._owns(place[0]):
            await self.unsaved.put(rows)
        else:
            await self._save_at_once(rows)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As ``Saver``, with what has been put and is not in the database yet."""
        if asyncio.get_running_loop() is not self.loop:
            return await self._there(self.aget_tuple(config))
        configurable = config["configurable"]
        thread_id, namespace = configurable["thread_id"], configurable.get("checkpoint_ns", "")
        known, space = self._memory.find(thread_id, namespace, get_checkpoint_id(config))
        if not self._owns(thread_id):
            found = await super().aget_tuple(config)
        elif known:
            found = await loaded(remembered(thread_id, namespace, space), self.serde) if space is not None else None
        else:
            found = await self._found(config, thread_id, namespace)
        if found is not None and self._on_read is not None:
            self._on_read(config, found)
        return found

    async def _found(self, config: RunnableConfig, thread_id: str, namespace: str) -> CheckpointTuple | None:
        if self.unsaved.concern(thread_id, namespace):
            await self.unsaved.flush()
        puts = self._memory.puts(thread_id, namespace)
        read, highest = await self._read(config)
        wanted = get_checkpoint_id(config)
        still = self._memory.puts(thread_id, namespace) == puts
        if read is None:
            if not wanted and still:
                self._memory.saw_none(thread_id, namespace)
            return None
        draw_after(highest)
        if still and not is_old(read):
            self._remember(read, highest if wanted else None)
        return await self._loaded(read)

    def _remember(self, read: Stored, highest: str | None) -> None:
        place = (read.thread_id, read.namespace, read.checkpoint_id)
        self._memory.saw(place, read.row(), read.blobs, dict(read.writes), highest=highest)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As ``Saver``, with what has been put and is not in the database yet."""
        await self._there(self.unsaved.flush())
        async for found in super().alist(config, filter=filter, before=before, limit=limit):
            yield found

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As the stock saver, with what has been put and is not in the database yet."""
        if channels:
            await self._there(self.unsaved.flush())
        return await super().aget_delta_channel_history(config=config, channels=channels)

    async def adelete_thread(self, thread_id: str) -> None:
        """As the stock saver, with what has been put and is not in the database yet."""
        await self._there(self.unsaved.flush())
        self._memory.forget(thread_id)
        await super().adelete_thread(thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As the stock saver, with what has been put and is not in the database yet."""
        await self._there(self.unsaved.flush())
        for thread_id in thread_ids:
            self._memory.forget(thread_id)
        await super().aprune(thread_ids, strategy=strategy)

    def _has_text(self, thread_id: str, namespace: str, channel: str, version: str) -> bool:
        return self._memory.has_blob(thread_id, namespace, channel, version) or super()._has_text(
            thread_id, namespace, channel, version
        )

    def _owns(self, thread_id: str) -> bool:
        return self._thread_id is None or thread_id == self._thread_id

    async def _save_at_once(self, rows: Rows) -> None:
        """What is another thread's: it is seen by others at once, and row-level security says whether it may be written at all. The end of a
        run is written by who may write everywhere."""
        given = parameters(rows, None)
        if given is not None:
            await self._save(given, False)

    async def _there(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do it on the saver's own event loop; a synchronous node may have one of its own."""
        if asyncio.get_running_loop() is self.loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        with _reachable():
            if pipeline:
                async with super()._cursor(pipeline=True) as cursor:
                    yield cursor
                return
            async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
                yield cursor

    async def _save(self, parameters: Mapping[str, Any], relaxed: bool) -> bool:
        fence = {"run_id": self._lease.run_id, "token": self._lease.token, "relaxed": relaxed}
        try:
            with _reachable():
                async with self._pool.connection() as connection:
                    row = await (await connection.execute(SAVE, {**parameters, **fence})).fetchone()
        except UnavailableError as error:
            if isinstance(error.__cause__, psycopg.Error) and error.__cause__.sqlstate == _GONE:
                return False
            raise
        if not row or not row["held"]:
            raise LeaseLostError(f"run {self._lease.run_id} was settled or taken over by another worker")
        return True


@contextmanager
def _reachable() -> Iterator[None]:
    """Tells a database that is away from a fault of the graph: the run is not to blame and is tried again."""
    try:
        yield
    except psycopg.Error as error:
        if not (is_outage(error) or isinstance(error, psycopg.OperationalError)):
            raise
        raise UnavailableError(f"A checkpoint could not be read or written: {error}") from error
