"""Events: what a run emits, in the form in which it is stored and sent.

An event's data is JSON text, made once by the worker; nobody parses it again on its way to a reader. The last event of
every run is the end marker, which readers act on and never send: it carries the run's final status and its output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

#: Name of the end marker.
END = "__end__"
#: Name of the gap marker: events from before it may have been lost with the log. Never sent either.
GAP = "__gap__"
#: Opens a run's stream: ``{"run_id", "attempt"}``.
METADATA = "metadata"
#: Last event of a run that failed: ``{"error", "message"}``.
ERROR = "error"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Event:
    """One event of a run.

    ``name`` is the SSE event name (``values``, ``updates|child:...``), ``data`` compact JSON. ``id`` is given by the
    event log and looks like ``1795328168774-0``; it is empty before the event has been appended. ``number`` counts the log's
    entries of the run from 0, also those that are never sent; -1 before the event has been appended.
    """

    name: str
    data: bytes
    id: str = ""
    number: int = -1

    @property
    def is_end(self) -> bool:
        return self.name == END


def end_marker(*, status: str, output: Any) -> Event:
    """The event that closes a run's stream. ``output`` is JSON text or a JSON document: what wait and join answer."""
    body = output if isinstance(output, bytes) else orjson.dumps(output)
    return Event(END, b'{"status":' + orjson.dumps(status) + b',"output":' + body + b"}")


def is_gap(event: Event) -> bool:
    return event.name == GAP


def state_in(marker: Event) -> bytes | None:
    """The JSON text of the state that an end marker closes with; None if the run has left none, or an error."""
    if not marker.data.startswith((b'{"status":"success"', b'{"status":"interrupted"')):
        return None
    output = output_of(marker)
    return output if output.startswith((b"{", b"[")) else None


def output_of(marker: Event) -> bytes:
    """The JSON text of the output in an end marker; cut out, not parsed, as it may be large."""
    _, _, rest = marker.data.partition(b',"output":')
    return rest[:-1]


class _Delayed(tuple[Event, ...]):
    __slots__ = ()


#: An empty batch of a reader that lacks what the log may have for it, as others are being served: no sign that there is nothing.
DELAYED: Sequence[Event] = _Delayed()
