"""Server-sent events, byte for byte as clients of a LangGraph server know them.

Lines end in CRLF; the order is event, data, id; there is one data line, as an event's data is compact JSON and JSON text
holds no raw line breaks. Nothing is parsed.
"""

from __future__ import annotations

from collections.abc import Iterable

from langgraph_serverless.domain.events import Event

#: A comment, which clients skip.
HEARTBEAT = b": heartbeat\r\n\r\n"

MEDIA_TYPE = "text/event-stream; charset=utf-8"


def frame(event: Event, *, with_id: bool) -> bytes:
    """One event; its id only if the client may resume after it."""
    if with_id and event.id:
        return b"event: %b\r\ndata: %b\r\nid: %b\r\n\r\n" % (event.name.encode(), event.data, event.id.encode())
    return b"event: %b\r\ndata: %b\r\n\r\n" % (event.name.encode(), event.data)


def frames(events: Iterable[Event], *, with_ids: bool) -> bytes:
    """Several events in one piece."""
    return b"".join([frame(event, with_id=with_ids) for event in events])
