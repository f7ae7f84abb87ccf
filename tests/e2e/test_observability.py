"""What the deployed stack says of itself: alarms, metrics in the log, and one id from the request to the worker."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from dev_server import until

from langgraph_serverless.function_runtime import METRICS_NAMESPACE

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("due_cron")]


async def test_alarms_are_there_and_the_one_for_the_queue_looks_at_what_the_scheduler_tells(stack: Any) -> None:
    prefix = stack.functions["worker"].removesuffix("-worker")
    described = stack.aws.client("cloudwatch").describe_alarms(AlarmNamePrefix=f"{prefix}-")["MetricAlarms"]
    alarms = {alarm["AlarmName"].removeprefix(f"{prefix}-"): alarm for alarm in described}
    assert {"nobody-takes-runs", "scheduler-stands-still", "runs-fail", "streams-fail"} <= alarms.keys()
    queue = alarms["nobody-takes-runs"]
    wanted = {each["Name"]: each["Value"] for each in queue["Dimensions"]}
    stack.invoke("scheduler")
    # LocalStack makes no metrics of these lines; CloudWatch does
    line = until(lambda: stack.log_lines("scheduler", queue["MetricName"]), "the scheduler's metrics")[-1]
    (about,) = line["_aws"]["CloudWatchMetrics"]
    assert (about["Namespace"], queue["Namespace"]) == (METRICS_NAMESPACE, METRICS_NAMESPACE)
    assert {name: line[name] for name in about["Dimensions"][0]} == wanted


async def test_a_requests_id_and_trace_are_found_in_the_workers_log(stack: Any) -> None:
    request_id, trace = uuid.uuid4().hex, uuid.uuid4().hex
    headers = {"X-Request-Id": request_id, "traceparent": f"00-{trace}-{'cd' * 8}-00"}
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
        run = {"assistant_id": "minimal", "input": {"text": "hello"}}
        answer = await http.post("/runs/wait", json=run, headers=headers)
    assert answer.status_code == 200

    def told() -> list[dict[str, Any]]:
        lines = stack.log_lines("worker", request_id)
        return lines if "run_success" in {line.get("action") for line in lines} else []

    lines = await asyncio.to_thread(until, told, "the worker's lines")
    assert {(line["request_id"], line["trace_id"]) for line in lines} == {(request_id, trace)}
    assert {"run_claimed", "run_begun", "run_success"} <= {line.get("action") for line in lines}
