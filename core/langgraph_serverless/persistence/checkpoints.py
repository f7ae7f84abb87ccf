"""LangGraph's checkpoint saver as we read and write: ``Saver``. A running run's is ``FencedSaver`` (``fenced_saver.py``).

Same tables as ``AsyncPostgresSaver``, and the same rows but for one thing: texts that are long are kept as values of their own, like
whatever is no primitive, so that they are not written again with each checkpoint. So either can read what the other has written.

One saver per run or request: the stock class holds a lock around each query, which they must not share.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from psycopg.types.json import Jsonb

from langgraph_serverless.persistence.checkpoint_ids import draw_after
from langgraph_serverless.persistence.checkpoint_loading import Stored, loaded, stored, values_by_namespace
from langgraph_serverless.persistence.checkpoint_memory import ChannelVersion
from langgraph_serverless.persistence.checkpoint_rows import Typed
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import CheckpointDocument, blob, document

_SQL = load_queries(__file__)
NEWEST_CHECKPOINT = _SQL["newest_checkpoint"]
NAMED_CHECKPOINT = _SQL["named_checkpoint"]
LIST_CHECKPOINTS = _SQL["list_checkpoints"]
SAVE = _SQL["save"]

#: Characters of a text that stays in its checkpoint's document.
SHORT = 1024
#: The last form of checkpoints that keep in their parents what was sent with ``Send``; the stock saver knows how to read them.
_OLD_FORM = 3


class Parts(NamedTuple):
    """What of a checkpoint goes where."""

    #: with the values of channels that are in no row of their own
    document: dict[str, Any]
    metadata: CheckpointMetadata
    #: new values with rows of their own
    blobs: dict[ChannelVersion, Typed]
    #: all values with rows of their own
    own: list[ChannelVersion]


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
        #: Long texts that have rows of their own, as far as this saver has seen.
        self._texts: set[tuple[str, str, str, str]] = set()

    def _dump_writes(self, *arguments: Any) -> list[Any]:
        return [(*row[:8], blob("checkpoint", "blob", row[8])) for row in super()._dump_writes(*arguments)]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As the stock saver; what it keeps in documents goes through ``sealing`` too."""
        configurable = config["configurable"]
        thread_id, namespace = configurable["thread_id"], configurable["checkpoint_ns"]
        parts = self._parts(config, checkpoint, metadata, new_versions)
        rows = [
            (thread_id, namespace, *key, kind, blob("checkpoint", "blob", value))
            for key, (kind, value) in parts.blobs.items()
        ]
        async with self._cursor(pipeline=True) as cursor:
            if rows:
                await cursor.executemany(self.UPSERT_CHECKPOINT_BLOBS_SQL, rows)
            await cursor.execute(
                self.UPSERT_CHECKPOINTS_SQL,
                (
                    thread_id,
                    namespace,
                    checkpoint["id"],
                    configurable.get("checkpoint_id"),
                    CheckpointDocument("checkpoint", "checkpoint", parts.document),
                    document("checkpoint", "metadata", parts.metadata),
                ),
            )
        self._texts.update((thread_id, namespace, *key) for key in parts.blobs)
        return config_of(thread_id, namespace, checkpoint["id"])

    def _parts(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Parts:
        """Primitive values stay in the checkpoint's document, all others have rows of their own, as in the stock saver; so have long texts."""
        configurable = config["configurable"]
        place = configurable["thread_id"], configurable["checkpoint_ns"]
        versions = checkpoint["channel_versions"]
        inline: dict[str, Any] = {}
        blobs: dict[ChannelVersion, Typed] = {}
        own: list[ChannelVersion] = []
        for channel, value in checkpoint["channel_values"].items():
            new = channel in new_versions
            key = (channel, str(new_versions[channel] if new else versions.get(channel)))
            if value is None or isinstance(value, int | float | str):
                if not (isinstance(value, str) and len(value) > SHORT and (new or self._has_text(*place, *key))):
                    inline[channel] = value
                    continue
            elif isinstance(value, _DeltaSnapshot):
                inline[channel] = True
            own.append(key)
            if new:
                blobs[key] = self.serde.dumps_typed(value)
        return Parts(
            {**checkpoint, "channel_values": inline},
            get_serializable_checkpoint_metadata(config, metadata),
            blobs,
            own,
        )

    def _has_text(self, thread_id: str, namespace: str, channel: str, version: str) -> bool:
        return (thread_id, namespace, channel, version) in self._texts

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The newest checkpoint, or the one that the config names; what this process writes then sorts after all there are."""
        found, highest = await self._read(config)
        if found is None:
            return None
        draw_after(highest)
        read = await self._loaded(found)
        self._texts.update(
            (found.thread_id, found.namespace, *key)
            for key in found.blobs
            if isinstance(read.checkpoint["channel_values"][key[0]], str)
        )
        return read

    async def _loaded(self, found: Stored) -> CheckpointTuple:
        if is_old(found):
            exact: RunnableConfig = config_of(found.thread_id, found.namespace, found.checkpoint_id)
            return await super().aget_tuple(exact) or await loaded(found, self.serde)
        return await loaded(found, self.serde)

    async def _read(self, config: RunnableConfig) -> tuple[Stored | None, str]:
        """What the database has, and the highest id of the namespace, or of the thread if the config names a checkpoint."""
        configurable = config["configurable"]
        wanted = {
            "thread_id": configurable["thread_id"],
            "namespace": configurable.get("checkpoint_ns", ""),
            "checkpoint_id": get_checkpoint_id(config),
        }
        async with self._cursor() as cursor:
            await cursor.execute(
                NAMED_CHECKPOINT if wanted["checkpoint_id"] else NEWEST_CHECKPOINT, wanted, binary=True
            )
            row = await cursor.fetchone()
        if row is None:
            return None, ""
        return stored(row), row.get("highest") or row["checkpoint_id"]

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As the stock saver, but that each value is read once for all checkpoints that have it."""
        if config is None:
            async for found in super().alist(config, filter=filter, before=before, limit=limit):
                yield found
            return
        configurable = config["configurable"]
        wanted = {
            "thread_id": configurable["thread_id"],
            "namespace": configurable.get("checkpoint_ns"),
            "checkpoint_id": get_checkpoint_id(config),
            "filter": Jsonb(filter) if filter else None,
            "before": get_checkpoint_id(before) if before is not None else None,
            "limit": limit,
        }
        async with self._cursor() as cursor:
            await cursor.execute(LIST_CHECKPOINTS, wanted, binary=True)
            rows = await cursor.fetchall()
        values = values_by_namespace(rows)
        for row in rows:
            yield await self._loaded(stored(row, values.get(row["checkpoint_ns"], {})))


def is_old(found: Stored) -> bool:
    """Whether a part of it is with its parent."""
    return bool(found.parent) and found.checkpoint["v"] <= _OLD_FORM


def config_of(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}}
