"""``tests/fixtures/events`` has an event for every function, with which the function does what it is for.

They are for ``sam local invoke`` too (docs/guides/running-on-lambda.md), so what they say must stay true: each is given to the
real handler, on real databases, in the order of a first deployment.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from langgraph_serverless.build.sources import deployment_folder, handlers_folder

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "tests" / "fixtures" / "events"
#: The first prepares the database, the worker executes what runs has made, the stream sees its own.
ORDER = (
    "migrate", "assistants", "threads", "runs", "worker", "state", "stream", "crons", "store", "mcp", "a2a", "system", "app", "scheduler",
)  # fmt: skip
HTTP = tuple(name for name in ORDER if name not in {"migrate", "worker", "scheduler"})


@pytest.fixture(scope="module")
def answers(databases: Any, redis_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What each function has answered to its event."""
    uri, manifest = databases.create(migrated=False), tmp_path_factory.mktemp("events") / "manifest.json"
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "sample_events.py", *ORDER],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URI": uri,
            "REDIS_URI": redis_uri,
            "REDIS_KEY_PREFIX": f"test-{uuid.uuid4().hex[:8]}",
            "LANGGRAPH_CONFIG": str(ROOT / "examples" / "minimal" / "langgraph.json"),
            "LANGGRAPH_MANIFEST": str(manifest),
            "WORKER_IDLE_GRACE_SECS": "0",
            "AWS_LAMBDA_FUNCTION_NAME": "sample",
        },
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"function"')]
    yield {line["function"]: line["answer"] for line in lines}
    databases.drop(uri)


def body(answer: Any, status: int = 200) -> Any:
    assert answer["statusCode"] == status, answer
    return json.loads(answer["body"]) if answer["body"] else None


def test_every_function_has_an_event() -> None:
    functions = {path.parent.name for path in handlers_folder().glob("*/handler.py")}
    assert functions == set(ORDER)
    assert functions <= {path.stem for path in EVENTS.glob("*.json")}


def test_requests_are_for_paths_that_their_function_has() -> None:
    template = (deployment_folder() / "infra" / "api.yaml").read_text()
    owners = dict(re.findall(r"^          (/\S*): [&*](\w+)$", template, re.MULTILINE))
    for name in HTTP:
        event = json.loads((EVENTS / f"{name}.json").read_text())
        # the project's own application, if it has one, has what is the system's otherwise
        assert owners.get(event["resource"], "system") == name.replace("app", "system")
        path = event["resource"]
        for parameter, value in (event["pathParameters"] or {}).items():
            path = path.replace(f"{{{parameter}}}", value)
        assert (event["path"], event["requestContext"]["path"]) == (path, f"/v1{path}")


def test_migrate_prepares_the_database(answers: dict[str, Any]) -> None:
    assert answers["migrate"]["graphs"] == ["minimal"]
    assert "0001_pre_core" in answers["migrate"]["applied"]


def test_resources_answer(answers: dict[str, Any]) -> None:
    assert [found["graph_id"] for found in body(answers["assistants"])] == ["minimal"]
    assert body(answers["threads"])["metadata"]["sample"] is True
    assert body(answers["runs"])["status"] == "pending"
    assert body(answers["crons"])["schedule"] == "0 8 * * 1-5"
    assert body(answers["store"], 204) is None
    assert [tool["name"] for tool in body(answers["mcp"])["result"]["tools"]] == ["minimal"]
    assert body(answers["a2a"])["name"] == "minimal"
    assert body(answers["app"], 404) == {"detail": "Not Found"}
    assert body(answers["system"])["ok"] is True


def test_runs_are_executed_and_streamed(answers: dict[str, Any]) -> None:
    assert answers["worker"]["succeeded"] == 1
    assert body(answers["state"])["values"] == {"text": "in the background", "reply": "You said: in the background"}
    assert answers["stream"]["statusCode"] == 200
    assert "You said: as it comes" in answers["stream"]["body"]


def test_the_tick_has_nothing_to_mend(answers: dict[str, Any]) -> None:
    assert answers["scheduler"]["failures"] == 0
    assert answers["scheduler"]["leases_expired"] == 0
