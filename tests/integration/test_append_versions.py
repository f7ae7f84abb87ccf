"""Workers of the version before ADR 0037 and of this one append to the log of one run by turns, as while they are replaced.

``append_before_0037.lua`` is the script of those: it tells the thread's index separately and does not know ``last`` and ``at``.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from langgraph_serverless.domain.events import Event, end_marker
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.redis_scripts import Script
from langgraph_serverless.settings import Settings
from langgraph_serverless.streaming.keys import events_key, fence_key
from langgraph_serverless.streaming.log import RedisEventLog
from langgraph_serverless.streaming.thread_index import ThreadIndex

BEFORE = (Path(__file__).parent / "append_before_0037.lua").read_text()
#: What the version before does not write, or not at the same time.
OURS = {b"last", b"at"}


class Before:
    """Calls of this version's script, made to the one before."""

    def __init__(self, redis: Redis) -> None:
        self._script = Script(redis, BEFORE)

    async def __call__(self, *, keys: Sequence[str], args: Sequence[Any], patience: float) -> tuple[int, int, bytes]:
        total, begun = await self._script(keys=keys[:2], args=[*args[:8], *args[16:]], patience=patience)
        return total, begun, b"0"


@pytest.fixture
async def redis(redis_uri: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_uri)
    yield client
    await client.aclose()


def worker(redis: Redis, prefix: str, settings: Settings, *, before: bool) -> RedisEventLog:
    log = RedisEventLog(redis, prefix, settings)
    if before:
        log._append = Before(redis)  # type: ignore[assignment]
    return log


async def test_old_and_new_workers_by_turns_leave_the_log_that_old_ones_would(redis: Redis, seed: int) -> None:
    drawn = random.Random(seed)
    for _ in range(25):
        prefix, run_id = f"test-{uuid.uuid4().hex[:8]}", uuid.uuid4()
        settings = Settings(
            stream_max_events=drawn.choice([40, 1000]),
            stream_max_bytes=drawn.choice([3000, 1_000_000]),
            stream_retention=60,
            run_timeout=600,
        )
        owners = drawn.randint(1, 4)
        for epoch in range(1, owners + 1):
            mixed = worker(redis, f"{prefix}:mixed", settings, before=drawn.random() < 0.5)
            logs = (mixed, worker(redis, f"{prefix}:old", settings, before=True))
            lease = Lease(run_id=run_id, token=uuid.uuid4(), epoch=epoch)
            for _ in range(drawn.randint(0, 6)):
                events = [Event("custom", drawn.randbytes(drawn.randint(1, 60))) for _ in range(drawn.randint(1, 12))]
                for log in logs:
                    await log.append(lease, events)
            sealed = drawn.random() < 0.7
            for log in logs:
                if epoch == owners:
                    await log.append(lease, [end_marker(status="success", output=None)])
                elif sealed:
                    await log.seal(lease)
        stored = []
        for name in (f"{prefix}:mixed", f"{prefix}:old"):
            keys = events_key(name, run_id), fence_key(name, run_id)
            entries: Any = await redis.xrange(keys[0])
            fence: Any = await redis.hgetall(keys[1])
            fence = {field: value for field, value in fence.items() if field not in OURS}
            # ids of entries, which differ
            fence.pop(b"cut", None)
            segments = fence.pop(b"segments", b"").split(b";")
            stored.append((fence, [piece.split()[:2] for piece in segments], [said for _, said in entries]))
            assert await redis.pttl(keys[0]) > 0
            assert await redis.pttl(keys[1]) > 0
            for key in keys:
                await redis.delete(key)
        assert stored[0] == stored[1]


async def test_a_state_written_by_hand_does_not_shorten_what_announced_runs_count_on(redis: Redis) -> None:
    prefix, thread_id = f"test-{uuid.uuid4().hex[:8]}", uuid.uuid4()
    index = ThreadIndex(redis, prefix, Settings(stream_retention=60, run_timeout=600))
    await index.state_updated(thread_id, 1, b"{}")
    for key in index.keys(thread_id):
        assert await redis.pttl(key) > 700_000
        await redis.delete(key)
