"""S14: secrets that are planted wherever a deployment has some, and looked for wherever it says something.

An API process and a worker log everything they can, one as JSON and one as text, with traces, signed webhooks and graphs that are
careless with what they know. Databases go away in the end, so that drivers complain too. Whatever has been said by then, to
clients, receivers, collectors, logs and rows, holds none of it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from collector import Collector, collecting
from dev_server import FOREIGN, ROOT, free_port, until
from figures import Figures
from own_valkey import Start
from psycopg.conninfo import conninfo_to_dict
from tcp_proxy import TcpProxy

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "leaky" / "langgraph.json"
#: What a password may be, in a URI and out of it.
DATABASE_PASSWORD, REDIS_PASSWORD = "canary/database:p@ss", "canary-redis-61e0"
SIGNING = base64.b64encode(b"canary-signing-secret-0123456789").decode()
SECRETS = {
    "the database's password": DATABASE_PASSWORD,
    "the same in a URI": quote(DATABASE_PASSWORD, safe=""),
    "Redis' password": REDIS_PASSWORD,
    "the signing secret": SIGNING,
    "the signing secret itself": "canary-signing-secret",
    "a header of webhooks": "canary-webhook-token-77aa",
    "the project's env": "canary-project-key-81d2",
    "the environment": "canary-model-token-90c3",
    "the encryption key": "canary-aes-key-0123456789abcdef0",
    "the collector's key": "canary-collector-4b4b",
    "the Authorization header": "canary-authorization-a5a5",
    "the header x-api-key": "canary-api-key-c0c0",
    "a cookie": "canary-cookie-d1d1",
    "a parameter of the query": "canary-query-e2e2",
}
#: What users have said: in rows and in answers to them, and nowhere else.
CONTENT = "canary-content-f3f3"
#: What the project's authentication says of a user: in what that user asks for, and in no line, span or number.
OF_THE_USER = "canary-of-the-user-0b0b"
#: Of exceptions whose class clients are not told the text of.
MASKED = "canary-of-the-text"
HEADERS = {
    "authorization": f"Bearer {SECRETS['the Authorization header']}",
    "x-api-key": SECRETS["the header x-api-key"],
    "cookie": f"session={SECRETS['a cookie']}",
}
QUERY = {"api_key": SECRETS["a parameter of the query"]}


@dataclass
class Evidence:
    """Everything that was said, by sink."""

    answers: list[str] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    metrics: str = ""
    spans: str = ""
    webhooks: str = ""
    #: Headers that receivers were sent, without the one that is theirs.
    webhook_headers: str = ""
    rows: str = ""
    events: str = ""
    manifest: str = ""

    @property
    def sinks(self) -> dict[str, str]:
        logs = {f"the log of {name}": text for name, text in self.logs.items()}
        commands = {f"the command {name}": text for name, text in self.commands.items()}
        said = {name: str(getattr(self, name)) for name in ("metrics", "spans", "webhooks", "webhook_headers")}
        kept = {name: str(getattr(self, name)) for name in ("rows", "events", "manifest")}
        return {"answers": "\n".join(self.answers), **logs, **commands, **said, **kept}


@contextmanager
def proxied(uri: str) -> Iterator[tuple[TcpProxy, int]]:
    """The database behind a port, on a thread with a loop of its own."""
    known = conninfo_to_dict(uri)
    started, loop = threading.Event(), asyncio.new_event_loop()
    proxies: list[TcpProxy] = []
    stop = asyncio.Event()

    async def forward() -> None:
        async with TcpProxy.to(str(known["host"]), int(known.get("port") or 5432)) as proxy:
            proxies.append(proxy)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(forward(),))
    thread.start()
    assert started.wait(30)
    try:
        yield proxies[0], proxies[0].port
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def evidence(databases: Any, valkey: Start, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("canaries")
    uri, redis = databases.create(), valkey(password=REDIS_PASSWORD)
    found = Evidence()
    with collecting() as collector, proxied(uri) as (proxy, port):
        name, user = conninfo_to_dict(uri)["dbname"], conninfo_to_dict(uri)["user"]
        environ = {
            "DATABASE_URI": f"postgresql://{user}:{quote(DATABASE_PASSWORD, safe='')}@127.0.0.1:{port}/{name}?sslmode=disable",
            "REDIS_URI": f"redis://:{REDIS_PASSWORD}@127.0.0.1:{redis.port}",
            "WEBHOOK_SIGNING_SECRETS": f"whsec_{SIGNING}",
            "WEBHOOK_VARIABLES": f'{{"LG_WEBHOOK_TOKEN": "{SECRETS["a header of webhooks"]}"}}',
            "WEBHOOK_ALLOWED_HOSTS": "127.0.0.1",
            "MODEL_TOKEN": SECRETS["the environment"],
            "LANGGRAPH_AES_KEY": SECRETS["the encryption key"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-collector={SECRETS['the collector' + chr(39) + 's key']}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "DATABASE_POOL_TIMEOUT_SECS": "0.5",
            "LOG_LEVEL": "DEBUG",
        }
        serving = free_port()
        with (
            process(folder / "serve", ["serve", "--port", str(serving)], environ | {"LOG_JSON": "true"}) as serve,
            process(folder / "worker", ["worker"], environ | {"LOG_JSON": "false"}) as worker,
            httpx.Client(base_url=f"http://127.0.0.1:{serving}", headers=HEADERS, params=QUERY, timeout=60) as client,
        ):
            until(lambda: answers_at(client), "the server")
            drive(client, collector, found)
            look_behind(uri, redis.client(), found)
            look_around(environ, folder, found)
            found.metrics = client.get("/metrics").text + client.get("/metrics", params={"format": "json"}).text
            until(lambda: "langgraph.run_id" in str(collector.raw), "the worker's spans")
            # what drivers say of servers that are gone
            proxy.rule = lambda *_: 0
            redis.client().execute_command("CONFIG", "SET", "requirepass", "another")
            redis.client("another").execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            refused = [send(client, found, "GET", f"/threads/{THREAD}") for _ in range(3)]
            assert {response.status_code for response in refused} <= {500, 503}
            until(
                lambda: "sweep" in worker.read_text() or "out of reach" in worker.read_text(), "the worker to complain"
            )
        found.logs = {"serve": serve.read_text(), "worker": worker.read_text()}
        found.spans = "\n".join(map(str, [*collector.spans, *collector.raw]))
        found.webhooks = "\n".join(body.decode() for body in collector.bodies)
        found.webhook_headers = str([{**post, "x-partner": ""} for post in collector.posts])
        assert all(SECRETS["a header of webhooks"] in post["x-partner"] for post in collector.posts)
    databases.drop(uri)
    return found


THREAD = "00000000-0000-4000-8000-00000000c0de"


@contextmanager
def process(log: Path, arguments: list[str], environ: dict[str, str]) -> Iterator[Path]:
    with log.open("wb") as output:
        started = subprocess.Popen(
            [*COMMAND, arguments[0], "--config", str(PROJECT), *arguments[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=inherited() | environ,
            start_new_session=True,
        )
    try:
        yield log
    finally:
        started.terminate()
        try:
            started.wait(5)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


COMMAND = [sys.executable, "-P", "-c", "from langgraph_serverless.cli.main import main; main()"]


def inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not any(word in name for word in FOREIGN)}


def answers_at(client: httpx.Client) -> bool:
    try:
        return client.get("/ok").is_success
    except httpx.TransportError:
        return False


def send(client: httpx.Client, found: Evidence, method: str, path: str, **more: Any) -> httpx.Response:
    response = client.request(method, path, **more)
    found.answers.append(f"{method} {path} {response.status_code} {dict(response.headers)} {response.text}")
    return response


def drive(client: httpx.Client, collector: Collector, found: Evidence) -> None:
    """Runs of all kinds, errors of all kinds."""

    def ask(method: str, path: str, body: Any = None, **more: Any) -> Any:
        response = send(client, found, method, path, **({} if body is None else {"json": body}), **more)
        return response.json() if response.headers.get("content-type") == "application/json" else response.text

    ask("POST", "/threads", {"thread_id": THREAD, "metadata": {"about": CONTENT}})
    hook = f"{collector.url}/hook"
    for graph in ("fine", "shown", "masked"):
        run = {"assistant_id": graph, "input": {"said": [CONTENT]}, "metadata": {"about": CONTENT}}
        run |= {"config": {"configurable": {"tone": CONTENT}}, "webhook": hook}
        ask("POST", f"/threads/{THREAD}/runs/wait", run)
        for modes in (["values", "updates", "tasks", "debug", "events", "checkpoints"],):
            ask("POST", f"/threads/{THREAD}/runs/stream", {**run, "stream_mode": modes, "stream_resumable": True})
        ask("POST", "/runs/wait", run)
        for path in ("", "/state", "/history", "/runs"):
            ask("GET", f"/threads/{THREAD}{path}")
        begin = {"id": 1, "method": "run.start", "params": {"assistant_id": graph, "input": {"said": [CONTENT]}}}
        ask("POST", f"/threads/{THREAD}/commands", begin)
        until(lambda: ask("GET", f"/threads/{THREAD}")["status"] != "busy", "the command's run")
        ask("GET", f"/threads/{THREAD}/state")
        follow(client, found, f"/threads/{THREAD}/stream/events")
        (run, *_) = ask("GET", f"/threads/{THREAD}/runs?limit=1")
        ask("GET", f"/threads/{THREAD}/runs/{run['run_id']}/join")
        ask("GET", f"/threads/{THREAD}/runs/{run['run_id']}/stream", headers={"last-event-id": "0"})
        call = {"name": graph, "arguments": {"said": [CONTENT]}}
        for accept in ("application/json", "text/event-stream"):
            ask(
                "POST",
                "/mcp",
                {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call},
                headers={"accept": accept},
            )
    ask("POST", "/threads/search", {})
    ask("POST", "/assistants", {"graph_id": "fine", "config": {"configurable": {"tone": CONTENT}}})
    ask("POST", "/assistants", {"graph_id": CONTENT})
    ask("PUT", "/store/items", {"namespace": ["a"], "key": "k", "value": {"said": CONTENT}})
    ask("POST", "/runs/crons", {"assistant_id": "fine", "schedule": "@yearly", "input": {"said": [CONTENT]}})
    for method, path, body in (
        ("GET", "/nowhere", None),
        ("GET", "/threads/no-id", None),
        ("PUT", "/threads", None),
        ("POST", "/threads", {"metadata": 7}),
        ("POST", "/runs", {"assistant_id": "fine", "webhook": "http://169.254.169.254/"}),
        ("POST", f"/threads/{THREAD}/runs/wait", {"assistant_id": "fine", "command": {"goto": "nowhere"}}),
        ("GET", "/info", None),
        ("GET", "/openapi.json", None),
        ("GET", "/docs", None),
        ("GET", "/ok?check_db=1", None),
    ):
        ask(method, path, body)
    # the project's handlers fail, and say all that they know
    for word in ("broken", "refused", "denied"):
        known = SECRETS["the Authorization header"]
        response = send(client, found, "GET", f"/threads/{THREAD}", headers={"authorization": f"Bearer {word} {known}"})
        assert response.status_code == {"broken": 500, "refused": 401, "denied": 500}[word]
    until(lambda: len(collector.bodies) >= 9, "the webhooks")


def follow(client: httpx.Client, found: Evidence, path: str) -> None:
    """What protocol v2 tells of the thread so far; it goes on for ever, so only until it has told of an end."""
    wanted = {"channels": ["lifecycle", "tasks", "values", "messages", "tools", "updates"]}
    with client.stream("POST", path, json=wanted) as response:
        said = ""
        for piece in response.iter_text():
            said += piece
            if '"failed"' in said or said.count('"completed"') > 1:
                break
    found.answers.append(f"POST {path} {response.status_code} {said}")


def look_behind(uri: str, redis: Any, found: Evidence) -> None:
    """Rows of the server's own tables, and the log of events."""
    with psycopg.connect(uri, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'lgs'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f'SELECT t::text FROM lgs."{table}" AS t').fetchall()
            found.rows += "\n".join(f"{table} {row}" for (row,) in rows)
    for key in redis.scan_iter("*"):
        if redis.type(key) == "stream":
            found.events += f"{key} {redis.xrange(key)}\n"
    assert "masked" in found.rows
    assert "ValueError" in found.events


