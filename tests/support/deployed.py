"""What tests of a deployed stack (``tests/e2e``) wait for and look at."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis

from langgraph_serverless.queue.bell import SlotBoard

Value = TypeVar("Value")


async def until(look: Callable[[], Awaitable[Value]], holds: Callable[[Value], bool], *, seconds: float = 60) -> Value:
    """Looks again and again until what is seen holds."""
    deadline = time.monotonic() + seconds
    while not holds(seen := await look()):
        assert time.monotonic() < deadline, f"did not happen within {seconds} s: {seen}"
        await asyncio.sleep(0.2)
    return seen


async def no_worker_is_left(stack: Any) -> None:
    """Waits until every worker has left, so that the next run is not taken by one that still idles."""
    async with Redis.from_url(stack.redis_uri) as redis:
        await until(SlotBoard(redis, "lgs").free_workers, lambda workers: workers == 0)


async def ended(client: LangGraphClient, thread_id: str, run_id: str, *, seconds: float = 60) -> str:
    """The run's status once it is over."""
    run = await until(
        lambda: client.runs.get(thread_id, run_id),
        lambda run: run["status"] not in ("pending", "running"),
        seconds=seconds,
    )
    return str(run["status"])


async def log_lines(stack: Any, function: str, text: str) -> list[dict[str, Any]]:
    """The structured lines with this text that a function has logged so far."""
    lines: list[dict[str, Any]] = await asyncio.to_thread(stack.log_lines, function, text)
    return lines


def failed_invocations(stack: Any) -> list[dict[str, Any]]:
    """Up to ten of the asynchronous invocations that have failed, taken out of their queue."""
    sqs, url = stack.aws.client("sqs"), stack.outputs["FailedInvocationsUrl"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    for message in messages:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return [json.loads(message["Body"]) for message in messages]
