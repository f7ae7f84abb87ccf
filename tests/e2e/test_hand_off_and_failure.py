"""Behind the API: the schedule, webhooks, workers that leave and die, functions that cannot start.

Order matters: the queue of failed invocations is looked at before a test fails some, and the rule's first tick, which comes a
minute after the deployment, is waited for before any test ticks by itself.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from deployed import ended, failed_invocations, log_lines, no_worker_is_left, until
from figures import Figures
from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis
from standardwebhooks.webhooks import Webhook

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("due_cron")]

MINIMAL = {"text": "hello"}
REPLY = {"text": "hello", "reply": "You said: hello"}
#: Of a worker that its test lets die: a lease that runs out soon, and little time.
SHORT_LIFE = {"WORKER_DEADLINE_MARGIN_SECS": "3", "LEASE_DURATION_SECS": "3", "HEARTBEAT_INTERVAL_SECS": "0.5"}


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, asyncio.Queue[tuple[dict[str, str], bytes]]]]:
    """The address of a webhook's receiver, and what it gets."""
    posts: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
        posts.put_nowait((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/done", posts


async def test_webhooks_are_signed_with_what_the_secrets_manager_has(
    client: LangGraphClient, stack: Any, secrets: dict[str, str]
) -> None:
    async with receiver() as (url, posts):
        assert await client.runs.wait(None, "minimal", input=MINIMAL, webhook=url, on_completion="keep") == REPLY
        headers, raw = await asyncio.wait_for(posts.get(), 30)
    body = Webhook(secrets["webhook-signing"]).verify(raw, headers)
    assert (body["status"], body["values"]) == ("success", REPLY)
    token = json.loads(secrets["webhook-variables"])["LG_WEBHOOK_TOKEN"]
    assert headers["x-token"] == f"Bearer {token}"


async def test_secrets_are_read_at_run_time_and_stand_nowhere_else(stack: Any, secrets: dict[str, str]) -> None:
    lambda_, cloudformation = stack.aws.client("lambda"), stack.aws.client("cloudformation")
    described = cloudformation.describe_stacks()["Stacks"]
    visible = json.dumps(
        [
            *(lambda_.get_function_configuration(FunctionName=name) for name in stack.functions.values()),
            *described,
            *(cloudformation.get_template(StackName=each["StackId"])["TemplateBody"] for each in described),
        ],
        default=str,
    )
    token = json.loads(secrets["webhook-variables"])["LG_WEBHOOK_TOKEN"]
    for name, secret in {**secrets, "webhook-variables": token}.items():
        assert json.dumps(secret)[1:-1] not in visible, name
        assert f"langgraph-serverless/{name}" in visible


async def test_an_idle_worker_leaves(stack: Any) -> None:
    report = await asyncio.to_thread(stack.invoke, "worker")
    assert not report["work_left"]


async def test_nothing_has_failed_behind_the_scenes(stack: Any) -> None:
    """No asynchronous invocation has ended in the failure queue, in any test so far."""
    failures = await asyncio.to_thread(failed_invocations, stack)
    assert not failures, json.dumps(failures, indent=1)


async def test_a_function_that_cannot_start_says_why_and_counts(stack: Any, client: LangGraphClient) -> None:
    lambda_, name = stack.aws.client("lambda"), stack.functions["store"]
    began = time.time()
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
        with stack.configured("store", DATABASE_URI_SECRET="langgraph-serverless/gone"):
            answer = await http.post("/store/items/search", json={})
            assert (answer.status_code, answer.json()) == (502, {"message": "Internal server error"})
            failed = await asyncio.to_thread(lambda_.invoke, FunctionName=name, Payload=b"{}")
            assert failed["FunctionError"] == "Unhandled"
            error = json.loads(failed["Payload"].read())
            assert error["errorType"].endswith("SettingsError")
            assert (
                "DATABASE_URI_SECRET names 'langgraph-serverless/gone', which cannot be read" in error["errorMessage"]
            )
            assert (await http.get("/ok", params={"check_db": "true"})).status_code == 200  # the others do not care
        assert (await http.post("/store/items/search", json={})).status_code == 200

    async def errors() -> float:
        statistics = await asyncio.to_thread(
            stack.aws.client("cloudwatch").get_metric_statistics,
            Namespace="AWS/Lambda",
            MetricName="Errors",
            Dimensions=[{"Name": "FunctionName", "Value": name}],
            StartTime=began - 60,
            EndTime=time.time() + 60,
            Period=300,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in statistics["Datapoints"]))

    assert await until(errors, lambda number: number >= 1) <= 2


@pytest.fixture(scope="module")
def short_lived(stack: Any) -> Iterator[None]:
    """Workers that have six seconds and streams that have five, and runs that are taken over soon.

    The keep-alives: LocalStack sends the head of an answer with its first bytes, and an answer without any is none.
    """
    with (
        stack.configured("worker", timeout=6, **SHORT_LIFE),
        stack.configured("stream", timeout=5, STREAM_KEEPALIVE_SECS="0.5"),
    ):
        yield


@pytest.fixture
async def only_short_lived(short_lived: None, stack: Any) -> None:
    """Nobody is left who has been invoked before, by the schedule's tick for example, and would take a run for minutes."""
    await no_worker_is_left(stack)


@pytest.mark.usefixtures("only_short_lived")
@pytest.mark.filterwarnings("ignore:Reconnecting without a Last-Event-ID")
async def test_a_run_and_its_stream_outlive_worker_after_worker(
    client: LangGraphClient, stack: Any, figures: Figures
) -> None:
    """Inside of a subgraph, whose steps are streamed to a client that notices nothing."""
    steps = 36
    handed_on = sum(line["handed_off"] for line in await log_lines(stack, "worker", "The worker leaves"))
    carried = len(await log_lines(stack, "stream", '"action":"carried_over"'))
    thread_id = (await client.threads.create())["thread_id"]
    run: dict[str, Any] = {}
    seen: list[int] = []
    async for part in client.runs.stream(
        thread_id,
        "team",
        input={"steps": steps, "seconds": 0.25},
        stream_mode="custom",
        stream_subgraphs=True,
        durability="sync",
        on_run_created=run.update,
    ):
        if part.event.startswith("custom"):
            if not seen:  # it comes while the run goes on
                assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "running"
            seen.append(part.data["step"])
    assert seen == list(range(1, steps + 1))
    assert await ended(client, thread_id, run["run_id"]) == "success"
    values = (await client.threads.get_state(thread_id))["values"]
    assert (values["log"], values["told"]) == ([f"first {number}" for number in seen], steps)

    async def hand_offs() -> int:
        lines = await log_lines(stack, "worker", "The worker leaves")
        return sum(line["handed_off"] for line in lines) - handed_on

    async def breaks() -> int:
        return len(await log_lines(stack, "stream", '"action":"carried_over"')) - carried

    workers = 1 + await until(hand_offs, lambda times: times >= 2)
    streams = 1 + await until(breaks, lambda times: times >= 2)
    assert (workers < steps, streams < steps) == (True, True)
    figures("E2E hand-off", steps=steps, workers=workers, streams=streams)


@pytest.mark.usefixtures("only_short_lived")
async def test_a_run_that_kills_its_worker_ends_and_the_others_succeed(
    client: LangGraphClient, stack: Any, figures: Figures
) -> None:
    """Workers are woken as by a bell; the next one finds what the dead one has left once its lease has run out."""
    good: list[tuple[str, str]] = []

    async def another() -> None:
        thread_id = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread_id, "releases", input={"steps": 5, "seconds": 0.2})
        good.append((thread_id, run["run_id"]))

    await another()
    thread_id = (await client.threads.create())["thread_id"]
    poison = await client.runs.create(thread_id, "fatal", input={})
    for _ in range(2):
        await another()

    async def over() -> bool:
        wake = {"FunctionName": stack.functions["worker"], "InvocationType": "Event", "Payload": b"{}"}
        await asyncio.to_thread(stack.aws.client("lambda").invoke, **wake)
        await asyncio.sleep(1)
        return (await client.runs.get(thread_id, poison["run_id"]))["status"] not in ("pending", "running")

    await until(over, bool, seconds=120)
    assert (await client.runs.get(thread_id, poison["run_id"]))["status"] == "error"
    failed = (await client.threads.get(thread_id))["error"]
    assert "lost its worker 3 times" in json.dumps(failed)
    assert "'die'" in json.dumps(failed)
    for each in good:
        assert await ended(client, *each) == "success"

    failures: list[dict[str, Any]] = []

    async def told() -> int:
        failures.extend(await asyncio.to_thread(failed_invocations, stack))
        return len(failures)

    await until(told, lambda number: number >= 3)
    for failure in failures:
        assert failure["requestContext"]["functionArn"].split(":")[6] == stack.functions["worker"]
        assert failure["requestContext"]["condition"] == "RetriesExhausted"
        assert failure["responsePayload"]["errorType"] == "Runtime.ExitError"
        assert "exit status 17" in failure["responsePayload"]["errorMessage"]
    assert len(failures) == 3
    figures("E2E poison", good=len(good), failed_invocations=len(failures))