def look_around(environ: dict[str, str], folder: Path, found: Evidence) -> None:
    """What commands say."""
    manifest = folder / "manifest.json"
    given = [
        ["doctor", "--config", str(PROJECT), "--json"],
        ["manifest", "--config", str(PROJECT), "--output", str(manifest)],
    ]

    def say(arguments: list[str]) -> str:
        done = subprocess.run(
            [*COMMAND, *arguments], env=inherited() | environ, capture_output=True, text=True, check=False
        )
        return f"{done.returncode} {done.stdout} {done.stderr}"

    with ThreadPoolExecutor(2) as threads:
        found.commands = dict(zip((each[0] for each in given), threads.map(say, given), strict=True))
    found.manifest = manifest.read_text()


def test_no_secret_is_in_any_sink(evidence: Evidence, figures: Figures) -> None:
    hits = [
        (sink, about, *re.findall(f".{{0,200}}{re.escape(secret)}", text)[:1])
        for sink, text in evidence.sinks.items()
        for about, secret in SECRETS.items()
        if secret in text
    ]
    assert not hits, "\n".join(map(str, hits))
    size = sum(len(text) for text in evidence.sinks.values())
    figures("S14", sinks=len(evidence.sinks), secrets=len(SECRETS), bytes=size, hits=0)


