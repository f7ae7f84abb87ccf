"""Clients ask for everything at once while everything fails, and what they were told is checked afterwards (R25).

Eight clients work on shared threads through two API processes, with three workers, of which one reaches Postgres through a
proxy. Meanwhile, one after the other and at random: workers and APIs are killed, Postgres is restarted, Redis is emptied or
stopped, the proxy lets nothing pass for longer than a lease. After that comes calm, in which everything has to come right.
``MINUTES`` says for how long.
"""

from __future__ import annotations

import asyncio
import os
import random
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from figures import Figures
from history import FINAL, GONE, History, Operation, check
from redis.asyncio import Redis
from whole_site import Site, own_site
from workload import assert_invariants

CLIENTS, THREADS, APIS, WORKERS = 8, 24, 2, 3
#: Runs of one thread; then it is left alone, so that its log stays short.
RUNS_OF_A_THREAD = 15
#: After the last fault, within which every run has to end (seconds).
CALM = 120.0


@dataclass
class Faults:
    """What fails, one thing at a time."""

    site: Site
    chance: random.Random
    count: Counter[str] = field(default_factory=Counter)

    async def until(self, deadline: float, pace: tuple[float, float]) -> None:
        loop = asyncio.get_running_loop()
        kinds = [self.kill_worker, self.kill_worker, self.kill_api, self.restart_postgres, self.empty_redis]
        kinds += [self.stop_redis, self.cut_worker_off]
        self.chance.shuffle(kinds)
        for number in range(10**6):
            await asyncio.sleep(self.chance.uniform(*pace))
            if loop.time() > deadline:
                return
            # each kind in turn, so that a short form has them all
            fault = kinds[number % len(kinds)]
            await fault()
            self.count[fault.__name__] += 1
            self.site.start_all()

    async def kill_worker(self) -> None:
        self.site.kill_worker(self.chance.randrange(WORKERS))

    async def kill_api(self) -> None:
        self.site.kill_api(self.chance.randrange(APIS))

    async def restart_postgres(self) -> None:
        await asyncio.to_thread(self.site.postgres.stop)
        await asyncio.sleep(self.chance.uniform(0, 2))
        await asyncio.to_thread(self.site.postgres.start)

    async def empty_redis(self) -> None:
        async with Redis.from_url(self.site.environ["REDIS_URI"]) as redis:
            await redis.flushall()

    async def stop_redis(self) -> None:
        await asyncio.to_thread(self.site.valkey.stop)
        await asyncio.sleep(self.chance.uniform(1, 5))
        await asyncio.to_thread(self.site.valkey.start)

    async def cut_worker_off(self) -> None:
        """For up to three leases; nothing is closed, it only does not pass."""
        self.site.proxy.flowing.clear()
        await asyncio.sleep(self.chance.uniform(1, 9))
        self.site.proxy.flowing.set()


