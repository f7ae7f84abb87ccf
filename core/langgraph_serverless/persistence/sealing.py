"""Encryption at the one place that everything passes on its way to the database and back: the cursor.

A repository says what is the user's data when it binds it (``document``, ``blob``, ``text``); a cursor of a database with a cipher encrypts
such parameters before it sends a statement, and decrypts what it fetches. So repositories, services and LangGraph's own saver see plain
data only, and nothing can be read past it. Without a cipher there is no such cursor, and what is bound so is bound as it is.

Reading goes by what is there and where: documents in the columns of ``_DOCUMENTS`` (they are also what statements call them), blobs by how
they begin. A client cannot smuggle in anything that looks encrypted; see ``domain/encryption.py``.

Handlers run while the connection is held, in a transaction where the statement is in one: they are to keep their data keys at hand.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

import orjson
import psycopg
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from langgraph_serverless.domain.encryption import MAGIC, UNREADABLE, VALUE
from langgraph_serverless.domain.ports import Cipher
from langgraph_serverless.errors import EncryptionError
from langgraph_serverless.persistence.json import jsonb, storable

#: Columns, also by the names that statements give them, that hold the user's documents.
_DOCUMENTS = frozenset(
    {
        *("metadata", "config", "context", "kwargs", "payload", "value"),
        *("channel_values", "values", "thread_values", "output", "interrupts", "thread_interrupts"),
        *("error", "thread_error", "thread_metadata", "assistant_metadata"),
    }
)
#: Lists of objects, each of which holds what was taken out of a document.
_EXCERPTS = frozenset({"live"})
#: Text of an object whose values are documents.
_LETTERS = frozenset({"body"})
#: Texts that are encrypted themselves.
_TEXTS = frozenset({"last_error"})
#: Rows whose documents are given to handlers at once.
ROWS_AT_ONCE = 16
#: Where a checkpoint's own document keeps the values of channels that are in no blob.
INLINE = "__encrypted_values__"


class Document(Jsonb):
    """A JSON parameter that is encrypted where there is a cipher."""

    def __init__(self, model: str, field: str, value: Any) -> None:
        plain = jsonb(value)
        super().__init__(plain.obj, plain.dumps)
        self.model, self.field = model, field

    async def sealed(self, cipher: Cipher) -> Jsonb:
        return jsonb(await cipher.seal_document(self.model, self.field, storable(self.obj)))


class CheckpointDocument(Document):
    """A checkpoint's own document; of it, only the values of channels are the user's. None and True stay: they say where others are."""

    async def sealed(self, cipher: Cipher) -> Jsonb:
        if not cipher.blobs:
            return self
        values: dict[str, Any] = self.obj["channel_values"]
        marks = {channel: value for channel, value in values.items() if value is None or value is True}
        plain = {channel: value for channel, value in values.items() if channel not in marks}
        if not plain:
            return self
        # of any length, and with NULs and whatever else jsonb does not take
        blob = await cipher.seal_blob(self.model, self.field, orjson.dumps(storable(plain)))
        return jsonb({**self.obj, "channel_values": {**marks, INLINE: base64.b64encode(blob).decode()}})


class CheckpointRows(Document):
    """Rows as ``lgs.save_v1`` takes them: of each checkpoint the last two parts are JSON text already, its own document and its metadata."""

    def __init__(self, rows: dict[str, Any]) -> None:
        checkpoints = [
            (*row[:4], orjson.Fragment(row[4]), orjson.Fragment(row[5])) for row in rows.get("checkpoints", ())
        ]
        super().__init__("checkpoint", "rows", {**rows, "checkpoints": checkpoints} if checkpoints else rows)
        self._rows = rows

    async def sealed(self, cipher: Cipher) -> Jsonb:
        if "checkpoints" not in self._rows:
            return self
        sealed = await asyncio.gather(*(self._sealed_row(cipher, row) for row in self._rows["checkpoints"]))
        return jsonb({**self._rows, "checkpoints": sealed})

    @staticmethod
    async def _sealed_row(cipher: Cipher, row: Sequence[Any]) -> Sequence[Any]:
        checkpoint = CheckpointDocument("checkpoint", "checkpoint", orjson.loads(row[4]))
        metadata = Document("checkpoint", "metadata", orjson.loads(row[5]))
        return (*row[:4], (await checkpoint.sealed(cipher)).obj, (await metadata.sealed(cipher)).obj)


class Blob(bytes):
    """Bytes that are encrypted where there is a cipher."""

    model: str
    field: str


class Text(str):
    """Text that is encrypted where there is a cipher."""

    model: str
    field: str


def document(model: str, field: str, value: Any) -> Jsonb:
    """Bind the user's JSON; ``model`` and ``field`` are what handlers are told."""
    return Document(model, field, value)


