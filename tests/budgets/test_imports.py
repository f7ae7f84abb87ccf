"""What a cold start of each function imports. Counted in modules, since a shared machine's clock proves nothing; `make cold-start`
shows milliseconds (C1, C2)."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from bench.cold_start import API, FUNCTIONS, ColdStart, checkout_bundle, cold_start

ROOT = Path(__file__).parents[2]
#: Never loaded by a function that runs no graph. boto3 comes with the first secret or the first worker to wake, OpenTelemetry's
#: SDK with an address to send to.
FORBIDDEN = (
    "langgraph",
    "langchain_core",
    "langsmith",
    "langgraph_sdk",
    "boto3",
    "httpx",
    "requests",
    "numpy",
    "uvicorn",
    "click",
    "tomllib",
    "jinja2",
)
#: The same for the user's code, and for parts of packages: what `lean_imports` leaves out, and clients of botocore, of which Powertools imports the outermost shell.
FORBIDDEN_MODULES = (
    "langgraph_project",
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "pydantic.v1",
    "botocore.session",
)
#: Measured on Python 3.11, and about a twentieth more.
MOST_MODULES = {
    "assistants": 750,
    "threads": 750,
    "runs": 760,
    "stream": 795,
    "crons": 760,
    "store": 660,
    "mcp": 800,
    "a2a": 830,
    "system": 660,
    "app": 690,
    "scheduler": 492,
    "migrate": 760,
    "state": 1665,
    "worker": 1550,
}
#: What httpx's command line wants, which comes with it where these are installed (`lean_clients`).
COMMAND_LINES = ("click", "rich", "pygments")
#: Only those who ring, wake, stir or follow need Redis; only crons have times; only functions with routes have FastAPI.
WITHOUT = {
    "store": ("redis", "croniter"),
    "system": ("redis", "croniter"),
    "app": ("redis", "croniter"),
    "assistants": ("croniter",),
    "threads": ("croniter",),
    "runs": ("croniter",),
    "stream": ("croniter",),
    "mcp": ("croniter", "mcp", "mcp_types"),
    "a2a": ("croniter", "a2a"),
    "scheduler": ("fastapi", "starlette", "pydantic", "mangum"),
    "migrate": ("fastapi", "starlette", "mangum"),
    "worker": ("fastapi", "starlette", "mangum", "uvicorn", *COMMAND_LINES),
    "state": COMMAND_LINES,
}

Starts = Callable[[str], ColdStart]


@pytest.fixture(scope="module")
def start_of() -> Iterator[Starts]:
    """Each function's import, in a process of its own; two at once, and none twice."""
    with checkout_bundle() as bundle, ThreadPoolExecutor(2) as pool:
        starts = {name: pool.submit(cold_start, name, bundle) for name in FUNCTIONS}
        yield cache(lambda name: starts[name].result())


@pytest.mark.parametrize("function", [*API, "scheduler"])
def test_a_function_without_graphs_starts_without_langgraph(function: str, start_of: Starts) -> None:
    start = start_of(function)
    assert not start.packages & set(FORBIDDEN)
    assert not [name for name in start.modules if name.startswith(FORBIDDEN_MODULES)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_imports_no_more_than_its_budget(function: str, start_of: Starts) -> None:
    start = start_of(function)
    assert f"langgraph_serverless_functions.{function}.handler" in start.modules
    assert not start.packages & set(WITHOUT.get(function, ()))
    assert len(start.modules) <= MOST_MODULES[function]


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
