"""Logs of runs as a thread's readers get them, written by hand."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from langgraph_serverless.domain.events import END, GAP, METADATA, Event
from langgraph_serverless.domain.protocol_records import record
from langgraph_serverless.domain.thread_events import ThreadEvent, ThreadRun
from langgraph_serverless.services.thread_streams import Left


class RunLog:
    """Writes a run's log as the worker does: dense numbers, growing ids."""

    def __init__(self, *, base: int = 0, protocol: bool = True, graph_id: str = "graph", began: int = 1_000) -> None:
        self.run = ThreadRun(uuid.uuid4(), graph_id, base, protocol, resumable=True)
        self.entries: list[ThreadEvent] = []
        self._clock = began
        self.number = 0

    @property
    def after(self) -> int:
        """The base of the thread's next run."""
        return self.run.base + self.number * (1 if self.run.protocol else 16)

    def add(self, name: str, data: bytes) -> RunLog:
        self._clock += 1
        event = Event(name, data, f"{self._clock}-0", self.number)
        self.entries.append(ThreadEvent(self.run, event))
        self.number += 1
        return self

    def begin(self, attempt: int = 1) -> RunLog:
        return self.emit(METADATA, {"run_id": str(self.run.run_id), "attempt": attempt})

    def emit(self, name: str, data: Any) -> RunLog:
        return self.add(name, json.dumps(data, separators=(",", ":")).encode())

    def say(self, method: str, data: Any, namespace: Sequence[str] = (), node: str | None = None) -> RunLog:
        """A record of the protocol."""
        made = record(method, namespace, self._clock, data, node)
        return self.add(made.name, made.data)

    def gap(self, data: bytes = b"") -> RunLog:
        return self.add(GAP, data)

    def end(self, status: str = "success", output: Any = None) -> RunLog:
        return self.emit(END, {"status": status, "output": {} if output is None else output})


class FollowedThread:
    """Stands for ``ThreadStreamService``: a thread of which more may be said while it is followed."""

    def __init__(self, *logs: RunLog, batch: int = 3, left: Left | None = None) -> None:
        self.left_behind = left or Left(True, None, None)
        self.entries = [entry for log in logs for entry in log.entries]
        self.opened = 0
        self.closed = False
        self._batch = batch
        self._grown = asyncio.Event()

    def grow(self, *entries: ThreadEvent) -> None:
        self.entries += entries
        self._grown.set()

    async def left(self, _thread_id: uuid.UUID, **_options: Any) -> Left:
        return self.left_behind

    async def follow(
        self, _thread_id: uuid.UUID, _after: str | None, **_options: Any
    ) -> AsyncGenerator[Sequence[ThreadEvent], None]:
        self.opened += 1
        at = 0
        while not self.closed:
            if at < len(self.entries):
                batch = self.entries[at : at + self._batch]
                at += len(batch)
                yield batch
                continue
            self._grown.clear()
            try:
                await asyncio.wait_for(self._grown.wait(), 0.005)
            except TimeoutError:
                yield ()