def blob(model: str, field: str, value: bytes) -> bytes:
    """Bind the user's bytes."""
    marked = Blob(value)
    marked.model, marked.field = model, field
    return marked


def text(model: str, field: str, value: str | None) -> str | None:
    """Bind the user's text, of a column that ``_TEXTS`` names."""
    if value is None:
        return None
    marked = Text(value)
    marked.model, marked.field = model, field
    return marked


async def seal(cipher: Cipher, parameters: Any) -> Any:
    """The parameters of a statement as they are sent."""
    if isinstance(parameters, Mapping):
        values = await asyncio.gather(*(_seal(cipher, value) for value in parameters.values()))
        return dict(zip(parameters, values, strict=True))
    if isinstance(parameters, Sequence) and not isinstance(parameters, str | bytes):
        return await asyncio.gather(*(_seal(cipher, value) for value in parameters))
    return parameters


async def _seal(cipher: Cipher, value: Any) -> Any:
    match value:
        case Document():
            return await value.sealed(cipher)
        case Blob():
            return await cipher.seal_blob(value.model, value.field, bytes(value))
        case Text():
            sealed = await cipher.seal_document(value.model, value.field, str(value))
            return str(value) if sealed == value else orjson.dumps(sealed).decode()
        case list() if any(isinstance(item, Document | Blob) for item in value):
            return list(await asyncio.gather(*(_seal(cipher, item) for item in value)))
    return value


async def open_row(cipher: Cipher, row: Any) -> Any:
    """The row as it was before it was encrypted.

    Raises:
        EncryptionError: something in it cannot be decrypted.
    """
    if not isinstance(row, dict):
        return row  # of somebody who wants no names; what is encrypted stays so
    values = await asyncio.gather(*(_open(cipher, name, value) for name, value in row.items()))
    return dict(zip(row, values, strict=True))


