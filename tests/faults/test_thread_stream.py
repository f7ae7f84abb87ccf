"""A thread is followed while workers are killed and sent home under its runs: what its stream says stays in order, and whole.

The killed worker's superstep is repeated, marked by ``metadata`` with the next attempt; a hand-off is not seen at all.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import Any

import httpx
from cluster import Cluster
from dev_server import PATIENCE
from thread_reader import ThreadReader, reading
from workload import assert_invariants


def of_run(reader: ThreadReader, run_id: str) -> list[tuple[str, Any]]:
    """A run's part of the stream, from its first ``metadata`` to its end."""
    begun = next(at for at, (_, data) in enumerate(reader.events) if data.get("run_id") == run_id)
    done = reader.events.index(("metadata", {"status": "run_done", "run_id": run_id}))
    return reader.events[begun : done + 1]


def attempts(events: list[tuple[str, Any]]) -> list[int]:
    return [data["attempt"] for name, data in events if name == "metadata" and "attempt" in data]


async def test_a_thread_is_followed_over_killed_and_stopped_workers(cluster: Cluster) -> None:
    steps = 4

    async def run(client: Any, thread_id: str, name: str) -> str:
        made = await client.runs.create(
            thread_id,
            "steps",
            input={"name": name, "steps": steps, "seconds": 0.15},
            stream_mode=["custom", "values"],
            stream_resumable=True,
            multitask_strategy="enqueue",
        )
        return str(made["run_id"])

    def customs(reader: ThreadReader) -> int:
        return sum(name == "custom" for name, _ in reader.events)

    async with (
        cluster.client() as client,
        httpx.AsyncClient(base_url=cluster.url, timeout=PATIENCE, limits=httpx.Limits(max_connections=None)) as http,
    ):
        thread_id = (await client.threads.create())["thread_id"]
        async with reading(http, thread_id) as reader:
            first = cluster.worker()
            killed = await run(client, thread_id, "killed")
            handed_on = await run(client, thread_id, "handed on")
            last = await run(client, thread_id, "last")
            await reader.until(lambda reader: customs(reader) >= 2)
            first.kill()
            second = cluster.worker()
            await reader.until(lambda reader: killed in reader.done and customs(reader) >= steps + 2)
            third = cluster.worker()
            second.process.send_signal(signal.SIGTERM)
            await reader.until_done(killed, handed_on, last)
            assert reader.ids == sorted(set(reader.ids))
            assert attempts(of_run(reader, killed)) == [1, 2]
            for run_id in (handed_on, last):
                events = of_run(reader, run_id)
                assert attempts(events) == [1]
                assert [data["step"] for name, data in events if name == "custom"] == list(range(1, steps + 1))
            # whoever comes back after any of these events gets the others, once
            async with AsyncExitStack() as stack:
                again = [
                    await stack.enter_async_context(reading(http, thread_id, after=event_id))
                    for _, _, event_id in reader.frames[:-1]
                ]
                for at, other in enumerate(again):
                    await other.until(lambda other: last in other.done)
                    assert other.frames == reader.frames[at + 1 :], f"after {reader.frames[at]}"
        await asyncio.to_thread(third.kill)
    await assert_invariants(cluster.database_uri)
