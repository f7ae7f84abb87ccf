"""What outlasts the invocation of the stream function in which it began: streams of runs, of threads and of the thread
protocol, and waits. The SDK knows nothing of it.

The function is the real one under its wrapper script, in processes of its own with a time limit of a few seconds, behind what
API Gateway does (``tests/support/streaming_function.py``). Workers and everything else are those of a cluster.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import javascript
import pytest
from cluster import Cluster
from dev_server import PATIENCE, until
from figures import Figures, sizes
from langgraph_sdk import get_client
from streaming_function import Function, Gateway, bundle, rest_event
from workload import RECONNECTING

from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.manifest import build_manifest
from langgraph_serverless.execution.project import read_project

#: Of an invocation; half of it is left when it breaks off.
TIMEOUT, MARGIN = 2.4, 1.2
#: How long the SDK waits before it comes back, in the fast form: hardly, but five times must be enough for a busy machine.
BACKOFF = (0.1, 0.1, 0.1, 4.0, 5.0)


@pytest.fixture
def function(cluster: Cluster, tmp_path: Path) -> Iterator[Function]:
    config = cluster.settings().config_path
    assert config is not None
    manifests: list[Any] = []
    # on a thread, as the tests' own event loop is running already
    builder = threading.Thread(
        target=lambda: manifests.append(asyncio.run(build_manifest(GraphRegistry.load(read_project(config)))))
    )
    builder.start()
    builder.join()
    root = bundle(tmp_path / "bundle", manifests[0].to_json())
    environ = {
        **cluster.environ,
        "LANGGRAPH_MANIFEST": "langgraph_manifest.json",
        "STREAM_DEADLINE_MARGIN_SECS": str(MARGIN),
    }
    handler = "langgraph_serverless_functions.stream.handler.handler"
    function = Function(handler, root, environ, tmp_path, timeout=TIMEOUT)
    try:
        yield function
    finally:
        function.close()


@pytest.fixture
def gateway(function: Function, cluster: Cluster) -> Iterator[Gateway]:
    gateway = Gateway(function, cluster.url)
    yield gateway
    gateway.close()


def of(function: Function, run_id: str) -> list[Any]:
    """The invocations that followed this run: the one that made it, and those that its client came back to."""
    return [
        one
        for one in function.invocations
        if run_id in path_of(one)
        or (path_of(one).endswith(("runs/stream", "runs/wait")) and run_id.encode() in bytes(one.body))
    ]


def path_of(invocation: Any) -> str:
    path: str = json.loads(invocation.payload)["path"]
    return path


def assert_what_was_logged(function: Function) -> None:
    """Every invocation's lines carry its ids; the counts leave as metrics, at once."""
    # those whose client has left end with their time
    until(lambda: all(one.done.is_set() for one in function.invocations), "all invocations to end")
    until(lambda: metric(function, "StreamsCarriedOver") == cut_off(function), "the last invocation's metrics")
    assert metric(function, "ColdStart") == len(function.sandboxes)
    told = [line for line in lines(function) if line.get("action") == "carried_over"]
    assert {line["function_request_id"] for line in told} == {
        one.request_id for one in function.invocations if one.error is not None
    }
    assert {line["correlation_id"] for line in told} == {"from-the-gateway"}
    assert not [line for line in lines(function) if line.get("level") in ("WARNING", "ERROR")]


def lines(function: Function) -> list[dict[str, Any]]:
    texts = [line for sandbox in function.sandboxes for line in sandbox.output.splitlines()]
    return [json.loads(text) for text in texts if text.startswith("{")]


def metric(function: Function, name: str) -> int:
    return int(sum(line[name][0] for line in lines(function) if name in line and "_aws" in line))


def cut_off(function: Function) -> int:
    return sum(one.error is not None for one in function.invocations)


