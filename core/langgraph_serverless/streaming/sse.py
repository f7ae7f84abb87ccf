"""Server-sent events, byte for byte as clients of a LangGraph server know them.

Lines end in CRLF; the order is event, data, id; there is one data line, as an event's data is compact JSON and JSON text
holds no raw line breaks. Nothing is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from langgraph_serverless.domain.events import Event

#: A comment, which clients skip.
HEARTBEAT = b": heartbeat\r\n\r\n"

MEDIA_TYPE = "text/event-stream; charset=utf-8"


def heartbeat_at(cursor: str) -> bytes:
    """One that tells the client an id to come back with, and is no event."""
    return b": heartbeat\r\nid: %b\r\n\r\n" % cursor.encode()


#: What is sent at once should not much exceed this: a server keeps what a slow client does not take.
PIECE_BYTES = 32 * 1024


def pieces(events: Iterable[Event], *, with_ids: bool) -> Iterator[bytes]:
    """These events, put together in pieces for sending; a large one is cut up, so that nobody holds a copy of it."""
    ready: list[bytes] = []
    size = 0
    for event in events:
        head = b"event: %b\r\ndata: " % event.name.encode()
        tail = b"\r\nid: %b\r\n\r\n" % event.id.encode() if with_ids and event.id else b"\r\n\r\n"
        if (length := len(event.data)) <= PIECE_BYTES:
            ready += (head, event.data, tail)
        else:
            yield b"".join([*ready, head, event.data[:PIECE_BYTES]])
            for at in range(PIECE_BYTES, length - PIECE_BYTES, PIECE_BYTES):
                yield event.data[at : at + PIECE_BYTES]
            rest = (length - 1) // PIECE_BYTES * PIECE_BYTES
            ready, size = [event.data[rest:], tail], 0
        size += length
        if size >= PIECE_BYTES:
            yield b"".join(ready)
            ready, size = [], 0
    if ready:
        yield b"".join(ready)
