"""Invoking the worker function, and not more often than it helps.

How often is the board's to say (``slots``). While Redis is away, or where there is none, each process remembers what it has
asked for itself: an invocation is good for as many runs as a worker takes at once, for as long as one may take to begin. So a
thousand requests of one process invoke a hundred workers and not a thousand, and each process at least one.

Nobody waits long: Lambda has a few seconds, and one that is silent is left alone for a while. What was not invoked is found by
the scheduler's tick.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import import_module
from typing import Any

from langgraph_serverless.queue.outage import Outage

#: Seconds. boto3's own are a minute each, and it tries five times: a VPC without a way to Lambda would take every request along.
CONNECT_TIMEOUT, READ_TIMEOUT, ATTEMPTS = 2.0, 3.0, 2
#: An attempt that has failed after this long was a wait for nothing (seconds) ...
_SILENCE = 1.5
#: ... and the next one is not made for this long, so that one request waits and not each of them.
_PAUSE_AFTER_SILENCE = 15.0
#: Invocations that are made side by side.
_THREADS = 4


class WorkerFunction:
    """The worker function as those see it who ring.

    Args:
        jobs: how many runs one invocation will take.
        most: invocations for one ring; the workers that come ring for what is left.
        limit: of workers at once; 0 if nobody knows one.
        start: how long an invocation may take until it hands its ticket in (seconds).
        build: which build the caller is of, so that a worker of another one can say so (``function_build``).
    """

    def __init__(
        self, name: str, *, jobs: int = 10, most: int = 20, limit: int = 0, start: float = 15.0, build: str = ""
    ) -> None:
        self.name = name
        self._told = {"reason": "bell", **({"build": build} if build else {})}
        self.jobs = jobs
        self.limit = limit
        self.start = start
        self.most = min(most, limit) if limit else most
        self._asked_until = 0.0
        self._asked = 0
        self._promised = 0
        self._silent_until = 0.0
        self._outage = Outage("Invoking the worker function")

    def without_board(self, runs: int, *, again: bool) -> list[str]:
        """Tickets for runs of which no board knows how many find a worker; see ``RING``."""
        now = time.monotonic()
        if now > self._asked_until:
            self._asked = self._promised = 0
        given = self._asked * self.jobs if again else self._promised
        rest = max(0, runs - given)
        self._promised = max(0, given - runs)
        tickets = [f"+{uuid.uuid4().hex[:12]}" for _ in range(min(math.ceil(rest / self.jobs), self.most))]
        if tickets:
            self._asked_until = now + self.start
            self._asked += len(tickets)
            self._promised += max(0, len(tickets) * self.jobs - rest)
        return tickets

    def forget(self, failed: int) -> None:
        """So many of the last tickets without a board have not been used."""
        self._asked = max(0, self._asked - failed)
        self._promised = min(self._promised, self._asked * self.jobs)

    async def invoke(self, tickets: Sequence[str]) -> list[str]:
        """Invoke the function once for each ticket; those that could not be. Never raises: the scheduler's tick finds the runs."""
        if time.monotonic() < self._silent_until:
            return list(tickets)
        loop = asyncio.get_running_loop()
        left = list(tickets)
        while left:
            some, asked = left[:_THREADS], time.monotonic()
            try:
                # boto3 is synchronous; made here, as its first use takes long and threads may not make it at once
                client = await loop.run_in_executor(self._threads, lambda: self.client)
                calls = [loop.run_in_executor(self._threads, self._invoke, client, ticket) for ticket in some]
                results = await asyncio.gather(*calls, return_exceptions=True)
            except Exception as error:  # noqa: BLE001, RUF100 - boto3 has no common base
                results = [error] * len(some)
            errors = [result for result in results if isinstance(result, BaseException)]
            if errors:
                self._outage.begins(errors[0])
                if time.monotonic() - asked > _SILENCE:
                    self._silent_until = time.monotonic() + _PAUSE_AFTER_SILENCE
                failed = [ticket for ticket, result in zip(some, results, strict=True) if result in errors]
                return [*failed, *left[_THREADS:]]
            left = left[_THREADS:]
        self._outage.ends()
        return []

    def _invoke(self, client: Any, ticket: str) -> None:
        payload = json.dumps({**self._told, "ticket": ticket}).encode()
        client.invoke(FunctionName=self.name, InvocationType="Event", Payload=payload)

    @cached_property
    def client(self) -> Any:
        """boto3's client of Lambda."""
        # imported here because it takes long to load, and only functions have a function to invoke
        config = import_module("botocore.config").Config(
            connect_timeout=CONNECT_TIMEOUT, read_timeout=READ_TIMEOUT, retries={"total_max_attempts": ATTEMPTS}
        )
        return import_module("boto3").client("lambda", config=config)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        # the event loop's own threads are for synchronous nodes, which may hold all of them; a full worker rings too
        return ThreadPoolExecutor(_THREADS, thread_name_prefix="invoke")
