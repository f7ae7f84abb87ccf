"""The local Lambda Runtime API, driven by AWS's own runtime client in a real process."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MODULE = Path(__file__).parents[2] / "infra/localstack/process_executor/src/process_executor/runtime_api.py"
HANDLER = """
import time, sys
print("imported", flush=True)

def handler(event, context):
    if event.get("fail"):
        raise ValueError(event["fail"])
    if event.get("big"):
        return "x" * event["big"]
    return {"echo": event, "remaining": context.get_remaining_time_in_millis(), "id": context.aws_request_id}
"""
Invoke = Callable[..., Any]


@pytest.fixture(scope="module")
def runtime_api() -> ModuleType:
    """The module, loaded from its place in the LocalStack kit (it is installed in LocalStack's environment only)."""
    spec = importlib.util.spec_from_file_location("process_executor_runtime_api", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def invoke(runtime_api: ModuleType, tmp_path: Path) -> Iterator[Invoke]:
    """Sends events to one function process."""
    (tmp_path / "app.py").write_text(HANDLER)
    api = runtime_api.RuntimeApi()
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "PYTHONPATH": str(tmp_path),
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "AWS_LAMBDA_FUNCTION_NAME": "app",
    }
    process = subprocess.Popen([sys.executable, "-m", "awslambdaric", "app.handler"], cwd=tmp_path, env=environment)
    assert api.ready.wait(30)
    assert api.init_error is None

    def send(request_id: str, event: dict[str, Any]) -> Any:
        invocation = runtime_api.Invocation(request_id, json.dumps(event).encode(), 10.0, function_arn="arn:aws:x")
        api.submit(invocation)
        assert invocation.done.wait(30)
        return invocation

    yield send
    process.kill()
    process.wait()
    api.close()


def test_an_event_goes_in_and_the_answer_comes_out_again_and_again(invoke: Invoke) -> None:
    for request_id in ("r-1", "r-2"):
        answer = json.loads(bytes(invoke(request_id, {"n": 1}).body))
        assert answer["echo"] == {"n": 1}
        assert answer["id"] == request_id
        assert 0 < answer["remaining"] <= 10_000


def test_an_exception_becomes_lambdas_error_and_the_process_goes_on(invoke: Invoke) -> None:
    error = json.loads(invoke("r-1", {"fail": "no"}).error)
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "no")
    assert invoke("r-2", {}).error is None


def test_a_buffered_answer_has_lambdas_limit(invoke: Invoke) -> None:
    error = json.loads(invoke("r-1", {"big": 7 * 2**20}).error)
    assert error["errorType"] == "Function.ResponseSizeTooLarge"


def test_only_the_first_end_of_an_invocation_counts(runtime_api: ModuleType) -> None:
    invocation = runtime_api.Invocation("r-1", b"", 1.0)
    invocation.write(b"a")
    invocation.finish()
    invocation.write(b"b")
    invocation.finish(error=b"late")
    assert list(invocation.chunks()) == [b"a"]
    assert invocation.error is None
