"""Functions that get other code while runs are under way, and the stack's end.

These come last: nothing is there any more afterwards (``conftest.py`` sees to the order). The update is that of the functions,
by Lambda's API: LocalStack loses the stage of a REST API when a stack with one is updated.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from deployed import ended, failed_invocations, no_worker_is_left, until
from figures import Figures
from langgraph_sdk.client import LangGraphClient

pytestmark = pytest.mark.e2e

STEPS = 10


def give_new_code(stack: Any, bundle: Path) -> None:
    """To every function of this bundle, as a deployment does."""
    lambda_ = stack.aws.client("lambda")
    archive = Path(shutil.make_archive(str(bundle), "zip", bundle)).read_bytes()
    names = [stack.functions[folder] for folder in ("worker", "state", "migrate")]
    for name in names:
        lambda_.update_function_code(FunctionName=name, ZipFile=archive)
    for name in names:
        lambda_.get_waiter("function_updated_v2").wait(
            FunctionName=name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600}
        )


async def test_new_code_loses_no_run(client: LangGraphClient, stack: Any, figures: Figures) -> None:
    """What runs ends on the old code, who comes afterwards gets the new, and the API answers all the time."""
    await asyncio.to_thread(failed_invocations, stack)
    graphs = stack.deployment.project / "graphs.py"
    graphs.write_text(graphs.read_text().replace('RELEASE = "first"', 'RELEASE = "second"'))
    await asyncio.to_thread(stack.deployment.build)

    under_way = []
    for _ in range(2):
        thread_id = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread_id, "releases", input={"steps": STEPS, "seconds": 0.5})
        under_way.append((thread_id, run["run_id"]))
    streamed: list[int] = []

    async def follow() -> None:
        thread_id = (await client.threads.create())["thread_id"]
        given = {"steps": STEPS, "seconds": 0.5}
        async for part in client.runs.stream(thread_id, "releases", input=given, stream_mode="custom"):
            streamed.extend([part.data["step"]] if part.event == "custom" else [])

    answers: list[int] = []

    async def ask() -> None:
        async with httpx.AsyncClient(base_url=stack.url, timeout=60) as http:
            while True:
                answers.append((await http.post("/threads/count", json={})).status_code)
                await asyncio.sleep(0.5)

    following, asking = asyncio.create_task(follow()), asyncio.create_task(ask())
    await until(lambda: asyncio.sleep(0, len(streamed)), lambda steps: steps >= 1)
    await asyncio.to_thread(give_new_code, stack, stack.deployment.folder / ".build" / "worker")
    assert (await asyncio.to_thread(stack.invoke, "migrate"))["applied"] == []
    await following
    assert streamed == list(range(1, STEPS + 1))
    releases = set()
    for each in under_way:
        assert await ended(client, *each) == "success"
        log = [line.split() for line in (await client.threads.get_state(each[0]))["values"]["log"]]
        assert [int(step) for _, step in log] == list(range(1, STEPS + 1))
        releases |= {release for release, _ in log}
    # whoever works goes on with the old code, and takes new runs with it
    await no_worker_is_left(stack)
    thread_id = (await client.threads.create())["thread_id"]
    new = await client.runs.wait(thread_id, "releases", input={"steps": 2})
    assert new["log"] == ["second 1", "second 2"]
    asking.cancel()
    assert set(answers) == {200}
    failures = await asyncio.to_thread(failed_invocations, stack)
    assert not failures, json.dumps(failures, indent=1)
    figures("E2E new code", under_way=3, answers=len(answers), releases=len(releases | {"second"}))


def left_over(stack: Any) -> dict[str, list[str]]:
    """What there is with the stack's name, by kind."""
    client = stack.aws.client
    found = {
        "functions": [each["FunctionName"] for each in client("lambda").list_functions()["Functions"]],
        "roles": [each["RoleName"] for each in client("iam").list_roles()["Roles"]],
        "policies": [each["PolicyName"] for each in client("iam").list_policies(Scope="Local")["Policies"]],
        "queues": [url.rpartition("/")[2] for url in client("sqs").list_queues().get("QueueUrls", [])],
        "apis": [each["name"] for each in client("apigateway").get_rest_apis()["items"]],
        "rules": [each["Name"] for each in client("events").list_rules()["Rules"]],
        "alarms": [each["AlarmName"] for each in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "log groups": [each["logGroupName"] for each in client("logs").describe_log_groups()["logGroups"]],
        "stacks": [
            each["StackName"]
            for each in client("cloudformation").describe_stacks()["Stacks"]
            if each["StackStatus"] != "DELETE_COMPLETE"
        ],
    }
    return {
        kind: sorted(name for name in names if "ci" in name.replace("/", "-").split("-"))
        for kind, names in found.items()
    }


async def test_nothing_is_left_of_a_deleted_stack(stack: Any) -> None:
    """Its logs are, if a function has written after its log group was gone; data and secrets are the user's, as they were brought."""
    there = await asyncio.to_thread(left_over, stack)
    assert len(there["functions"]) == len(stack.functions)
    assert there["roles"]
    cloudformation = stack.aws.client("cloudformation")
    cloudformation.delete_stack(StackName="ci")
    waiter = cloudformation.get_waiter("stack_delete_complete")
    await asyncio.to_thread(waiter.wait, StackName="ci", WaiterConfig={"Delay": 0.2, "MaxAttempts": 600})
    left = await asyncio.to_thread(left_over, stack)
    # those that run without being asked may write their last lines after their log group is gone, which makes it again
    left["log groups"] = sorted({*left["log groups"]} - {"/aws/lambda/ci-worker", "/aws/lambda/ci-scheduler"})
    assert {kind: names for kind, names in left.items() if names} == {}
    assert stack.aws.client("secretsmanager").list_secrets()["SecretList"]
    async with await psycopg.AsyncConnection.connect(stack.database_uri) as connection:
        cursor = await connection.execute("SELECT count(*) FROM lgs.run")
        assert (await cursor.fetchone()) > (0,)
