"""What a run costs in Redis: commands that are sent, each of them a round trip for somebody, and those within scripts."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from cluster import Cluster
from workload import assert_invariants

#: Of a run in the background on a thread of its own: the ring, the worker's wait for it, what the run has emitted, and its end. On a busy
#: machine what it emits may not be ready within one gathering.
SENT, GATHERINGS = 4, 2
#: Within the scripts: reading and writing the fence, entries, expiries and messages, for the run's log and for the thread's index.
INNER = 29


@contextmanager
def recorded(uri: str, prefix: str) -> Iterator[list[str]]:
    """The names of what is asked about this deployment meanwhile; ``lua`` before what a script asks."""
    commands: list[str] = []
    begun, end = threading.Event(), f"end of {prefix}"
    client = redis.Redis.from_url(uri)

    def listen() -> None:
        with client.monitor() as monitor:
            begun.set()
            for said in monitor.listen():
                if end in said["command"]:
                    return
                if f"{prefix}:" in said["command"]:
                    commands.append("lua " * (said["client_type"] == "lua") + said["command"].split(" ")[0].upper())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        assert begun.wait(10)
        yield commands
    finally:
        with redis.Redis.from_url(uri) as other:
            other.echo(end)
        thread.join(10)
        client.close()


async def test_a_background_run_takes_few_round_trips_and_few_commands(cluster: Cluster) -> None:
    cluster.worker()
    runs, settings = 10, cluster.settings()
    given = {"name": "s", "steps": 0, "seconds": 0}
    async with cluster.client() as client:
        # the first one finds the scripts missing
        await client.runs.wait((await client.threads.create())["thread_id"], "steps", input=given)
        threads = [(await client.threads.create())["thread_id"] for _ in range(runs)]
        with recorded(settings.redis_uri, settings.redis_key_prefix) as commands:
            for thread in threads:
                run = await client.runs.create(thread, "steps", input=given)
                async with asyncio.timeout(30):
                    while (await client.runs.get(thread, run["run_id"]))["status"] in ("pending", "running"):
                        await asyncio.sleep(0.02)
    asked = Counter(commands)
    sent = sum(count for name, count in asked.items() if not name.startswith("lua"))
    print(f"\n{sent / runs:.1f} sent, {(sum(asked.values()) - sent) / runs:.1f} within scripts: {dict(asked)}")
    appends = sent - 2 * runs
    assert 2 * runs <= appends <= (SENT - 2 + GATHERINGS) * runs, asked
    # a gathering more is a script's four commands and its entries, which are there anyway
    assert sum(asked.values()) - sent <= INNER * runs + 4 * (appends - 2 * runs), asked
    await assert_invariants(cluster.database_uri)
