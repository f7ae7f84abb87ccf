"""What happens on a thread: the events of its runs, one run after the other, and what is written to its state by hand.

Every run has a log of its own; the thread's index says which runs there are, in the order of their first events. The end of a
run comes before anything of the next one, with the smaller id, so a thread's events can be counted and resumed as one stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from langgraph_serverless.domain.events import Event
from langgraph_serverless.errors import InvalidInputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: Name of an entry of a thread's index: a run of it has begun.
RUN = "run"
#: Name of an event: somebody has written to the thread's state, ``{"state", "thread_id"}``.
STATE_UPDATE = "state_update"
#: Sequence numbers that an entry of a run's log takes: its one record of the thread protocol, or what a mode's event is translated to.
PROTOCOL_STRIDE, STRIDE = 1, 16


class ThreadStreamMode(StrEnum):
    """What a client of a thread's stream wants of it."""

    #: Everything that the runs emit.
    RUN_MODES = "run_modes"
    #: That runs begin and end.
    LIFECYCLE = "lifecycle"
    #: What is written to the thread's state by hand.
    STATE_UPDATE = "state_update"


_MODES = frozenset(mode.value for mode in ThreadStreamMode)


def parse_thread_modes(values: Iterable[str]) -> frozenset[ThreadStreamMode]:
    """The modes of a query, repeated or with commas; what the runs emit if there are none.

    Raises:
        InvalidInputError: another mode; the first one is named.
    """
    wanted = [mode for value in values if value for mode in value.split(",")]
    for mode in wanted:
        if mode not in _MODES:
            raise InvalidInputError(f"Invalid stream mode: {mode}")
    return frozenset(map(ThreadStreamMode, wanted)) or frozenset({ThreadStreamMode.RUN_MODES})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrigin:
    """What the log of a run says about it to the index of its thread."""

    thread_id: uuid.UUID
    #: When the thread was made (microseconds), which tells it from one that had the same id before.
    made: int
    graph_id: str
    protocol: bool
    resumable: bool
    #: Where the run's sequence numbers begin if nobody remembers how many the runs before it have used.
    base: int

    @property
    def stride(self) -> int:
        return PROTOCOL_STRIDE if self.protocol else STRIDE

    def run(self, run_id: uuid.UUID) -> ThreadRun:
        """The run, for a reader that does not have the thread's index."""
        return ThreadRun(run_id, self.graph_id, self.base, self.protocol, self.resumable)

    def to_json(self, run_id: uuid.UUID) -> bytes:
        """A ``ThreadRun`` without its base."""
        return orjson.dumps(
            {
                "run_id": str(run_id),
                "graph_id": self.graph_id,
                "protocol": self.protocol,
                "resumable": self.resumable,
            }
        )


def in_microseconds(when: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = when - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def first_base(*, thread_made: datetime, run_made: datetime, begun: datetime) -> int:
    """Where a run's sequence numbers begin if those of the runs before it are forgotten.

    0 for a run that was made in the transaction that made its thread. Else larger than any that a run before can have used:
    none emits an event per microsecond. Stays exact in JavaScript for the first 17 years of a thread.
    """
    if run_made == thread_made:
        return 0
    return max(0, in_microseconds(begun) - in_microseconds(thread_made)) * STRIDE


@dataclass(frozen=True, slots=True)
class ThreadRun:
    """One run, as the thread's index knows it."""

    run_id: uuid.UUID
    graph_id: str
    #: Sequence numbers of the thread protocol: those of this run are larger, those of runs before are not.
    base: int
    #: What it emits are records of the thread protocol.
    protocol: bool
    #: Its events may be read again.
    resumable: bool
    #: It ended when it was announced: nobody has executed it, or all of its log was lost but the end.
    over: bool = False

    def after(self, end: Event) -> int:
        """Where the sequence numbers of the next run begin."""
        return self.base + (end.number + 1) * (PROTOCOL_STRIDE if self.protocol else STRIDE)

    def begins_by(self, base: int | None) -> ThreadRun:
        """The run as the rows show it, if it is known where the numbers of the one before have ended."""
        return self if base is None or base >= self.base else replace(self, base=base)

    @classmethod
    def from_json(cls, text: bytes) -> ThreadRun:
        found: Mapping[str, Any] = orjson.loads(text)
        return cls(
            run_id=uuid.UUID(found["run_id"]),
            graph_id=found["graph_id"],
            base=found["base"],
            protocol=found["protocol"],
            resumable=found["resumable"],
            over=found.get("over", False),
        )


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """An event of a run; ``run`` is None for what is no run's: a ``state_update``."""

    run: ThreadRun | None
    event: Event
