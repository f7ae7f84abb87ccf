"""One trace from a client's request to its webhook, over processes and a hand-off, as a collector gets it; and none by default.

The collector is a server in this process that speaks OTLP over HTTP. API and workers are processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_process import api_process
from cluster import Cluster
from collector import Collector, collecting
from dev_server import ROOT, until

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "traced" / "langgraph.json"
TRACE, CLIENT = "ab" * 16, "cd" * 8
TRACEPARENT = f"00-{TRACE}-{CLIENT}-01"
SECRET = "hunter2"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def tracing_to(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "LOG_JSON": "true",
    }


def lines(*files: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in files
        for line in file.read_text(errors="replace").splitlines()
        if line.startswith("{")
    ]


@pytest.mark.parametrize("cluster", [PROJECT], indirect=True)
def test_one_trace_from_the_request_over_a_hand_off_to_the_webhook(
    cluster: Cluster, collector: Collector, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    environ = {**tracing_to(collector), "GATE": str(gate)}
    # three processes that start side by side; whichever worker takes the run is the first one
    workers = [cluster.worker(**environ) for _ in range(2)]
    with api_process(cluster, **environ) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        thread = client.post("/threads", json={}).json()
        run = client.post(
            f"/threads/{thread['thread_id']}/runs",
            json={
                "assistant_id": "traced",
                "input": {"steps": 5, "fail": True},
                "webhook": f"{collector.url}/hook",
            },
            headers={"traceparent": TRACEPARENT, "tracestate": "vendor=1", "baggage": SECRET, "x-request-id": "mine"},
        ).json()
        until(lambda: any("run begun" in worker.output for worker in workers), "the run")
        first, second = sorted(workers, key=lambda worker: "run begun" not in worker.output)
        until(lambda: len(collector.named("node think")) == 2, "spans of nodes that have ended")
        first.process.send_signal(signal.SIGTERM)
        until(lambda: "handing on" in first.output, "the first worker to leave")
        gate.touch()
        ended = client.get(f"/threads/{thread['thread_id']}/runs/{run['run_id']}/join").json()
        assert ended["__error__"]["error"] == "ValueError"
        until(lambda: len(collector.named("run traced")) == 2 and collector.named("webhook"), "the last spans")
        until(lambda: collector.posts, "the webhook")
        first.process.wait(60)
        # what the API has sent last
        until(lambda: collector.named("POST /threads/{thread_id}/runs"), "the request's span")

    (request,) = collector.named("POST /threads/{thread_id}/runs")
    assert (request.parent, request.kind, request.service) == (CLIENT, 2, "langgraph-serverless-api")
    assert request.attributes["http.response.status_code"] == 200
    (created,) = collector.named("create run traced")
    assert (created.parent, created.kind) == (request.id, 4)
    stays = collector.named("run traced")
    assert [(stay.parent, stay.kind) for stay in stays] == [(created.id, 5)] * 2
    assert {stay.attributes["langgraph.outcome"] for stay in stays} == {"handed_off", "error"}
    assert {stay.attributes["langgraph.run_id"] for stay in stays} == {run["run_id"]}
    assert {stay.attributes["langgraph.request_id"] for stay in stays} == {"mine"}
    by_id = {span.id: span for span in collector.spans}
    thoughts = collector.named("node think")
    assert len(thoughts) == 5  # none was repeated
    assert {by_id[node.parent].name for node in thoughts} == {"run traced"}
    assert {node.parent for node in thoughts} == {stay.id for stay in stays}
    assert {by_id[span.parent].name for span in collector.named("model call")} == {"node think"}
    (tool,) = collector.named("tool call")
    inner, outer = by_id[tool.parent], by_id[by_id[tool.parent].parent]
    assert (inner.name, outer.name, by_id[outer.parent].name) == ("node act", "node team", "run traced")
    (report,) = collector.named("node report")
    assert (report.failed, report.attributes["error.type"]) == (True, "ValueError")
    (webhook,) = collector.named("webhook")
    assert (webhook.parent, webhook.kind) == (created.id, 3)
    (post,) = collector.posts
    assert post["traceparent"] == f"00-{TRACE}-{webhook.id}-01"
    assert post["tracestate"] == "vendor=1"
    assert "baggage" not in post
    ours = [span for span in collector.spans if span.trace == TRACE]
    assert all(span in ours for span in (request, created, *stays, *thoughts, tool, report, webhook))
    assert not any(SECRET.encode() in body for body in collector.raw)

    told = lines(first.log, second.log)
    of_run = [line for line in told if line.get("run_id") == run["run_id"]]
    actions = {line.get("action") for line in of_run}
    assert {"run_claimed", "run_begun", "run_handed_off", "run_failed", "run_error", "webhook_delivered"} <= actions
    assert {(line["request_id"], line["trace_id"]) for line in of_run} == {("mine", TRACE)}
    (failed,) = [line for line in of_run if line.get("action") == "run_failed"]
    assert failed["node"] == "report"
    users = [line for line in told if line.get("message") == "thinking"]
    assert {(line["node"], line["request_id"]) for line in users} == {("think", "mine")}


@pytest.mark.parametrize("cluster", [PROJECT], indirect=True)
def test_a_malformed_parent_is_none_and_a_collector_that_hangs_holds_up_no_run(
    cluster: Cluster, collector: Collector
) -> None:
    collector.hangs.set()
    environ = tracing_to(collector)
    worker = cluster.worker(**environ)
    with httpx.Client(base_url=cluster.url, timeout=60) as client:
        body = {"assistant_id": "traced", "input": {"steps": 1}}
        for headers in ({"traceparent": "00-nonsense"}, {"traceparent": f"00-{'0' * 32}-{CLIENT}-01"}, {}):
            answer = client.post("/runs/wait", json=body, headers=headers)
            assert answer.json() == {"steps": 0}
    assert cluster.rows("SELECT * FROM lgs.run_trace") == []
    collector.hangs.clear()
    until(lambda: len(collector.named("run traced")) == 3, "what was kept for the collector")
    stays = collector.named("run traced")
    assert len({stay.trace for stay in stays}) == 3
    assert {stay.parent for stay in stays} == {""}
    assert worker.running


@pytest.mark.parametrize("cluster", [PROJECT], indirect=True)
def test_by_default_a_run_tells_nobody_anything(cluster: Cluster, tmp_path: Path) -> None:
    """Every address that the worker's process looks up or connects to from Python; and a client's trace is passed on all the same."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def note(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'socket.sendto'):\n"
        "        with open(os.environ['CONNECTIONS'], 'a') as file:\n"
        "            file.write(f'{event} {arguments[-1] if event == \"socket.connect\" else arguments[0]}\\n')\n"
        "sys.addaudithook(note)\n"
    )
    noted = tmp_path / "connections"
    noted.touch()
    quiet = {name: "" for name in os.environ if name.startswith(("LANGSMITH", "LANGCHAIN", "OTEL"))}
    environ = {**quiet, "CONNECTIONS": str(noted), "PYTHONPATH": f"{tmp_path}:{ROOT / 'core'}", "LOG_JSON": "true"}
    with collecting() as receiver, httpx.Client(base_url=cluster.url, timeout=60) as client:
        worker = cluster.worker(**environ)
        body = {
            "assistant_id": "traced",
            "input": {"steps": 1},
            "webhook": f"{receiver.url}/hook",
        }
        client.post("/runs/wait", json=body, headers={"traceparent": TRACEPARENT}).raise_for_status()
        until(lambda: receiver.posts, "the webhook")
        hook = int(receiver.url.rpartition(":")[2])
        assert receiver.posts[0]["traceparent"] == TRACEPARENT
        assert not receiver.spans
    places = set(noted.read_text().splitlines())
    assert f"socket.connect ('127.0.0.1', {hook})" in places
    redis = cluster.environ["REDIS_URI"]
    others = {place for place in places if str(hook) not in place and not _is_redis(place, redis)}
    assert others == set()
    assert TRACE in worker.output


