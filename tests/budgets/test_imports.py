"""What a cold start of each function imports. Counted in modules, since a shared machine's clock proves nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from langgraph_serverless.domain.manifest import Manifest

ROOT = Path(__file__).parents[2]
API_FUNCTIONS = ("assistants", "threads", "runs", "stream", "crons", "store", "system")
#: never loaded by a function that runs no graph; boto3 comes with the first secret or the first worker to wake
FORBIDDEN = ("langgraph", "langchain_core", "langsmith", "langgraph_sdk", "boto3", "uvicorn", "click", "tomllib")
#: measured on Python 3.11, and about a tenth more
MOST_MODULES = 780

REPORT = """
import importlib, json, sys
if sys.argv[1] == "stream":
    import langgraph_serverless.lambda_runtime.loop  # in the place of the managed client, which is not counted
importlib.import_module(f"langgraph_serverless_functions.{sys.argv[1]}.handler")
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The handlers under the name that they have when deployed."""
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
    (folder / "langgraph_manifest.json").write_text(json.dumps(Manifest.of({}).to_json()))
    return folder


def modules(function: str, bundle: Path) -> list[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{bundle}:{ROOT / 'core'}",
        "DATABASE_URI": "postgresql://nowhere/none",
        "REDIS_URI": "redis://nowhere",
        "LANGGRAPH_MANIFEST": str(bundle / "langgraph_manifest.json"),
        "LANGGRAPH_CONFIG": str(ROOT / "examples" / "langgraph.json"),
    }
    command = [sys.executable, "-c", REPORT, function]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize("function", API_FUNCTIONS)
def test_an_api_function_starts_without_langgraph(function: str, bundle: Path) -> None:
    loaded = modules(function, bundle)
    assert not {name.partition(".")[0] for name in loaded} & set(FORBIDDEN)
    assert len(loaded) <= MOST_MODULES


@pytest.mark.parametrize("function", ["scheduler"])
def test_the_scheduler_starts_without_langgraph_and_fastapi(function: str, bundle: Path) -> None:
    loaded = {name.partition(".")[0] for name in modules(function, bundle)}
    assert not loaded & {"langgraph", "langchain_core", "langsmith", "boto3"}


@pytest.mark.parametrize("function", ["state", "worker", "migrate"])
def test_every_other_function_can_be_imported(function: str, bundle: Path) -> None:
    assert f"langgraph_serverless_functions.{function}.handler" in modules(function, bundle)


def test_the_streaming_runtime_is_ready_before_the_handler_is_imported() -> None:
    """Its own share of a cold start: the standard library, and Mangum without an application."""
    script = "import sys, langgraph_serverless.lambda_runtime.loop; print(len(sys.modules), *sys.modules)"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "core")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    count, *names = done.stdout.split()
    assert not {name.partition(".")[0] for name in names} & {
        "fastapi",
        "starlette",
        "pydantic",
        "psycopg",
        "redis",
        "aws_lambda_powertools",
    }
    assert int(count) <= 220
