"""The settings that a priority handler has given threads: stored once, then read by every run that is made."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.priorities import GroupLimits, ThreadPriority
from langgraph_serverless.persistence.json import jsonb
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries

_SQL = load_queries(__file__)
FIRST_RUN = _SQL["first_run"]
KEEP_SETTINGS = _SQL["keep_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSurroundings:
    """The assistant and the thread of a run to be made."""

    graph_id: str
    assistant_metadata: Mapping[str, Any]
    #: None: there is no such thread, or none yet.
    thread_metadata: Mapping[str, Any] | None
    settings: ThreadPriority | None


async def surroundings(
    connection: Connection, *, assistant_id: uuid.UUID, thread_id: uuid.UUID | None
) -> RunSurroundings | None:
    """None if there is no such assistant."""
    cursor = await connection.execute(FIRST_RUN, {"assistant_id": assistant_id, "thread_id": thread_id})
    row = await cursor.fetchone()
    if row is None:
        return None
    return RunSurroundings(
        graph_id=row["graph_id"],
        assistant_metadata=row["assistant_metadata"],
        thread_metadata=row["thread_metadata"],
        settings=_settings(row) if row["priority"] is not None else None,
    )


async def keep(connection: Connection, thread_id: uuid.UUID, settings: ThreadPriority) -> ThreadPriority:
    """The settings of a locked thread, which are these if it had none."""
    parameters = {
        "thread_id": thread_id,
        "priority": settings.priority,
        "fairness_group": settings.concurrency_key,
    }
    (row,) = await (await connection.execute(KEEP_SETTINGS, parameters)).fetchall()
    return _settings(row)


def limits(groups: GroupLimits) -> dict[str, Any]:
    """As parameters, for the statements that count what runs."""
    return {"limits": jsonb(groups.of), "most": groups.most}


def _settings(row: Mapping[str, Any]) -> ThreadPriority:
    return ThreadPriority.stored(row["priority"], row["fairness_group"])
