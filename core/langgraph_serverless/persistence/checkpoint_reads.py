"""A thread as its state's readers and writers see it. Checkpoints themselves are read and written by LangGraph's saver."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.domain.threads import Thread, ThreadStatus
from langgraph_serverless.persistence.pool import Connection
from langgraph_serverless.persistence.queries import load_queries
from langgraph_serverless.persistence.sealing import document
from langgraph_serverless.persistence.threads import thread_from_row

_SQL = load_queries(__file__)
GET_THREAD_FOR_STATE = _SQL["get_thread_for_state"]
LOCK_THREAD_FOR_STATE = _SQL["lock_thread_for_state"]
WRITE_THREAD_STATE = _SQL["write_thread_state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatefulThread:
    """A thread without its values."""

    metadata: Mapping[str, Any]
    config: Mapping[str, Any]
    status: ThreadStatus

    @property
    def graph_id(self) -> str | None:
        graph_id = self.metadata.get("graph_id")
        return graph_id if isinstance(graph_id, str) and graph_id else None


class StateRepository:
    """The statements of ``checkpoint_reads.sql``."""

    async def find(self, connection: Connection, thread_id: uuid.UUID, *, lock: bool = False) -> StatefulThread | None:
        """The thread; with ``lock`` it stays as it is until the transaction ends."""
        statement = LOCK_THREAD_FOR_STATE if lock else GET_THREAD_FOR_STATE
        row = await (await connection.execute(statement, {"thread_id": thread_id})).fetchone()
        if row is None:
            return None
        return StatefulThread(metadata=row["metadata"], config=row["config"], status=ThreadStatus(row["status"]))

    async def write(
        self,
        connection: Connection,
        thread_id: uuid.UUID,
        *,
        values: Any,
        interrupts: Mapping[str, Any],
        status: ThreadStatus,
    ) -> Thread:
        """Write the outcome of a state write to a locked thread."""
        parameters = {
            "thread_id": thread_id,
            "values": document("thread", "values", values),
            "interrupts": document("thread", "interrupts", interrupts),
            "status": status.value,
        }
        row = await (await connection.execute(WRITE_THREAD_STATE, parameters)).fetchone()
        if row is None:
            raise LookupError(f"thread {thread_id} was not locked")
        return thread_from_row(row)
