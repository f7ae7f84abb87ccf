"""``POST /threads/{id}/stream/events`` over real HTTP, with runs of real graphs: its form, what is refused, who gets what."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest
from dev_server import PATIENCE, DevServer
from protocol_client import ProtocolThread, ends_a_run

pytestmark = pytest.mark.timeout(120)

LAP = {"messages": [], "lap": 0, "laps": 1, "seconds": 0}


async def test_its_form(sample_server: DevServer) -> None:
    """Headers, and frames to the byte; the thread does not exist yet."""
    thread = ProtocolThread(sample_server.url)
    path = f"/threads/{thread.thread_id}/stream/events"
    async with httpx.AsyncClient(base_url=sample_server.url, timeout=PATIENCE) as client:
        async with client.stream("POST", path, json={"channels": ["lifecycle"]}) as response:
            assert response.status_code == 200
            headers = {name: response.headers[name] for name in ("content-type", "cache-control", "x-accel-buffering")}
            assert headers == {
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            }
            pieces = response.aiter_text()
            run_id = await thread.start("line", {"log": []})
            text = ""
            async for piece in pieces:
                text += piece.replace(": heartbeat\r\n\r\n", "")
                if text.count("\r\n\r\n") == 2:
                    break
        begun, over, rest = text.split("\r\n\r\n")
        assert rest == ""
        name, data, number = begun.split("\r\n")
        assert (name, number) == ("event: lifecycle", "id: 1")
        assert data.startswith(
            f'data: {{"type":"event","event_id":"synth:{run_id}:lc||running","seq":1,"method":"lifecycle","params":'
            '{"namespace":[],"timestamp":'
        )
        assert data.endswith(',"data":{"event":"running","graph_name":"line"}}}')
        last = json.loads(over.split("\r\n")[1].removeprefix("data: "))
        assert over.split("\r\n")[::2] == ["event: lifecycle", f"id: {last['seq']}"]
        assert last["event_id"] == f"synth:{run_id}:lc||completed"
        refused = await client.get(path)
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
        assert refused.json() == {"detail": "Method Not Allowed"}


async def test_what_is_refused(sample_server: DevServer) -> None:
    allowed = "Allowed: values, updates, messages, tools, custom, lifecycle, input, tasks, or any `custom:<name>`."
    path = f"/threads/{uuid.uuid4()}/stream/events"
    async with httpx.AsyncClient(base_url=sample_server.url, timeout=PATIENCE) as client:
        for content, detail in {
            b"{": "Invalid JSON body",
            b"": "Invalid JSON body",
            b"[]": "channels is required and must be a non-empty array",
            b'{"channels":[]}': "channels is required and must be a non-empty array",
            b'{"channels":["bad"]}': f"channels contains unsupported entries: bad. {allowed}",
        }.items():
            answer = await client.post(path, content=content, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()) == (400, {"detail": detail})
        answer = await client.post("/threads/none/stream/events", json={"channels": ["values"]})
        assert answer.status_code == 422


async def test_filters_change_nothing_but_what_is_left_out(sample_server: DevServer) -> None:
    thread = ProtocolThread(sample_server.url)
    await thread.start("laps", LAP)
    whole = await thread.until_over()
    assert {event["method"] for event in whole} >= {"values", "updates", "messages", "lifecycle", "tasks", "custom"}
    below = [event for event in whole if event["params"]["namespace"]]
    assert {segment.partition(":")[0] for event in below for segment in event["params"]["namespace"]} == {
        "round",
        "below",
    }

    async def same(expected: list[dict[str, Any]], **wanted: Any) -> None:
        assert expected
        assert await thread.events(len(expected), **wanted) == expected

    async with asyncio.TaskGroup() as group:
        for channel in ("values", "messages", "lifecycle", "tasks", "checkpoints"):
            of_channel = [event for event in whole if event["method"] == channel]
            group.create_task(same(of_channel, channels=[channel]))
        group.create_task(
            same([event for event in whole if not event["params"]["namespace"]], namespaces=[[]], depth=0)
        )
        deep = [event for event in whole if len(event["params"]["namespace"]) == 2]
        group.create_task(same(deep, namespaces=[["round", "below"]]))
        first = [event for event in whole if len(event["params"]["namespace"]) == 1]
        group.create_task(same(first, namespaces=[["round"]], depth=0))
        exact = [event for event in whole if event["params"]["namespace"][:1] == below[0]["params"]["namespace"][:1]]
        group.create_task(same(exact, namespaces=[below[0]["params"]["namespace"]]))


async def test_runs_of_every_kind_and_end_in_one_stream(sample_server: DevServer) -> None:
    """One that asks, its answer, one that fails, one of the legacy endpoints: numbers and order go on, each ends once."""
    thread = ProtocolThread(sample_server.url)
    await thread.start("ask", {"log": []})
    asked = await thread.until_over()
    (request,) = [event for event in asked if event["method"] == "input.requested"]
    interrupt_id = request["params"]["data"]["interrupt_id"]
    await thread.command("input.respond", namespace=[], interrupt_id=interrupt_id, response="yes")
    await thread.until_over(2)
    await thread.over(await thread.start("fail", {"log": []}))
    async with httpx.AsyncClient(base_url=sample_server.url, timeout=PATIENCE) as client:
        body = {"assistant_id": "chat", "input": {"messages": [{"role": "user", "content": "hi"}]}}
        body |= {"stream_mode": ["values", "messages-tuple", "updates", "tasks"]}
        (await client.post(f"/threads/{thread.thread_id}/runs/wait", json=body)).raise_for_status()
    whole = await thread.until_over(4)
    ends = [event["params"]["data"] for event in whole if ends_a_run(event)]
    assert [end["event"] for end in ends] == ["interrupted", "completed", "failed", "completed"]
    assert [end["graph_name"] for end in ends] == ["ask", "ask", "fail", "chat"]
    assert ends[2]["error"]
    assert whole[: len(asked)] == asked
    numbers = [event["seq"] for event in whole]
    assert numbers == sorted(set(numbers))
    assert len({event["event_id"] for event in whole}) == len(whole)
    legacy = whole[[at for at, event in enumerate(whole) if ends_a_run(event)][2] + 1 :]
    assert {event["method"] for event in legacy} == {"lifecycle", "values", "messages", "updates", "tasks"}
    blocks = [event["params"]["data"] for event in legacy if event["method"] == "messages"]
    assert [blocks[0]["event"], blocks[-1]["event"]] == ["message-start", "message-finish"]
    *calls, text = [block["content"] for block in blocks if block["event"] == "content-block-finish"]
    assert "tool_call" in {call["type"] for call in calls}
    final = [event for event in legacy if event["method"] == "values"][-1]["params"]["data"]["messages"][-1]
    assert text == {"type": "text", "text": final["content"]}
    # whoever comes back in the midst of the run that is not resumable misses nothing of it either
    middle = len(whole) - len(legacy) // 2
    assert await thread.events(len(whole) - middle, since=numbers[middle - 1]) == whole[middle:]


async def test_two_listeners_of_a_run_hear_the_same(sample_server: DevServer) -> None:
    thread = ProtocolThread(sample_server.url)
    early = asyncio.create_task(thread.until_over())
    await thread.start("laps", LAP)
    late = await thread.until_over()
    assert await early == late