def test_the_sinks_are_full(evidence: Evidence) -> None:
    """Or nothing could be found in them."""
    for sink, text in evidence.sinks.items():
        assert len(text) > 20, sink
    assert "calling the partner with DATABASE_URI is postgresql://" in evidence.logs["worker"]
    assert "PARTNER_API_KEY is ***" in evidence.logs["worker"]
    assert evidence.logs["serve"].count("the directory was asked for ***") >= 2
    assert OF_THE_USER in evidence.rows
    assert "the partner refuses: DATABASE_URI is postgresql://" in "".join(evidence.answers)
    assert '"problems": 0' in evidence.commands["doctor"]


def test_what_users_say_is_theirs(evidence: Evidence) -> None:
    for sink in ("metrics", "spans", "manifest", "the log of serve"):
        assert CONTENT not in evidence.sinks[sink], sink
    for sink in (
        "metrics",
        "spans",
        "manifest",
        "the log of serve",
        "the log of worker",
        "webhook_headers",
        "webhooks",
    ):
        assert OF_THE_USER not in evidence.sinks[sink], sink
    for sink, text in evidence.sinks.items():
        if sink.startswith("the command"):
            assert CONTENT not in text, sink


def test_texts_of_exceptions_are_for_operators(evidence: Evidence) -> None:
    """Of a class that nobody is told the text of: in the worker's log, and in the state of the thread, as on the official server."""
    for sink in ("metrics", "spans", "webhooks", "events", "the log of serve"):
        assert MASKED not in evidence.sinks[sink], sink
    for answer in evidence.answers:
        where = answer.split()[1]
        if not where.endswith(("/state", "/history")):
            assert MASKED not in answer, answer[:500]
    assert MASKED in evidence.logs["worker"]