async def _open(cipher: Cipher, column: str, value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return await _open_blob(cipher, value)
    if isinstance(value, list) and any(isinstance(item, list | bytes | memoryview) for item in value):
        # the saver reads the values of a checkpoint's channels as one array of rows
        value = [
            await _open(cipher, "", item) if isinstance(item, list | bytes | memoryview) else item for item in value
        ]
    if column in _DOCUMENTS:
        return await cipher.open_document(value)
    if column == "checkpoint" and isinstance(value, dict):
        return await _open_checkpoint(cipher, value)
    if column in _EXCERPTS:
        return [await cipher.open_document(item) for item in value]
    if column in _LETTERS and VALUE in value:
        letter = orjson.loads(value)
        return orjson.dumps({key: await cipher.open_document(part) for key, part in letter.items()}).decode()
    if column in _TEXTS and value.startswith("{") and VALUE in value:
        return await cipher.open_document(orjson.loads(value))
    return value


async def _open_blob(cipher: Cipher, value: bytes | bytearray | memoryview) -> Any:
    data = bytes(value)
    return await cipher.open_blob(data) if data.startswith(MAGIC) else value


async def _open_checkpoint(cipher: Cipher, checkpoint: dict[str, Any]) -> dict[str, Any]:
    values = checkpoint.get("channel_values")
    if not isinstance(values, dict) or not isinstance(hidden := values.get(INLINE), str):
        return checkpoint
    marks = {channel: value for channel, value in values.items() if channel != INLINE}
    plain = orjson.loads(await cipher.open_blob(base64.b64decode(hidden)))
    return {**checkpoint, "channel_values": {**marks, **plain}}


async def renew_checkpoint(cipher: Any, checkpoint: dict[str, Any], *, everything: bool) -> dict[str, Any]:
    """A checkpoint's own document as it should be stored now."""
    values = checkpoint.get("channel_values")
    if not cipher.blobs or not isinstance(values, dict):
        return checkpoint
    if not isinstance(hidden := values.get(INLINE), str):
        sealed = await CheckpointDocument("checkpoint", "checkpoint", checkpoint).sealed(cipher)
        return cast("dict[str, Any]", sealed.obj)
    before = base64.b64decode(hidden)
    after = await cipher.renew_blob("checkpoint", "checkpoint", before, everything=everything)
    return {**checkpoint, "channel_values": {**values, INLINE: base64.b64encode(after).decode()}}


class _Sealing:
    """What both kinds of cursor do; ``cipher`` is set by ``sealing_cursor``."""

    cipher: Cipher

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        sealed = await seal(self.cipher, params) if params is not None else None
        return await super().execute(query, sealed, **options)  # type: ignore[misc]

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        sealed = [await seal(self.cipher, params) for params in params_seq]
        await super().executemany(query, sealed, **options)  # type: ignore[misc]

    async def fetchone(self) -> Any:
        row = await super().fetchone()  # type: ignore[misc]
        return row if row is None else await open_row(self.cipher, row)

    async def fetchmany(self, size: int = 0) -> list[Any]:
        return await _some_at_once(open_row, self.cipher, await super().fetchmany(size))  # type: ignore[misc]

    async def fetchall(self) -> list[Any]:
        return await _some_at_once(open_row, self.cipher, await super().fetchall())  # type: ignore[misc]

    async def __anext__(self) -> Any:
        return await open_row(self.cipher, await super().__anext__())  # type: ignore[misc]

    async def fetch_each(self) -> list[Any]:
        """``fetchall`` for rows that do not stand for each other: a row that cannot be decrypted comes as the error with the row."""
        return await _some_at_once(_open_or_fail, self.cipher, await super().fetchall())  # type: ignore[misc]


async def _some_at_once(
    open_one: Callable[[Cipher, DictRow], Awaitable[DictRow]], cipher: Cipher, rows: Sequence[DictRow]
) -> list[DictRow]:
    """A page may have a thousand rows, and a service that knows the keys may not like to be asked for all of them at once."""
    found: list[DictRow] = []
    for first in range(0, len(rows), ROWS_AT_ONCE):
        found += await asyncio.gather(*(open_one(cipher, row) for row in rows[first : first + ROWS_AT_ONCE]))
    return found


async def _open_or_fail(cipher: Cipher, row: DictRow) -> DictRow:
    try:
        opened: DictRow = await open_row(cipher, row)
    except EncryptionError as error:
        return {**row, UNREADABLE: str(error)}
    return opened


async def fetch_readable(cursor: psycopg.AsyncCursor[DictRow]) -> list[DictRow]:
    """All rows; one that cannot be decrypted keeps the others from nobody and says so itself: it has ``UNREADABLE``, and its documents as they are
    stored."""
    return await cursor.fetch_each() if isinstance(cursor, _Sealing) else await cursor.fetchall()


def sealing_cursor(cipher: Cipher) -> type[psycopg.AsyncCursor[DictRow]]:
    """The cursor of connections whose data is encrypted."""
    one = type("SealingCursor", (_Sealing, psycopg.AsyncCursor), {"cipher": cipher})
    return cast("type[psycopg.AsyncCursor[DictRow]]", one)


def client_cursor(connection: psycopg.AsyncConnection[DictRow]) -> psycopg.AsyncClientCursor[DictRow]:
    """A cursor that sends several statements at once, on a connection that may have a cipher."""
    factory: Any = connection.cursor_factory
    if not issubclass(factory, _Sealing):
        return psycopg.AsyncClientCursor(connection)
    made: Any = type("SealingClientCursor", (_Sealing, psycopg.AsyncClientCursor), {"cipher": factory.cipher})
    return cast("psycopg.AsyncClientCursor[DictRow]", made(connection))


def is_sealed(connection: psycopg.AsyncConnection[DictRow]) -> bool:
    """Whether documents are encrypted on this connection, so that statements cannot look into them."""
    factory: Any = connection.cursor_factory
    return issubclass(factory, _Sealing) and factory.cipher.documents
