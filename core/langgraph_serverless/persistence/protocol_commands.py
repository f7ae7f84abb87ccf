"""What commands of the thread protocol look at before they make a run."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
ASKING_THREAD = _SQL["asking_thread"]
CHECKPOINT_IS_THERE = _SQL["checkpoint_is_there"]


#: A run's questions by its id.
Asked = Mapping[uuid.UUID, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCommand:
    """A live run, as far as it answers questions."""

    run_id: uuid.UUID
    command: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingThread:
    """A thread as those see it who answer its questions."""

    metadata: Mapping[str, Any]
    #: Of the last run that has settled.
    interrupts: frozenset[str]
    live: Sequence[LiveCommand]

    @property
    def assistant_id(self) -> str | None:
        """Whose run was the last; the graph's, if somebody has only written to the state."""
        found = self.metadata.get("assistant_id") or self.metadata.get("graph_id")
        return found if isinstance(found, str) else None

    def open_interrupts(self, asked: Asked) -> frozenset[str]:
        """The interrupts that nobody answers.

        A live run that answers some by their ids leaves the others open. Any other takes them all: it starts from its input,
        or gives its one answer to whoever asks.

        Args:
            asked: what live runs have asked so far.
        """
        left = self.interrupts
        for run in self.live:
            resume = (run.command or {}).get("resume")
            answered = left.intersection(resume) if isinstance(resume, dict) else None
            left = (left - answered if answered else frozenset()) | asked.get(run.run_id, frozenset())
        return left


async def find_asking(connection: Connection, thread_id: uuid.UUID) -> AskingThread | None:
    """The thread, or None if clients do not see one. It stays as it is only if its row is locked."""
    row = await (await connection.execute(ASKING_THREAD, {"thread_id": thread_id})).fetchone()
    if row is None:
        return None
    asked = (interrupt for task in (row["interrupts"] or {}).values() for interrupt in task)
    return AskingThread(
        metadata=row["metadata"],
        interrupts=frozenset(interrupt["id"] for interrupt in asked if isinstance(interrupt.get("id"), str)),
        live=[LiveCommand(run_id=uuid.UUID(run["run_id"]), command=run["command"]) for run in row["live"]],
    )


async def has_checkpoint(connection: Connection, thread_id: uuid.UUID, checkpoint_id: uuid.UUID) -> bool:
    """Whether the root graph of the thread has this checkpoint."""
    parameters = {"thread_id": str(thread_id), "checkpoint_id": str(checkpoint_id)}
    return await (await connection.execute(CHECKPOINT_IS_THERE, parameters)).fetchone() is not None
