"""Threads as clients of protocol v2 have them, over bare sockets: commands, and events that may be cut off anywhere."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
from cut_streams import Received, read_part
from dev_server import PATIENCE

#: Every channel that there is.
CHANNELS = ["values", "updates", "messages", "tools", "lifecycle", "input", "tasks", "custom", "checkpoints"]
#: How a run ends, said of its root.
ENDS = ("completed", "failed", "interrupted")


def document(received: Received) -> dict[str, Any]:
    """The event; its name and number stand in its frame too."""
    found: dict[str, Any] = json.loads(received.data)
    assert (found["method"], str(found["seq"])) == (received.event, received.id)
    return found


def ends_a_run(event: dict[str, Any]) -> bool:
    params = event["params"]
    return event["method"] == "lifecycle" and params["namespace"] == [] and params["data"]["event"] in ENDS


@dataclass
class ProtocolThread:
    """One thread on one server."""

    url: str
    thread_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    commands: int = 0

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to a command that succeeds."""
        self.commands += 1
        body = {"id": self.commands, "method": method, "params": params}
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client:
            answer = (await client.post(f"/threads/{self.thread_id}/commands", json=body)).json()
        assert answer["type"] == "success", answer
        result: dict[str, Any] = answer["result"]
        return result

    async def start(self, assistant_id: str, graph_input: Any, **params: Any) -> str:
        """Start a run. Its id."""
        found: str = (await self.command("run.start", assistant_id=assistant_id, input=graph_input, **params))["run_id"]
        return found

    async def over(self, run_id: str) -> str:
        """How a run has ended, once it has."""
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client, asyncio.timeout(PATIENCE):
            while True:
                run = (await client.get(f"/threads/{self.thread_id}/runs/{run_id}")).json()
                if run["status"] not in {"pending", "running"}:
                    status: str = run["status"]
                    return status
                await asyncio.sleep(0.02)

    async def events(self, most: int, **wanted: Any) -> list[dict[str, Any]]:
        """So many events of one connection, which is then cut."""
        body = json.dumps({"channels": CHANNELS, **wanted}).encode()
        path = f"/threads/{self.thread_id}/stream/events"
        part = await read_part(self.url, path, method="POST", body=body, most=most)
        assert not part.ended
        return [document(received) for received in part.events]

    async def listen(self, found: list[dict[str, Any]], *, since: int = 0, most: int | None = None) -> None:
        """The events of one connection as they come, up to the end of a run, or of so many of them."""
        body = {"channels": CHANNELS, "since": since}
        path = f"/threads/{self.thread_id}/stream/events"
        async with (
            httpx.AsyncClient(base_url=self.url, timeout=PATIENCE) as client,
            client.stream("POST", path, json=body) as response,
        ):
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
                    most = most and most - 1
                    if ends_a_run(found[-1]) or most == 0:
                        return

    async def until_over(self, runs: int = 1, *, since: int = 0, **wanted: Any) -> list[dict[str, Any]]:
        """Events up to the end of so many runs, over connections that are cut after each event."""
        found: list[dict[str, Any]] = []
        while runs:
            found += await self.events(1, since=since, **wanted)
            since = found[-1]["seq"]
            runs -= ends_a_run(found[-1])
        return found