async def test_the_schedule_fires_what_is_due(client: LangGraphClient, stack: Any, due_cron: dict[str, str]) -> None:
    """EventBridge's rule, up to a minute after the deployment; no test has invoked the scheduler so far."""
    runs = await until(lambda: client.runs.list(due_cron["thread_id"]), bool, seconds=100)
    assert [run["kwargs"]["input"] for run in runs] == [{"text": "tick"}]
    assert await ended(client, due_cron["thread_id"], runs[0]["run_id"]) == "success"
    ticks = await until(lambda: log_lines(stack, "scheduler", "The scheduler has ticked"), bool)
    assert sum(tick["crons_fired"] for tick in ticks) == 1
    (rule,) = [
        rule
        for rule in stack.aws.client("events").list_rules()["Rules"]
        if rule.get("ScheduleExpression") == "rate(1 minute)"
    ]
    assert rule["State"] == "ENABLED"


async def test_a_tick_of_the_scheduler_finds_the_run_whose_bell_was_lost(client: LangGraphClient, stack: Any) -> None:
    await no_worker_is_left(stack)
    thread = await client.threads.create()
    with stack.configured("runs", WORKER_FUNCTION_NAME=""):  # nobody is invoked for this run ...
        run = await client.runs.create(thread["thread_id"], "minimal", input=MINIMAL)
        async with Redis.from_url(stack.redis_uri) as redis:
            await redis.flushall()  # ... and the bell that it rang is gone
        assert (await client.runs.get(thread["thread_id"], run["run_id"]))["status"] == "pending"
        await asyncio.to_thread(stack.invoke, "scheduler")
        assert await ended(client, thread["thread_id"], run["run_id"]) == "success"
