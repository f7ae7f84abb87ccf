"""Every function is frozen between its invocations, and Postgres and Redis close its connections meanwhile (R28): the first invocation
after the thaw succeeds. And how many connections each sandbox has (C5).

The functions are those that are deployed, each in a process under Lambda's client (``stream`` under ours), which gets SIGSTOP and SIGCONT.
They play a round of a deployment's life together: a run is made, executed, followed, and its state is read.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from dev_server import PATIENCE, ROOT, until
from figures import Figures
from streaming_function import WRAPPER, Sandbox, answer_of, rest_event
from workload import assert_invariants

from langgraph_serverless.containers.migrate import migrate_and_seed
from langgraph_serverless.domain.manifest import encode
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.settings import Settings

FUNCTIONS = ("threads", "runs", "stream", "state", "crons", "worker", "scheduler")
PROJECT = ROOT / "tests" / "fixtures" / "projects" / "run_path" / "langgraph.json"
#: So many runs at once in the worker, and the connections that they share.
JOBS, WORKERS_POOL = 5, 3


class Deployment:
    """One sandbox of each function, on a database of their own."""

    def __init__(self, folder: Path, database_uri: str, redis_uri: str) -> None:
        (folder / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
        prefix = f"frozen-{folder.name}"
        environ = {
            **os.environ,
            "DATABASE_URI": database_uri,
            "REDIS_KEY_PREFIX": prefix,
            "LANGGRAPH_CONFIG": str(PROJECT),
            "LANGGRAPH_MANIFEST": "langgraph_manifest.json",
            "DATABASE_POOL_MIN_SIZE": "0",
            "DATABASE_POOL_MAX_SIZE": "1",
            "N_JOBS_PER_WORKER": str(JOBS),
            "WORKER_IDLE_GRACE_SECS": "0.2",
        }
        manifest = asyncio.run(build_manifest(GraphRegistry.load(read_project(PROJECT))))
        (folder / "langgraph_manifest.json").write_text(encode(manifest))
        asyncio.run(migrate_and_seed(Settings(database_uri=database_uri), manifest=manifest))
        self.names = {name: f"{prefix}-{name}" for name in FUNCTIONS}
        self.sandboxes = {
            name: Sandbox(
                f"langgraph_serverless_functions.{name}.handler.handler",
                folder,
                {
                    **environ,
                    # by these Postgres and Redis tell them apart
                    "PGAPPNAME": self.names[name],
                    "REDIS_URI": f"{redis_uri}{'&' if '?' in redis_uri else '?'}client_name={self.names[name]}",
                    "AWS_LAMBDA_FUNCTION_NAME": name,
                    **({"DATABASE_POOL_MAX_SIZE": str(WORKERS_POOL)} if name == "worker" else {}),
                },
                folder / f"{name}.output",
                wrapper=WRAPPER if name == "stream" else None,
            )
            for name in FUNCTIONS
        }
        self.admin = psycopg.connect(database_uri, autocommit=True)
        self.redis = redis.Redis.from_url(redis_uri, decode_responses=True)
        self.invoked = 0

    def close(self) -> None:
        for sandbox in self.sandboxes.values():
            sandbox.process.kill()
            sandbox.close()
        self.admin.close()
        for key in self.redis.scan_iter(f"{self.names['worker'].removesuffix('-worker')}:*"):
            self.redis.delete(key)
        self.redis.close()

    # -- invocations ---------------------------------------------------------------------------------------------------

    def ask(self, name: str, method: str, path: str, document: Any = None) -> Any:
        """A request that is answered with 200 at the first try."""
        body = None if document is None else json.dumps(document).encode()
        invocation = self.sandboxes[name].invoke(rest_event(path, method, body))
        self.invoked += 1
        answer = self._result(name, invocation)
        assert answer["statusCode"] == 200, (path, answer)
        return json.loads(answer["body"])

    def follow(self, path: str) -> Any:
        """A stream that has begun."""
        self.invoked += 1
        return self.sandboxes["stream"].invoke(rest_event(path))

    def invoke(self, name: str) -> Any:
        self.invoked += 1
        return self._result(name, self.sandboxes[name].invoke({}))

    def _result(self, name: str, invocation: Any) -> Any:
        assert invocation.done.wait(PATIENCE), self.sandboxes[name].output
        assert invocation.error is None, (invocation.error, self.sandboxes[name].output)
        return json.loads(bytes(invocation.body))

    # -- what there is between them ------------------------------------------------------------------------------------

    def connections(self) -> dict[str, tuple[int, int]]:
        """Of each sandbox: to Postgres, to Redis."""
        rows = self.admin.execute("SELECT application_name FROM pg_stat_activity WHERE datname = current_database()")
        ours, theirs = Counter(row[0] for row in rows), Counter(each["name"] for each in self.redis.client_list())
        return {name: (ours[known], theirs[known]) for name, known in self.names.items()}

    def freeze(self) -> None:
        for sandbox in self.sandboxes.values():
            sandbox.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for sandbox in self.sandboxes.values():
            sandbox.process.send_signal(signal.SIGCONT)

    def close_connections(self) -> None:
        """From the servers' side."""
        self.admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = ANY(%s)",
            [list(self.names.values())],
        )
        for each in self.redis.client_list():
            if each["name"] in self.names.values():
                self.redis.client_kill_filter(_id=each["id"])
        assert set(self.connections().values()) == {(0, 0)}


