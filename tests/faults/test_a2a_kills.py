"""Tasks of other agents outlive the server that works on them: its process is killed in the midst of a stream, and the client of the
Agent-to-Agent protocol that was reading asks the next one for the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from agents import PATIENCE, Receiver, call, message, path_of, receiver, result
from dev_server import ROOT, SHORT_LEASES, DevServer, MakeServer
from figures import Figures
from workload import assert_invariants

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "agents" / "langgraph.json"


@pytest.fixture
def notified() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


async def read(
    server: DevServer, method: str, params: Any, *, until_first_word: bool = False, on_first_word: Path | None = None
) -> list[dict[str, Any]]:
    """What a stream tells, as long as it lasts; at first perhaps nobody answers. ``on_first_word`` is a file to make then."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                async with (
                    httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client,
                    client.stream("POST", path_of("waits"), json=call(method, params)) as response,
                ):
                    async for line in response.aiter_lines():
                        if line.startswith("data: "):
                            found.append(json.loads(line.removeprefix("data: "))["result"])
                            if found[-1].get("kind") == "status-update":
                                if until_first_word:
                                    return found
                                if on_first_word is not None:
                                    on_first_word.touch()
                if found:
                    return found
            except httpx.HTTPError:
                if found:
                    return found
            await asyncio.sleep(0.1)


async def test_a_task_outlives_its_server(
    dev_servers: MakeServer, notified: Receiver, tmp_path: Path, figures: Figures
) -> None:
    server = dev_servers(PROJECT, WEBHOOK_ALLOWED_HOSTS="127.0.0.1", **SHORT_LEASES)
    go = tmp_path / "go"
    config = {"pushNotificationConfig": {"url": notified.url, "token": "t"}}
    params = {"message": message(str(go)), "configuration": config}
    first, *_ = await read(server, "message/stream", params, until_first_word=True)
    task_id = first["id"]
    kills = 2
    for _ in range(kills):
        await asyncio.to_thread(server.kill_server)
        # what was said is told again, whoever tells it
        *_, said = await read(server, "tasks/resubscribe", {"id": task_id}, until_first_word=True)
        assert "one two three".startswith(said["status"]["message"]["parts"][0]["text"])
    again, *updates, artifact, end = await read(server, "tasks/resubscribe", {"id": task_id}, on_first_word=go)
    assert again["id"] == task_id
    texts = [update["status"]["message"]["parts"][0]["text"] for update in updates if update["kind"] == "status-update"]
    assert texts[-1] == "waited"
    # what was said before the kills is told whole, or not at all
    assert all("one two three".startswith(text) for text in texts[:-1])
    assert artifact["artifact"]["parts"] == [{"kind": "text", "text": "waited"}]
    assert (end["status"]["state"], end["final"]) == ("completed", True)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
        task = await result(client, "waits", "tasks/get", {"id": task_id})
    assert [each["parts"][0]["text"] for each in task["history"]][1:] == ["one two three", "waited"]
    headers, body = (await asyncio.to_thread(notified.at_least, 1))[0]
    assert headers["x-a2a-notification-token"] == "t"
    assert (body["id"], body["status"]["state"]) == (task_id, "completed")
    ids = {headers["webhook-id"] for headers, _ in notified.received}
    assert len(ids) == 1
    await assert_invariants(server.database_uri, worker=True)
    figures("A2A kills", tasks=1, kills=kills, completed=1, notifications=len(ids))
