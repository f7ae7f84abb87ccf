"""Reads a thread's stream beside the test, as bytes, and takes it to pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

PATIENCE = 30.0


@dataclass
class ThreadReader:
    """What has come of one stream so far."""

    text: bytes = b""
    response: httpx.Response | None = None
    ended: bool = False
    _grown: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def frames(self) -> list[tuple[str, Any, str]]:
        found = []
        for frame in self.text.split(b"\r\n\r\n")[:-1]:
            if not frame.startswith(b":"):
                name, data, event_id = frame.decode().split("\r\n")
                found.append(
                    (
                        name.removeprefix("event: "),
                        json.loads(data.removeprefix("data: ")),
                        event_id.removeprefix("id: "),
                    )
                )
        return found

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [(name, data) for name, data, _ in self.frames]

    @property
    def ids(self) -> list[tuple[int, ...]]:
        return [tuple(map(int, event_id.split("-"))) for _, _, event_id in self.frames]

    @property
    def done(self) -> list[str]:
        """The runs whose end has been told."""
        return [data["run_id"] for name, data in self.events if name == "metadata" and data.get("status") == "run_done"]

    @property
    def heartbeats(self) -> int:
        return self.text.count(b": heartbeat\r\n")

    async def until(self, condition: Callable[[ThreadReader], Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition(self):
                assert not self.ended, self.text
                self._grown.clear()
                await self._grown.wait()

    async def until_done(self, *run_ids: Any) -> None:
        """Until these runs have ended, and no others."""
        wanted = [str(run_id) for run_id in run_ids]
        await self.until(lambda reader: len(reader.done) >= len(wanted))
        assert self.done == wanted

    async def read(self, response: httpx.Response) -> None:
        self.response = response
        self._grown.set()
        async for chunk in response.aiter_raw():
            self.text += chunk
            self._grown.set()
        self.ended = True
        self._grown.set()


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, thread_id: Any, *, after: str | None = None, **query: Any
) -> AsyncIterator[ThreadReader]:
    """A stream of a thread; it is being read when this is entered."""
    reader = ThreadReader()
    headers = {} if after is None else {"Last-Event-ID": after}
    async with client.stream("GET", f"/threads/{thread_id}/stream", params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        task = asyncio.create_task(reader.read(response))
        try:
            yield reader
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
