"""What clients say about where in a run's events they are, and which of them they want.

``Last-Event-ID`` is the id of the last event that a client has; ``-1``, ``0`` and ``0-0`` ask for everything that is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from langgraph_serverless.domain.events import ERROR, Event
from langgraph_serverless.errors import InvalidInputError

FROM_THE_START = "0-0"
FROM_NOW_ON = "$"

_ID = re.compile(r"\d{1,20}(-\d{1,20})?")
_THREAD_ID = re.compile(r"[0-9]{1,40}(-[0-9]{1,40})?")
_START = ("-1", "0", "0-0")
_LARGEST = 2**64 - 1


def parse_last_event_id(value: str) -> str | None:
    """Where to read on; None if the text is no event id."""
    text = value.strip()
    if text in _START:
        return FROM_THE_START
    if not _ID.fullmatch(text) or any(int(part) > _LARGEST for part in text.split("-")):
        return None
    # an id without its second half stands for the first event of that millisecond, which the client then has
    return "-".join(str(int(part)) for part in (text if "-" in text else f"{text}-0").split("-"))


def parse_event_id(value: str) -> str | None:
    """Where to read on in a thread; None if nothing was said. Stricter than for a run, as the official server is.

    Raises:
        InvalidInputError: the text is no event id.
    """
    if not value:
        return None
    if not _THREAD_ID.fullmatch(value):
        raise InvalidInputError("Invalid last-event-id: must be a valid Redis stream ID")
    milliseconds, _, sequence = value.partition("-")
    return f"{min(int(milliseconds), _LARGEST)}-{min(int(sequence or 0), _LARGEST)}"


def parse_modes(values: Iterable[str]) -> frozenset[str] | None:
    """Stream modes out of a query, repeated or with commas; None means all of them."""
    modes = frozenset(mode.strip() for value in values for mode in value.split(",") if mode.strip())
    return modes or None


def mode_filter(modes: frozenset[str]) -> Callable[[Event], bool]:
    """Whether an event belongs to one of these modes. An error belongs to all: it is how a run ends."""

    def wanted(event: Event) -> bool:
        name = event.name.partition("|")[0]
        if name in modes or name == ERROR:
            return True
        if name == "messages":
            return "messages-tuple" in modes
        return "messages" in modes and name.startswith("messages/")

    return wanted