@dataclass
class Client:
    """One client, that asks at random and notes what it is told."""

    name: str
    site: Site
    history: History
    shared: Shared
    chance: random.Random
    http: httpx.AsyncClient
    made: int = 0

    async def work(self, over: asyncio.Event) -> None:
        asks = {
            self.create: 6,
            self.get: 10,
            self.list: 6,
            self.search: 2,
            self.cancel: 2,
            self.delete: 1,
            self.join: 2,
            self.wait: 2,
            self.write: 3,
            self.read: 3,
        }
        while not over.is_set():
            [ask] = self.chance.choices(list(asks), list(asks.values()))
            await ask()
            await asyncio.sleep(self.chance.uniform(0.05, 0.35))

    async def ask(
        self, operation: Operation, method: str, path: str, understood: Callable[[httpx.Response], Any], **options: Any
    ) -> Any:
        """Send a request; note and return what it came to. What is not understood: None."""
        changes = method != "GET" and not path.endswith("/search")
        port = self.chance.choice(self.site.ports)
        try:
            answer = await self.http.request(method, f"http://127.0.0.1:{port}{path}", **options)
        except httpx.HTTPError:
            self.history.end(operation, "info" if changes else "fail")
            return None
        self.shared.answers[answer.status_code] += 1
        if answer.status_code >= 500:
            if answer.status_code != 503 or "retry-after" not in answer.headers:
                self.shared.wrong.append(f"{operation} was answered {answer.status_code} {answer.text}")
            self.history.end(operation, "info" if changes else "fail")
            return None
        if answer.status_code == 404 and not changes:
            self.history.end(operation, "ok", GONE)
        elif answer.is_success:
            self.history.end(operation, "ok", understood(answer))
        else:
            self.history.end(operation, "fail")
        return operation.result

    def thread(self) -> str:
        return self.chance.choice(self.shared.threads)

    def run(self) -> tuple[str, str] | None:
        """A run that somebody knows of, mostly a new one."""
        known = self.shared.runs
        return self.chance.choice(known[-40:] if self.chance.random() < 0.8 else known) if known else None

    async def make_thread(self) -> str | None:
        thread_id = str(uuid.UUID(int=self.chance.getrandbits(128), version=4))
        operation = self.history.invoke(self.name, "make", thread=thread_id)
        body = {"thread_id": thread_id, "if_exists": "do_nothing", "metadata": {"of": thread_id}}
        made = await self.ask(operation, "POST", "/threads", lambda answer: answer.json()["thread_id"], json=body)
        return made and str(made)

    def _body(self, thread: str) -> dict[str, Any]:
        self.made += 1
        self.shared.made[thread] += 1
        name, steps = f"{self.name}r{self.made}-", self.chance.randrange(1, 4)
        return {
            "assistant_id": "steps",
            "input": {"name": name, "steps": steps, "seconds": 0.1},
            "metadata": {"name": name},
            "durability": "sync",
            "multitask_strategy": "reject" if self.chance.random() < 0.1 else "enqueue",
        }

    async def create(self) -> None:
        """Half of them have a key, and are sent until there is an answer."""
        thread = self.thread()
        if self.shared.made[thread] >= RUNS_OF_A_THREAD:
            if (new := await self.make_thread()) is not None and thread in self.shared.threads:
                self.shared.threads[self.shared.threads.index(thread)] = new
                self.shared.all_threads.append(new)
            return
        body = self._body(thread)
        key = body["metadata"]["name"] if self.chance.random() < 0.5 else None
        for _ in range(10 if key else 1):
            given = body["input"]
            operation = self.history.invoke(
                self.name, "create", thread=thread, name=given["name"], steps=given["steps"], key=key
            )
            headers = {"Idempotency-Key": key} if key else {}
            path = f"/threads/{thread}/runs"
            made = await self.ask(
                operation, "POST", path, lambda answer: answer.json()["run_id"], json=body, headers=headers
            )
            if made is not None:
                self.shared.runs.append((thread, made))
            if operation.outcome != "info":
                return
            await asyncio.sleep(0.3)

    async def get(self) -> None:
        if (known := self.run()) is not None:
            operation = self.history.invoke(self.name, "get", run=known[1])
            path = f"/threads/{known[0]}/runs/{known[1]}"
            await self.ask(operation, "GET", path, lambda answer: answer.json()["status"])

    async def list(self) -> None:
        thread = self.thread()
        operation = self.history.invoke(self.name, "list", thread=thread)
        await self.ask(operation, "GET", f"/threads/{thread}/runs?limit=1000", _statuses)

    async def search(self) -> None:
        thread = self.thread()
        operation = self.history.invoke(self.name, "search", thread=thread)
        body = {"metadata": {"of": thread}}
        await self.ask(operation, "POST", "/threads/search", lambda answer: len(answer.json()) == 1, json=body)

    async def cancel(self) -> None:
        if (known := self.run()) is not None:
            rollback = self.chance.random() < 0.3
            operation = self.history.invoke(self.name, "cancel", run=known[1], rollback=rollback)
            wait, action = self.chance.choice(["true", "false"]), "rollback" if rollback else "interrupt"
            path = f"/threads/{known[0]}/runs/{known[1]}/cancel?wait={wait}&action={action}"
            await self.ask(operation, "POST", path, lambda _: True)

    async def delete(self) -> None:
        if (known := self.run()) is not None:
            operation = self.history.invoke(self.name, "delete", run=known[1])
            await self.ask(operation, "DELETE", f"/threads/{known[0]}/runs/{known[1]}", lambda _: True)

    async def join(self) -> None:
        if (known := self.run()) is not None:
            operation = self.history.invoke(self.name, "join", run=known[1])
            await self.ask(operation, "GET", f"/threads/{known[0]}/runs/{known[1]}/join", _log)

    async def wait(self) -> None:
        """A run that is waited for: a create, and, as its name is in the address, a join."""
        thread = self.thread()
        if self.shared.made[thread] >= RUNS_OF_A_THREAD:
            return
        body = self._body(thread)
        given = body["input"]
        operation = self.history.invoke(self.name, "create", thread=thread, name=given["name"], steps=given["steps"])
        waited = self.history.invoke(self.name, "join", run="")
        log: list[str] | None = None

        def understood(answer: httpx.Response) -> str:
            nonlocal log
            log = _log(answer)
            return answer.headers["content-location"].rpartition("/")[2]

        made = await self.ask(operation, "POST", f"/threads/{thread}/runs/wait", understood, json=body)
        if made is not None:
            self.shared.runs.append((thread, made))
            waited.args = {"run": made}
            self.history.end(waited, "ok", log)
        else:
            self.history.end(waited, "fail")

    async def write(self) -> None:
        """Threads without runs are there for this."""
        self.made += 1
        thread, line = self.chance.choice(self.shared.states), f"{self.name}w{self.made}"
        operation = self.history.invoke(self.name, "write", thread=thread, line=line)
        body = {"values": {"log": [line]}, "as_node": "step"}
        await self.ask(operation, "POST", f"/threads/{thread}/state", lambda _: True, json=body)

    async def read(self) -> None:
        thread = self.chance.choice(self.shared.states)
        operation = self.history.invoke(self.name, "read", thread=thread)
        await self.ask(operation, "GET", f"/threads/{thread}/state", lambda answer: _values(answer.json()))

    async def settled(self, thread: str) -> None:
        """What a thread has come to, once all is calm."""
        operation = self.history.invoke(self.name, "final", thread=thread)
        runs = (await self.http.get(f"{self.site.url}/threads/{thread}/runs?limit=1000")).raise_for_status().json()
        state = (await self.http.get(f"{self.site.url}/threads/{thread}/state")).raise_for_status().json()
        found = {run["run_id"]: {"name": run["metadata"]["name"], "status": run["status"]} for run in runs}
        self.history.end(operation, "ok", {"runs": found, "log": _values(state)})