@pytest.fixture
def deployment(databases: Any, redis_uri: str, tmp_path: Path) -> Iterator[Deployment]:
    with ExitStack() as stack:
        uri = databases.create()
        stack.callback(databases.drop, uri)
        deployment = Deployment(tmp_path, uri, redis_uri)
        stack.callback(deployment.close)
        for sandbox in deployment.sandboxes.values():
            sandbox.started()
        yield deployment
        asyncio.run(assert_invariants(uri, worker=True))


@pytest.fixture
def most(deployment: Deployment) -> Iterator[dict[str, tuple[int, int]]]:
    """The most connections that each sandbox had at any time."""
    seen = dict.fromkeys(FUNCTIONS, (0, 0))
    stop = threading.Event()
    watcher = psycopg.connect(deployment.admin.info.dsn, password=deployment.admin.info.password, autocommit=True)

    def watch() -> None:
        own = Deployment.__new__(Deployment)
        own.admin, own.redis, own.names = watcher, deployment.redis, deployment.names
        while not stop.wait(0.02):
            now = own.connections()
            for name in FUNCTIONS:
                seen[name] = (max(seen[name][0], now[name][0]), max(seen[name][1], now[name][1]))

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    stop.set()
    thread.join()
    watcher.close()


def test_the_first_invocation_after_a_thaw_succeeds(
    deployment: Deployment, most: dict[str, tuple[int, int]], figures: Figures
) -> None:
    assert set(deployment.connections().values()) == {(0, 0)}, "a start opens nothing"
    rounds = 2
    for number in range(rounds):
        thread = deployment.ask("threads", "POST", "/threads", {})["thread_id"]
        wanted = {"assistant_id": "slow_steps", "input": {"count": 2}}
        run = deployment.ask("runs", "POST", f"/threads/{thread}/runs", wanted)["run_id"]
        deployment.ask("runs", "POST", "/runs/batch", [wanted] * (2 * JOBS))
        followed = deployment.follow(f"/threads/{thread}/runs/{run}/stream")
        report = deployment.invoke("worker")
        assert report["succeeded"] == 1 + 2 * JOBS, report
        metadata, content = answer_of(followed)
        assert (metadata["statusCode"], content.count(b"event: values")) == (200, 3), content
        assert deployment.ask("state", "GET", f"/threads/{thread}/state")["values"]["count"] == 0
        deployment.ask("crons", "POST", "/runs/crons/search", {})
        assert deployment.invoke("scheduler")["failures"] == 0
        # background functions close what they have opened; the others keep what the next request needs
        until(
            lambda: deployment.connections()["worker"] == deployment.connections()["scheduler"] == (0, 0),
            "what the worker and the scheduler have opened to be closed",
        )
        if number == rounds - 1:
            break
        deployment.freeze()
        deployment.close_connections()
        deployment.thaw()
    between = deployment.connections()
    for name in ("threads", "runs", "stream", "crons", "state"):
        assert most[name][0] <= 1, (name, most)
        assert between[name][1] <= 1, (name, between)
    # its heartbeat has one of its own
    assert most["worker"][0] <= WORKERS_POOL + 1, most
    told = {name: f"{ours}+{theirs}" for name, (ours, theirs) in most.items()}
    figures("R28", rounds=rounds, invocations=deployment.invoked, failed=0)
    figures("C5", **told)
