"""Rows of LangGraph's checkpoint tables, serialised and not yet written, and what becomes of them if they are written together.

``Rows`` keeps what is put into it as the tables would: a channel's value and a task's writes stay as they were put first, unless
the writes replace what is there, and of a checkpoint that is put twice the last one counts. So many puts become one statement
(``lgs.save_v1``), and rows that could not be written can be put before those that came after them. Writing rows twice does no harm.

Everything in it is bytes and text: nobody can change afterwards what he has given to be saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langgraph_serverless.persistence.sealing import CheckpointRows, blob

#: Thread, namespace, channel and version.
BlobKey = tuple[str, str, str, str]
#: Thread, namespace and id.
CheckpointKey = tuple[str, str, str]
#: Thread, namespace, checkpoint, task and index.
WriteKey = tuple[str, str, str, str, int]
#: Serialised by LangGraph's serializer: the kind of the bytes, and the bytes.
Typed = tuple[str, bytes]


class CheckpointRow(NamedTuple):
    parent: str | None
    #: JSON, with the values of channels that are in no blob
    document: bytes
    metadata: bytes


class WriteRow(NamedTuple):
    path: str
    channel: str
    value: Typed
    #: Takes the place of what is there.
    replaces: bool


class Rows:
    """What is to be written in one statement."""

    __slots__ = ("_surety", "_witness", "blobs", "checkpoints", "size", "writes")

    def __init__(self) -> None:
        self.blobs: dict[BlobKey, Typed] = {}
        self.checkpoints: dict[CheckpointKey, CheckpointRow] = {}
        self.writes: dict[WriteKey, WriteRow] = {}
        #: About as many bytes.
        self.size = 0
        #: Says that they are there, and how surely: what replaces a row may have found it there.
        self._witness: CheckpointKey | WriteKey | None = None
        self._surety = 0

    def __bool__(self) -> bool:
        return bool(self.checkpoints or self.writes or self.blobs)

    def put_blob(self, key: BlobKey, value: Typed) -> None:
        if key not in self.blobs:
            self.blobs[key] = value
            self.size += len(value[1])

    def put_checkpoint(self, key: CheckpointKey, row: CheckpointRow) -> None:
        before = self.checkpoints.get(key)
        self.checkpoints[key] = row if before is None else row._replace(parent=before.parent)
        self.size += len(row.document) + len(row.metadata)
        if before is None:
            self._testify(key, 2)

    def put_write(self, key: WriteKey, row: WriteRow) -> None:
        if row.replaces or key not in self.writes:
            self.writes[key] = row
            self.size += len(row.value[1])
            self._testify(key, 0 if row.replaces else 1)

    def add(self, later: Rows) -> None:
        """Put everything that was put into the other."""
        for blob_key, value in later.blobs.items():
            self.put_blob(blob_key, value)
        for checkpoint_key, checkpoint in later.checkpoints.items():
            self.put_checkpoint(checkpoint_key, checkpoint)
        for write_key, write in later.writes.items():
            self.put_write(write_key, write)

    def then(self, later: Rows) -> Rows:
        """These, and what was put after them."""
        both = Rows()
        both.add(self)
        both.add(later)
        if later._witness is not None:  # of the last statement
            both._witness, both._surety = later._witness, later._surety
        return both

    def concern(self, thread_id: str, namespace: str | None) -> bool:
        """Whether a checkpoint or a write of this namespace is among them; of any, if none is given."""
        return any(
            key[0] == thread_id and (namespace is None or key[1] == namespace)
            for keys in (self.checkpoints, self.writes)
            for key in keys
        )

    @property
    def witness(self) -> Sequence[str | int] | None:
        """The key of one of them: while that row is there, all of them are, and all that were written before."""
        return self._witness

    def _testify(self, key: CheckpointKey | WriteKey, surety: int) -> None:
        if self._witness is None or surety >= self._surety:
            self._witness, self._surety = key, surety


def parameters(rows: Rows, after: Sequence[str | int] | None) -> Mapping[str, Any] | None:
    """What ``lgs.save_v1`` is given, but for the fence; None if there is nothing to save and nothing to look for.

    Args:
        after: the ``witness`` of rows that may not be on disk yet: if it is gone, nothing must be written without them.
    """
    if not rows and after is None:
        return None
    document: dict[str, Any] = {}
    if after is not None:
        document["after"] = after
    if rows.blobs:
        document["blobs"] = [(*key, kind) for key, (kind, _) in rows.blobs.items()]
    if rows.writes:
        # of the same form as in the table, so that the database need not build it
        document["writes"] = [
            (*key[:4], row.path, key[4], row.channel, row.value[0], row.replaces) for key, row in rows.writes.items()
        ]
    if rows.checkpoints:
        document["checkpoints"] = [
            (*key, row.parent, row.document, row.metadata) for key, row in rows.checkpoints.items()
        ]
    return {
        "save_rows": CheckpointRows(document),
        "save_blobs": [blob("checkpoint", "blob", value) for _, value in rows.blobs.values()],
        "save_writes": [blob("checkpoint", "blob", row.value[1]) for row in rows.writes.values()],
    }
