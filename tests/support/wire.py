"""What a client says to Postgres, read on its way through ``tcp_proxy.py``: which statement begins and ends at which byte.

``Wire`` follows the frontend protocol of one connection. Statements are called by the names that they have in the ``.sql`` files
beside the repositories, all others by their first words; ``COMMIT`` also by what it commits, and all of a heartbeat by that.
The connection must be in clear text (``through``), and statements must not be prepared ahead, or they would not be sent.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from langgraph_serverless import persistence
from langgraph_serverless.persistence.queries import Queries

_HEARTBEAT = b"langgraph-serverless-heartbeat"


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a piece of data."""

    name: str
    #: Where it begins (0: no later), and where the server has all that it needs to carry it out; in bytes of the piece.
    begin: int
    end: int


def through(database_uri: str, port: int) -> str:
    """The URI of a database that is reached on this port, by connections that can be read."""
    target = conninfo_to_dict(database_uri)
    return f"postgresql://{target['user']}@127.0.0.1:{port}/{target['dbname']}?sslmode=disable&gssencmode=disable"


def _placeholders(sql: str) -> str:
    return " ".join(re.sub(r"\$\d+|%\(\w+\)s", "$", sql.replace("%%", "%")).split())


def _beginnings(names: dict[str, str]) -> dict[str, str]:
    """Of each statement, what comes before its first parameter; the longest first."""
    return {sql.split("$")[0]: names[sql] for sql in sorted(names, key=lambda sql: -len(sql.split("$")[0]))}


def _names() -> dict[str, str]:
    names = {}
    for path in Path(persistence.__file__).parent.glob("*.sql"):
        queries = Queries(path)
        names |= {_placeholders(queries[name]): name for name in queries}
    return names


class Wire:
    """One connection, from its first byte on."""

    _NAMES = _names()
    _BEGINNINGS = _beginnings(_NAMES)

    def __init__(self) -> None:
        self._rest = b""
        self._started = False
        self._prefix = ""
        #: Of the statement that has begun: its name, and after how many bytes of the connection.
        self._open: tuple[str, int] | None = None
        self._passed = 0
        self._last = ""

    def read(self, data: bytes) -> Iterator[Statement]:
        """The statements that are complete with this piece of data; those that began in an earlier one begin before it."""
        whole, at = self._rest + data, 0
        first = self._passed - len(self._rest)  # of ``whole``, in bytes of the connection
        found = []
        while (size := self._message(whole, at)) is not None:
            kind, body = whole[at : at + 1], whole[at + 5 : at + size]
            if not self._started:
                self._started = True
                self._prefix = "heartbeat " if _HEARTBEAT in whole[:size] else ""
            elif kind == b"P":
                self._open = (self._name(body.split(b"\0")[1]), first + at)
            elif kind == b"E" and self._open is not None:
                end = at + size
                if whole[end : end + 1] == b"S":  # what makes the server commit, outside of a transaction
                    end += 5
                found.append((*self._open, first + end))
                self._open = None
            elif kind == b"Q":
                found.append((self._name(body[:-1]), first + at, first + at + size))
            at += size
        self._rest = whole[at:]
        for name, begin, end in found:
            yield Statement(name, max(0, begin - self._passed), end - self._passed)
        self._passed += len(data)

    def _message(self, whole: bytes, at: int) -> int | None:
        """The length of the message there, if all of it has come."""
        head = 1 if self._started else 0
        if len(whole) < at + head + 4:
            return None
        size = head + int(struct.unpack("!I", whole[at + head : at + head + 4])[0])
        return size if len(whole) >= at + size else None

    def _name(self, sql: bytes) -> str:
        text = sql.decode()
        # several statements in one message are named by the last one, and have their parameters in them
        last = " ".join(text.split("\n;\n")[-1].split())
        name = self._NAMES.get(_placeholders(text)) or (
            next(name for begin, name in self._BEGINNINGS.items() if last.startswith(begin))
            if "\n;\n" in text
            else " ".join(text.split()[:3])
        )
        if name == "COMMIT":
            name = f"COMMIT of {self._last}"
        self._last = name
        return self._prefix + name
