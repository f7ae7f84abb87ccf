"""Runs of many kinds, followed through a fault by the official SDK, and the questions that have to be answered after it.

A ``Workload`` makes runs of ``tests/faults/project`` and remembers which of them were acknowledged; every superstep that
begins leaves a line in the journal, so that what happened twice can be counted. The SDK's own reconnecting is part of what
is tested: nothing here retries for it.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster import Cluster
from dev_server import PATIENCE, DevServer
from langgraph_sdk.client import LangGraphClient

#: What the SDK says while it reconnects; warnings are errors here.
RECONNECTING = (
    "ignore:Request failed, attempting reconnect to Location",
    "ignore:Reconnecting without a Last-Event-ID",
)


@dataclass(slots=True)
class Acknowledged:
    """A run that the server has promised to carry out."""

    name: str
    steps: int
    thread_id: str | None = None
    run_id: str = ""
    #: What a client that waited for it got, or the events of one that streamed it.
    output: Any = None
    begun: bool = False
    events: list[Any] | None = None


@dataclass
class Workload:
    """Runs made on one server."""

    server: DevServer | Cluster
    client: LangGraphClient
    journal: Path
    seconds: float = 0.25
    durability: Any = "sync"
    runs: list[Acknowledged] = field(default_factory=list)
    _followers: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(
        self, *, single: int = 0, queued: int = 0, stateless: int = 0, waits: int = 0, streams: int = 0
    ) -> None:
        """Make runs; returns once all of them have been acknowledged.

        Args:
            single: background runs on a thread each.
            queued: background runs behind each other on one thread.
            stateless: background runs without a thread.
            waits: runs that somebody waits for, every other one stateless.
            streams: runs that somebody streams, every other one stateless.
        """
        # Streams first, so that they are not in the queue: a client that is cut off before the first event has no id to
        # go on from, and the SDK then joins from whatever comes next.
        for number in range(streams + waits):
            run = self._new()
            run.thread_id = await self._thread() if number % 2 else None
            follow = self._stream if number < streams else self._wait
            self._followers.append(asyncio.create_task(follow(run)))
        await self._until(lambda: all(run.begun for run in self.runs[:streams]))
        if queued:
            shared = await self._thread()
        for number in range(single + queued + stateless):
            run = self._new()
            if single <= number < single + queued:
                run.thread_id = shared
            elif number < single:
                run.thread_id = await self._thread()
            made = await self.client.runs.create(run.thread_id, **self._request(run))
            run.run_id = made["run_id"]
        await self._until(lambda: all(run.run_id for run in self.runs))

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                for follower in self._followers:
                    assert not follower.done() or not follower.exception(), follower.exception()
                await asyncio.sleep(0.01)

    def _new(self) -> Acknowledged:
        self.runs.append(Acknowledged(name=f"r{len(self.runs)}-", steps=4 + len(self.runs) % 3))
        return self.runs[-1]

    async def _thread(self) -> str:
        return (await self.client.threads.create())["thread_id"]

    def _request(self, run: Acknowledged) -> dict[str, Any]:
        return {
            "assistant_id": "steps",
            "input": {"name": run.name, "steps": run.steps, "seconds": self.seconds},
            "durability": self.durability,
        }

    async def _wait(self, run: Acknowledged) -> None:
        run.output = await self.client.runs.wait(
            run.thread_id, **self._request(run), on_run_created=lambda made: _made(run, made)
        )

    async def _stream(self, run: Acknowledged) -> None:
        stream = self.client.runs.stream(
            run.thread_id,
            **self._request(run),
            stream_mode=["custom", "values"],
            stream_resumable=True,
            on_run_created=lambda made: _made(run, made),
        )
        events = []
        async for event in stream:
            events.append(event)
            run.begun = True
        run.events = events

    async def under_way(self, lines: int = 12) -> None:
        """Once this many supersteps have begun."""
        await self._until(lambda: len(self.lines()) >= lines)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def repeats(self) -> Counter[str]:
        """For each run, how many of its supersteps began once more."""
        begun = Counter((run_id, step) for run_id, step, *_ in self.lines())
        repeats: Counter[str] = Counter()
        for (run_id, _), times in begun.items():
            repeats[run_id] += times - 1
        return repeats

    def rows(self) -> dict[str, dict[str, Any]]:
        """The runs as the database has them."""
        ids = [run.run_id for run in self.runs]
        rows = self.server.rows("SELECT * FROM lgs.run WHERE run_id = ANY(%s::uuid[])", (ids,))
        return {str(row["run_id"]): row for row in rows}

    async def all_right(self, *, patience: float = PATIENCE) -> None:
        """Every acknowledged run ends in success with the right output; clients that followed one saw all of it."""
        async with asyncio.timeout(patience):
            for run in self.runs:
                output = await self._join(run)
                # of a finished run, a join gives what its thread has come to since
                assert set(run_log(run)) <= set(output["log"]), f"{run}: {output}"
            for follower in self._followers:
                await follower
        rows = self.rows()
        assert {run_id: row["status"] for run_id, row in rows.items()} == dict.fromkeys(
            (run.run_id for run in self.runs), "success"
        )
        for run in self.runs:
            if run.output is not None:
                assert run.output["log"] == run_log(run)
            if run.events is not None:
                check_stream(run, run.events)
            if run.thread_id is not None:
                thread = await self.client.threads.get(run.thread_id)
                assert (thread["status"], thread.get("error")) == ("idle", None)
        await self._queues_kept_their_order(rows)

    async def _join(self, run: Acknowledged) -> Any:
        """A join that tries again after a 503, as the answer asks for."""
        while True:
            try:
                return await self.client.runs.join(*self._place(run))
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503:
                    raise
                await asyncio.sleep(float(error.response.headers["retry-after"]))

    def _place(self, run: Acknowledged) -> tuple[str, str]:
        thread_id = run.thread_id or str(self.rows()[run.run_id]["thread_id"])
        return thread_id, run.run_id

    async def _queues_kept_their_order(self, rows: dict[str, dict[str, Any]]) -> None:
        for thread_id in {run.thread_id for run in self.runs if run.thread_id}:
            runs = [run for run in self.runs if run.thread_id == thread_id]
            values = (await self.client.threads.get(thread_id))["values"]
            assert values["log"] == [line for run in runs for line in run_log(run)]

    async def aclose(self) -> None:
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await self.client.aclose()


def _made(run: Acknowledged, made: Any) -> None:
    run.run_id = made["run_id"]


def run_log(run: Acknowledged) -> list[str]:
    return [f"{run.name}{number}" for number in range(1, run.steps + 1)]


def check_stream(run: Acknowledged, events: Sequence[Any], *, repeats: int = 1) -> None:
    """Whoever streamed this run has every event, each once, in order; crashes may have repeated supersteps."""
    ids = [tuple(map(int, event.id.split("-"))) for event in events if event.id]
    if len(ids) > 1 and ids[-1] == ids[-2] and events[-1].event == "values":
        # the state in place of an end that a killed worker has not told; it has no id, and the SDK gives it the one before
        ids.pop()
    assert ids == sorted(set(ids)), f"{run}: an event came twice"
    steps = [event.data["step"] for event in events if event.event == "custom"]
    assert sorted(set(steps)) == list(range(1, run.steps + 1)), f"{run}: a gap in {steps}"
    assert len(steps) <= run.steps + repeats, f"{run}: {steps}"
    logs = [event.data["log"] for event in events if event.event == "values" and event.data.get("log")]
    assert logs[-1] == run_log(run)


async def assert_invariants(database_uri: str, **options: Any) -> None:
    spec = importlib.util.spec_from_file_location("workload_invariants", Path(__file__).parent.parent / "invariants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    await module.assert_invariants(database_uri, **options)


MakeWorkload = Callable[..., Workload]


@pytest.fixture
async def workload_on(tmp_path: Path) -> AsyncIterator[MakeWorkload]:
    """Makes workloads, ``workload_on(server, seconds=0.5)``, whose clients are closed when the test is over."""
    made: list[Workload] = []

    def make(server: DevServer | Cluster, **options: Any) -> Workload:
        made.append(Workload(server, server.client(), tmp_path / "journal", **options))
        return made[-1]

    yield make
    for workload in made:
        await workload.aclose()