@dataclass
class Shared:
    """What all clients know."""

    threads: list[str] = field(default_factory=list)
    all_threads: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    #: Thread and run.
    runs: list[tuple[str, str]] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def _statuses(answer: httpx.Response) -> dict[str, str]:
    return {run["run_id"]: run["status"] for run in answer.json()}


def _values(state: Any) -> list[str]:
    return list((state["values"] or {}).get("log", []))


def _log(answer: httpx.Response) -> list[str]:
    values = answer.json()
    return list(values.get("log", [])) if isinstance(values, dict) else []


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SimpleNamespace(minutes=0.5, pace=(0.5, 2.0)), id="short"),
        pytest.param(SimpleNamespace(minutes=float(os.environ.get("MINUTES", "10")), pace=(3.0, 12.0)), id="full"),
    ],
)
@pytest.mark.slow
@pytest.mark.timeout(7200)
async def test_whatever_fails_clients_are_told_a_history_that_can_be(
    tmp_path: Path, size: SimpleNamespace, seed: int, figures: Figures
) -> None:
    chance = random.Random(seed)
    history, shared, over = History(), Shared(), asyncio.Event()
    limits = httpx.Limits(max_connections=200)
    async with (
        own_site(tmp_path, apis=APIS, workers=WORKERS, MAX_RUN_ATTEMPTS="10") as site,
        httpx.AsyncClient(timeout=60, limits=limits) as http,
    ):
        faults = Faults(site, chance)
        site.start_all()
        clients = [
            Client(f"c{number}", site, history, shared, random.Random(chance.random()), http)
            for number in range(CLIENTS)
        ]
        await site.up()
        for _ in range(THREADS):
            shared.threads.append(await clients[0].make_thread() or "")
        for _ in range(4):
            shared.states.append(await clients[0].make_thread() or "")
        shared.all_threads += shared.threads
        assert all(shared.threads + shared.states), "there is calm before the faults"

        work = [asyncio.create_task(client.work(over)) for client in clients]
        await faults.until(asyncio.get_running_loop().time() + size.minutes * 60, size.pace)
        await site.up()
        over.set()
        await asyncio.gather(*work)
        stuck = await _calm(site)
        for thread in shared.all_threads:
            await clients[0].settled(thread)
        history.save(tmp_path / "history.jsonl")
        wrong = check(history.operations) + shared.wrong
        outcomes = Counter(operation.outcome for operation in history.operations)
        figures(
            "R25" if size.minutes > 1 else "R25 short",
            minutes=size.minutes,
            clients=CLIENTS,
            operations=len(history.operations),
            **outcomes,
            refused_503=shared.answers[503],
            runs=len(set(shared.runs)),
            **faults.count,
            stuck=stuck,
            wrong=len(wrong),
            seed=seed,
        )
        assert not wrong, "\n".join([f"{len(wrong)} (all in {tmp_path / 'history.jsonl'})", *wrong[:20]])
        assert stuck == 0
        assert faults.count.total() >= min(7, size.minutes * 3)
        await assert_invariants(site.database_uri, worker=True)


async def _calm(site: Site) -> int:
    """Wait for all runs to end; how many have not."""
    waiting = "SELECT count(*) AS count FROM lgs.run WHERE NOT status = ANY(%s)"
    deadline = asyncio.get_running_loop().time() + CALM
    while True:
        count = int(site.rows(waiting, (list(FINAL),))[0]["count"])
        if count == 0 or asyncio.get_running_loop().time() > deadline:
            return count
        await asyncio.sleep(0.5)
