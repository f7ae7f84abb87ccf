"""What happens on a thread: the events of its runs, one run after the other, and what is written to its state by hand.

Every run has a log of its own; the thread's index says which runs there are, in the order of their first events. The end of a
run comes before anything of the next one, with the smaller id, so a thread's events can be counted and resumed as one stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from langgraph_serverless.domain.events import Event

#: Name of an event: somebody has written to the thread's state, ``{"state", "thread_id"}``.
STATE_UPDATE = "state_update"


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

    def to_json(self) -> bytes:
        return orjson.dumps(
            {
                "run_id": str(self.run_id),
                "graph_id": self.graph_id,
                "base": self.base,
                "protocol": self.protocol,
                "resumable": self.resumable,
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> ThreadRun:
        found: Mapping[str, Any] = orjson.loads(text)
        return cls(
            run_id=uuid.UUID(found["run_id"]),
            graph_id=found["graph_id"],
            base=found["base"],
            protocol=found["protocol"],
            resumable=found["resumable"],
        )


@dataclass(frozen=True, slots=True)
class ThreadEvent:
    """An event of a run; ``run`` is None for what is no run's: a ``state_update``."""

    run: ThreadRun | None
    event: Event
