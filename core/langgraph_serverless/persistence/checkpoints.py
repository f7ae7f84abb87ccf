"""The checkpoint savers: LangGraph's, and for a running run the same with the fence in its writes.

Same tables and, but for backslashes, same reading as ``AsyncPostgresSaver``, so the stock saver can read what this one
writes. The fenced one's writing differs in two ways. Each write is one statement that first looks for the run with this lease's token and locks that row (``FOR
SHARE``) until the write has committed: once another worker holds the run nothing is written and ``LeaseLostError`` is
raised. And the rows remember the token, so that a rollback finds exactly what its run has written.

One saver per run: the stock class holds a lock around each query, which runs must not share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from psycopg import AsyncCursor
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import LeaseLostError, UnavailableError
from langgraph_serverless.persistence.checkpoint_ids import draw_after
from langgraph_serverless.persistence.pool import Connection, is_outage
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import CheckpointDocument, blob, document

_SQL = load_queries(__file__)
NEWEST_CHECKPOINT = _SQL["newest_checkpoint"]
PUT_CHECKPOINT = _SQL["put_checkpoint"]
PUT_WRITES = _SQL["put_writes"]
REPLACE_WRITES = _SQL["replace_writes"]


class Saver(AsyncPostgresSaver):
    """``AsyncPostgresSaver`` that can read back every channel name, and whose process writes in the order of time.

    The stock query casts names to ``bytea``, and a cast reads backslashes as escapes. Names come from clients
    (``Command(goto="\\\\")`` writes to ``branch:to:\\\\``), and one such write would make its thread unreadable for good.
    """

    SELECT_SQL = AsyncPostgresSaver.SELECT_SQL.replace("bl.channel::bytea", "convert_to(bl.channel, 'UTF8')").replace(
        "cw.channel::bytea", "convert_to(cw.channel, 'UTF8')"
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # transactions instead: see Database.transaction
        self.supports_pipeline = False

    def _dump_blobs(self, *arguments: Any) -> list[Any]:
        return [(*row[:5], _blob(row[5])) for row in super()._dump_blobs(*arguments)]

    def _dump_writes(self, *arguments: Any) -> list[Any]:
        return [(*row[:8], _blob(row[8])) for row in super()._dump_writes(*arguments)]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As the stock saver; what it keeps in documents goes through ``sealing`` too."""
        thread_id, namespace, parent_id, row, document, about = self._parts(config, checkpoint, metadata, new_versions)
        async with self._cursor(pipeline=True) as cursor:
            if row:
                await cursor.executemany(self.UPSERT_CHECKPOINT_BLOBS_SQL, row)
            await cursor.execute(
                self.UPSERT_CHECKPOINTS_SQL, (thread_id, namespace, checkpoint["id"], parent_id, document, about)
            )
        return _config_of(thread_id, namespace, checkpoint)

    def _parts(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> tuple[str, str, str | None, list[Any], Jsonb, Jsonb]:
        """Thread, namespace, parent, rows of blobs, and the two documents of a checkpoint."""
        configurable = config["configurable"]
        thread_id, namespace = configurable["thread_id"], configurable["checkpoint_ns"]
        inline, blobs = _split_values(checkpoint["channel_values"])
        changed = {channel: version for channel, version in new_versions.items() if channel in blobs}
        return (
            thread_id,
            namespace,
            configurable.get("checkpoint_id"),
            self._dump_blobs(thread_id, namespace, blobs, changed) if changed else [],
            CheckpointDocument("checkpoint", "checkpoint", {**checkpoint, "channel_values": inline}),
            document("checkpoint", "metadata", get_serializable_checkpoint_metadata(config, metadata)),
        )

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The newest checkpoint, or the one that the config names; what this process writes then sorts after all there are."""
        found = await super().aget_tuple(config)
        if found is not None:
            newest = found.config["configurable"]["checkpoint_id"]
            if get_checkpoint_id(config):
                async with self._cursor() as cursor:
                    await cursor.execute(NEWEST_CHECKPOINT, {"thread_id": config["configurable"]["thread_id"]})
                    row = await cursor.fetchone()
                newest = max(newest, row["checkpoint_id"]) if row is not None else newest
            draw_after(newest)
        return found


class FencedSaver(Saver):
    """``Saver`` that writes only while ``lease`` is held."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Connection],
        lease: Lease,
        serde: SerializerProtocol | None = None,
        *,
        on_read: Callable[[RunnableConfig, CheckpointTuple], None] | None = None,
    ) -> None:
        """With ``on_read``, whoever reads a checkpoint is looked at before it gets it: what it has asked with, and what was found."""
        super().__init__(pool, serde=serde)
        self._pool = pool
        self._lease = lease
        self._on_read = on_read

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        if found is not None and self._on_read is not None:
            self._on_read(config, found)
        return found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Save a checkpoint and the channel values that are new in it, in one statement.

        Raises:
            LeaseLostError: if the run belongs to another worker by now.
        """
        thread_id, namespace, parent_id, rows, document, about = self._parts(config, checkpoint, metadata, new_versions)
        await self._write(
            PUT_CHECKPOINT,
            {
                "thread_id": thread_id,
                "namespace": namespace,
                "checkpoint_id": checkpoint["id"],
                "parent_id": parent_id,
                "checkpoint": document,
                "metadata": about,
                "channels": [row[2] for row in rows],
                "versions": [row[3] for row in rows],
                "types": [row[4] for row in rows],
                "blobs": [row[5] for row in rows],
            },
        )
        return _config_of(thread_id, namespace, checkpoint)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Save what a task has written before its superstep is complete.

        Raises:
            LeaseLostError: if the run belongs to another worker by now.
        """
        configurable = config["configurable"]
        rows = self._dump_writes(
            configurable["thread_id"],
            configurable["checkpoint_ns"],
            configurable["checkpoint_id"],
            task_id,
            task_path,
            writes,
        )
        # special writes (errors, interrupts, resumes) have fixed places and replace what is there
        special = all(write[0] in WRITES_IDX_MAP for write in writes)
        await self._write(
            REPLACE_WRITES if special else PUT_WRITES,
            {
                "thread_id": configurable["thread_id"],
                "namespace": configurable["checkpoint_ns"],
                "checkpoint_id": configurable["checkpoint_id"],
                "task_id": task_id,
                "task_path": task_path,
                "indexes": [row[5] for row in rows],
                "channels": [row[6] for row in rows],
                "types": [row[7] for row in rows],
                "blobs": [row[8] for row in rows],
            },
        )

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        async with self._reachable(), super()._cursor(pipeline=pipeline) as cursor:
            yield cursor

    @asynccontextmanager
    async def _reachable(self) -> AsyncIterator[None]:
        """Tells a database that is away from a fault of the graph: the run is not to blame and is tried again."""
        try:
            yield
        except psycopg.Error as error:
            if not (is_outage(error) or isinstance(error, psycopg.OperationalError)):
                raise
            raise UnavailableError(f"A checkpoint could not be read or written: {error}") from error

    async def _write(self, statement: Any, parameters: dict[str, Any]) -> None:
        fence = {"run_id": self._lease.run_id, "token": self._lease.token}
        async with self._reachable(), self._pool.connection() as connection:
            cursor = await connection.execute(statement, {**parameters, **fence})
            row = await cursor.fetchone()
        if not row or not row["held"]:
            raise LeaseLostError(f"run {self._lease.run_id} was settled or taken over by another worker")


def _blob(value: bytes | None) -> bytes | None:
    return None if value is None else blob("checkpoint", "blob", value)


def _config_of(thread_id: str, namespace: str, checkpoint: Checkpoint) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint["id"]}}


def _split_values(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Primitive values stay in the checkpoint's document, all others become blobs, as in the stock saver."""
    inline: dict[str, Any] = {}
    blobs: dict[str, Any] = {}
    for channel, value in values.items():
        if isinstance(value, _DeltaSnapshot):
            blobs[channel] = value
            inline[channel] = True
        elif value is None or isinstance(value, str | int | float | bool):
            inline[channel] = value
        else:
            blobs[channel] = value
    return inline, blobs
