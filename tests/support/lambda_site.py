"""The worker function as Lambda has it, without Lambda: invocations that Bells and workers ask for, carried out in this process.

A pytest plugin (``tests/conftest.py`` names it): ``sites`` makes one and puts it in the place of boto3's client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator
from dataclasses import fields
from typing import Any

import pytest
from lambda_edge import Invocation, LambdaEdge

from langgraph_serverless.containers.worker import WorkerContainer, consume
from langgraph_serverless.queue.worker_function import WorkerFunction
from langgraph_serverless.services.jobs import WorkReport


class Site(LambdaEdge):
    """The worker function in this process: a thread for each invocation, with a cold start for each sandbox that is new."""

    def __init__(
        self, api: WorkerContainer, *, cold_start: float, idle_grace: float, seconds: float = 120, **options: Any
    ) -> None:
        super().__init__(**options)
        self._seconds = seconds
        self._api = api
        self._cold_start, self._idle_grace = cold_start, idle_grace
        self._warm = 0

    def carry_out(self, invocation: Invocation) -> dict[str, Any]:
        if self._warm:
            self._warm -= 1
        else:
            time.sleep(self._cold_start)
        report = asyncio.run(self.work(invocation.event["ticket"], time.monotonic() + self._seconds))
        self._warm += 1
        return {field.name: getattr(report, field.name) for field in fields(report)}

    def work(self, ticket: str, ends: float) -> Coroutine[Any, Any, WorkReport]:
        """As the handler does it."""
        return consume(
            self._api.settings,
            deadline=lambda: ends - time.monotonic(),
            idle_grace=self._idle_grace,
            registry=self._api.registry,
            manifest=self._api.catalog.manifest,
            ticket=ticket,
        )


@pytest.fixture
def sites(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[Site] = []

    def make(api: WorkerContainer, **options: Any) -> Site:
        site = Site(api, **options)
        made.append(site)
        monkeypatch.setattr(WorkerFunction, "client", site)
        return site

    yield make
    for site in made:
        site.close()
