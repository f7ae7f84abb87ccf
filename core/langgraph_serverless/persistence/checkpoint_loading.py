"""From rows of LangGraph's checkpoint tables to its tuples: how ``checkpoints.py`` reads.

Rows are those of ``checkpoints.sql``. Values are read where the caller is, and only large ones in a thread: going to a
thread and back takes longer than most values do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from langgraph.checkpoint.base import CheckpointTuple, writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg.rows import DictRow

from langgraph_serverless.persistence.checkpoint_memory import ChannelVersion, Space
from langgraph_serverless.persistence.checkpoint_rows import CheckpointRow, Typed, WriteRow

#: Bytes of values that are read in a thread.
LARGE = 256 << 10
#: The kind of a channel without a value.
_EMPTY = "empty"


class Stored(NamedTuple):
    """A checkpoint as it is stored; its documents are the reader's own."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    blobs: Mapping[ChannelVersion, Typed]
    writes: Mapping[tuple[str, int], WriteRow]

    @property
    def size(self) -> int:
        return sum(len(value) for _, value in self.blobs.values()) + sum(
            len(write.value[1]) for write in self.writes.values()
        )

    def row(self) -> CheckpointRow:
        return CheckpointRow(self.parent, orjson.dumps(self.checkpoint), orjson.dumps(self.metadata))


def stored(row: DictRow, blobs: Mapping[ChannelVersion, Typed] | None = None) -> Stored:
    """What a row says; of a list, which has its values apart, with these."""
    checkpoint = row["checkpoint"]
    versions: Mapping[str, Any] = checkpoint["channel_versions"]
    if blobs is None:
        read = ((_text(channel), _text(kind), value) for channel, kind, value in row["channel_values"] or ())
        own = {(channel, str(versions[channel])): (kind, value) for channel, kind, value in read}
    else:
        keys = ((channel, str(version)) for channel, version in versions.items())
        own = {key: blobs[key] for key in keys if key in blobs}
    return Stored(
        row["thread_id"],
        row["checkpoint_ns"],
        row["checkpoint_id"],
        row["parent_checkpoint_id"],
        checkpoint,
        row["metadata"],
        {key: value for key, value in own.items() if value[0] != _EMPTY},
        {
            (_text(task), int(index)): WriteRow(_text(path), _text(channel), (_text(kind), value), False)
            for task, channel, kind, value, path, index in row["pending_writes"] or ()
        },
    )


def remembered(thread_id: str, namespace: str, space: Space) -> Stored:
    """What a saver remembers."""
    assert space.row is not None
    return Stored(
        thread_id,
        namespace,
        space.checkpoint_id,
        space.row.parent,
        orjson.loads(space.row.document),
        orjson.loads(space.row.metadata),
        {key: space.blobs[key] for key in space.own},
        space.writes.get(space.checkpoint_id, {}),
    )


async def loaded(found: Stored, serde: SerializerProtocol) -> CheckpointTuple:
    """The same as LangGraph has it."""
    if found.size > LARGE:
        return await asyncio.to_thread(load, found, serde)
    return load(found, serde)


def load(found: Stored, serde: SerializerProtocol) -> CheckpointTuple:
    values = dict(found.checkpoint.get("channel_values") or {})
    for (channel, _), value in found.blobs.items():
        values[channel] = serde.loads_typed(value)
    return CheckpointTuple(
        _config(found.thread_id, found.namespace, found.checkpoint_id),
        {**found.checkpoint, "channel_values": values},  # type: ignore[typeddict-item]
        found.metadata,  # type: ignore[arg-type]
        _config(found.thread_id, found.namespace, found.parent) if found.parent else None,
        [
            (task, write.channel, serde.loads_typed(write.value))
            for (task, _), write in sorted(
                found.writes.items(), key=lambda item: writes_sort_key(item[1].path, *item[0])
            )
        ],
    )


def values_by_namespace(rows: Sequence[DictRow]) -> dict[str, dict[ChannelVersion, Typed]]:
    """The values that a list has with its first row."""
    found: dict[str, dict[ChannelVersion, Typed]] = {}
    for namespace, channel, version, kind, value in (rows[0]["all_values"] or ()) if rows else ():
        found.setdefault(_text(namespace), {})[_text(channel), _text(version)] = (_text(kind), value)
    return found


def _config(thread_id: str, namespace: str, checkpoint_id: str) -> Any:
    return {
        "configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id},
    }


def _text(value: Any) -> str:
    return bytes(value).decode()