@pytest.mark.filterwarnings(*RECONNECTING)
@sizes(timeout=900, streams=(2, 8), tokens=(40, 600))
async def test_streams_go_on_in_the_next_invocation(
    cluster: Cluster,
    function: Function,
    gateway: Gateway,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
    size: Any,
) -> None:
    """Nobody takes their runs at first, so they are also cut before there is any event."""
    if not size.full:
        monkeypatch.setattr("langgraph_sdk._async.http._reconnect_delay", lambda attempt, **_: BACKOFF[attempt])
    function.warm(size.streams + (4 if size.full else 2))
    given = {"steps": size.tokens, "seconds": 0.05}
    runs: dict[int, dict[str, Any]] = {}

    async with get_client(url=gateway.url, api_key=None) as client:

        async def stream(number: int) -> list[tuple[str, Any, str | None]]:
            resumable = number % 2 == 0
            thread_id = watched if number == 0 else (await client.threads.create())["thread_id"] if resumable else None
            parts = client.runs.stream(
                thread_id,
                "tokens",
                input=given,
                stream_mode="custom",
                stream_resumable=resumable,
                on_run_created=lambda made: runs.__setitem__(number, made),
            )
            return [(part.event, part.data, part.id) async for part in parts]

        async def wait() -> Any:
            thread = await client.threads.create()
            # a short one, in the full form too: the SDK comes back five times, each time later
            return await client.runs.wait(
                thread["thread_id"],
                "tokens",
                input={**given, "steps": 44 if size.full else 30},
                on_run_created=lambda made: runs.__setitem__(-1, made),
            )

        async def watch(thread_id: str) -> list[int]:
            """The thread's stream, which never ends, until it has shown all tokens of one run."""
            tokens = []
            async for part in await client.threads.join_stream(thread_id, stream_mode="run_modes"):
                if part.event == "custom":
                    tokens.append(part.data["token"])
                    if len(tokens) == size.tokens:
                        break
            return tokens

        async def session() -> list[int]:
            """The same as events of the thread protocol."""
            async with client.threads.stream(assistant_id="tokens") as thread:
                await thread.run.start(input=given)
                events = [event async for event in thread.subscribe(["custom"])]
                return [event["params"]["data"]["payload"]["token"] for event in events]

        watched = (await client.threads.create())["thread_id"]
        following = [asyncio.create_task(stream(number)) for number in range(size.streams)]
        waiting = asyncio.create_task(wait())
        # a session takes several connections, and each of them a process
        others = [asyncio.create_task(follow) for follow in (watch(watched), *([session()] if size.full else []))]
        await asyncio.to_thread(until, lambda: cut_off(function) > size.streams, "all of them to be cut once")
        cluster.worker()
        streamed = await asyncio.gather(*following)
        output = await waiting
        for tokens in await asyncio.gather(*others):
            assert tokens == list(range(size.tokens))

    gaps = repeats = 0
    for events in streamed:
        tokens = [data["token"] for event, data, _ in events if event == "custom"]
        assert [event for event, _, _ in events if event != "custom"] == ["metadata"]
        assert events[0][0] == "metadata"
        gaps += len(set(range(size.tokens)) - set(tokens))
        repeats += len(tokens) - len(set(tokens))
        assert tokens == list(range(size.tokens))
        ids = [tuple(map(int, str(identity).split("-"))) for _, _, identity in events]
        assert ids == sorted(set(ids)), "every event has an id, and they grow"
    assert output["log"] == ["spoken"]
    for number, run in runs.items():
        invocations = of(function, run["run_id"])
        assert len(invocations) >= 3, f"run {number}"
        for one in invocations[:-1]:
            if one.error is None and b'"detail"' in bytes(one.body):
                continue  # refused by a machine that stood still for a moment, and asked again
            if one.error is None and b'{"token":%d}' % (size.tokens - 1) in bytes(one.body):
                continue  # it has told all, and its client came back to be sure
            assert one.error is not None, bytes(one.body)[-500:]
            assert json.loads(one.error)["errorType"] == "TimeIsUpError"
            assert bytes(one.body).endswith(b"\n")  # after a whole event, a heartbeat or a newline
        assert invocations[-1].error is None
    for path in (f"/threads/{watched}/stream", *(["/stream/events"] if size.full else [])):
        assert sum(path_of(one).endswith(path) for one in function.invocations) >= 3, path
    assert sum(b"token" in bytes(one.body) for one in function.invocations) > size.streams, (
        "no stream was cut in its midst"
    )
    assert_what_was_logged(function)
    figures(
        "Lambda carry-over",
        streams=size.streams,
        thread_streams=1,
        sessions=int(size.full),
        waits=1,
        invocations=len(function.invocations),
        least_of_one=min(len(of(function, run["run_id"])) for run in runs.values()),
        gaps=gaps,
        repeats=repeats,
    )


async def test_who_is_known_to_have_left_stops_the_run(cluster: Cluster, function: Function) -> None:
    """Lambda may never say so; where the Runtime API takes no more of an answer, it is the same as anywhere else."""
    function.timeout = 60
    function.warm(1)
    cluster.worker()
    body = {"assistant_id": "tokens", "input": {"steps": 2000, "seconds": 0.05}, "stream_mode": "custom"}
    event = rest_event("/runs/stream", "POST", json.dumps({**body, "on_disconnect": "cancel"}).encode())
    invocation = function.invoke({**event, "headers": {"Content-Type": "application/json"}})
    chunks = invocation.chunks()
    await asyncio.to_thread(until, lambda: b"token" in next(chunks), "the first token")
    invocation.hang_up()
    await asyncio.to_thread(until, lambda: metric(function, "StreamsAbandoned") == 1, "the invocation to end")
    await asyncio.to_thread(
        until,
        lambda: [row["status"] for row in cluster.rows("SELECT status FROM lgs.run")] in (["interrupted"], []),
        "the cancel",
    )


JAVASCRIPT = """
const [sdk, apiUrl] = process.argv.slice(1);
const { Client } = await import(sdk);
const tokens = [];
const input = { steps: 80, seconds: 0.05 };
for await (const part of new Client({ apiUrl, apiKey: null }).runs.stream(null, "tokens", { input, streamMode: "custom" }))
  if (part.event === "custom") tokens.push(part.data.token);
console.log(JSON.stringify(tokens));
"""


@pytest.mark.slow
@pytest.mark.parametrize("sdk", ["@langchain/langgraph-sdk", "langgraph-sdk-latest"])
async def test_the_javascript_sdk_goes_on_too(
    cluster: Cluster, function: Function, gateway: Gateway, figures: Figures, node: None, sdk: str
) -> None:
    function.warm(1)
    cluster.worker()
    command = ["node", "--input-type=module", "--eval", JAVASCRIPT, sdk, gateway.url]
    reading = await asyncio.create_subprocess_exec(*command, cwd=javascript.FOLDER, stdout=subprocess.PIPE)
    output, _ = await asyncio.wait_for(reading.communicate(), PATIENCE)
    assert json.loads(output) == list(range(80))
    assert len(function.invocations) >= 3
    figures("Lambda carry-over, JavaScript", invocations=len(function.invocations), gaps=0, repeats=0)