def _is_redis(place: str, uri: str) -> bool:
    url = httpx.URL(uri) if uri.startswith("redis") else None
    if url is None or not url.host:
        return uri.partition("://")[2].partition("?")[0] in place
    return url.host in place


NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("environs", "on"),
    [
        (
            [
                {},
                {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_SDK_DISABLED": "True"},
                {"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE, "OTEL_TRACES_EXPORTER": "none"},
            ],
            False,
        ),
        ([{"OTEL_EXPORTER_OTLP_ENDPOINT": NOWHERE}], True),
        ([{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{NOWHERE}/v1/traces"}], True),
    ],
    ids=["off", "all", "traces"],
)
def test_the_sdk_is_loaded_only_where_it_is_asked_for(environs: list[dict[str, str]], on: bool) -> None:
    script = (
        "import json, os, sys; from langgraph_serverless import tracing\n"
        "for environ in json.loads(sys.argv[1]):\n"
        "    tracing.start('x', environ)\n"
        "began = __import__('time').monotonic()\n"
        "with tracing.span('x'): pass\n"
        "tracing.flush()\n"
        "assert __import__('time').monotonic() - began < 5\n"
        "print(tracing.active(), any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    # the SDK reads them in the process's own environment
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "core"), **(environs[0] if on else {})}
    command = [sys.executable, "-c", script, json.dumps(environs)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(on)] * 2


def test_a_process_without_the_packages_says_so_and_works() -> None:
    script = (
        "import os, sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from langgraph_serverless import tracing; tracing.start('x', os.environ); print(tracing.active())"
    )
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "core"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert "langgraph-serverless[otel]" in done.stderr


FUNCTION = """
import os, sys, time
from langgraph_serverless import tracing
from langgraph_serverless.function_runtime import FunctionRuntime
runtime = FunctionRuntime("system")
def answer(event, context):
    with tracing.span("the work"):
        return "answer"
handler = runtime.instrument(answer)
class Context:
    function_name = memory_limit_in_mb = invoked_function_arn = aws_request_id = "x"
for _ in range(2):
    began = time.monotonic()
    assert handler({}, Context) == "answer"
    print(time.monotonic() - began)
sys.stdout.flush()
os._exit(0)  # as a sandbox that is frozen, and never woken
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_a_function_sends_its_spans_before_it_stands_still_and_does_not_wait_for_long(
    collector: Collector, hangs: bool
) -> None:
    if hangs:
        collector.hangs.set()
    environ = {
        **tracing_to(collector),
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "core"),
        "DATABASE_URI": "postgresql://nowhere/none",
    }
    command = [sys.executable, "-c", FUNCTION]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
    took = [float(line) for line in done.stdout.splitlines() if not line.startswith("{")]
    assert len(took) == 2
    if hangs:
        # half a second and what a busy machine adds; the second finds the first still waiting, and does not wait itself
        assert took[0] < 5
        assert took[1] < 0.5
    else:
        assert len(collector.named("the work")) == 2
        assert {span.service for span in collector.spans} == {"langgraph-serverless-system"}
