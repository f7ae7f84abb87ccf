"""Workloads of the thread protocol (v2): commands to a thread, and one stream of all that happens on it.

As the SDKs do it: a client thinks of a thread's id, opens the stream of events, and then sends the command that creates both the
thread and a run.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import aclosing

from bench.client import Frame, WrongAnswerError
from bench.workloads import Figure, Visit, latencies, named

#: For how long (seconds) a stream may keep its first byte back; a command is sent then in any case.
_PATIENCE = 1.0


async def run_start(visit: Visit) -> list[Figure]:
    """From ``run.start`` to the first ``values`` and the first ``messages`` event on a stream that was open before."""
    values, messages = [], []
    for number in range(visit.times(7) + 1):
        began, frames = await _one(visit)
        if number:  # connections and pools grow in the first one
            values.append(named(frames, b"values")[0].at - began)
            messages.append(named(frames, b"messages")[0].at - began)
    return [*latencies("first values", values), *latencies("first message", messages)]


async def _one(visit: Visit) -> tuple[float, list[Frame]]:
    """When the command was sent, and all events of its run."""
    thread, opened = uuid.uuid4(), asyncio.Event()
    reading = asyncio.create_task(_until_over(visit, f"/threads/{thread}/stream/events", opened))
    opening = asyncio.create_task(opened.wait())
    try:
        await asyncio.wait([reading, opening], timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        command = {"assistant_id": "tokens", "input": {"tokens": 10}}
        began = time.perf_counter()
        answer = await visit.client.json(
            "POST", f"/threads/{thread}/commands", {"id": 1, "method": "run.start", "params": command}
        )
        if answer.get("type") != "success":
            raise WrongAnswerError(f"run.start: {answer}")
        return began, await reading
    finally:
        opening.cancel()
        reading.cancel()


async def _until_over(visit: Visit, path: str, opened: asyncio.Event) -> list[Frame]:
    """All events up to the one that says how the run ended."""
    found = []
    body = {"channels": ["values", "messages", "lifecycle"]}
    async with aclosing(visit.client.events("POST", path, body, opened=opened)) as frames:  # type: ignore[type-var]
        async for frame in frames:
            found.append(frame)
            if frame.name == b"lifecycle" and b'"running"' not in frame.data and b'"started"' not in frame.data:
                break
    if not found or b'"completed"' not in found[-1].data:
        raise WrongAnswerError(f"the run did not end well: {found[-1:]!r:.300}")
    return found
