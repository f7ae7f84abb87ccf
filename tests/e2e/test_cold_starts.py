"""Cold starts of the deployed functions: what each takes until it is ready, and what its first request takes.

A function whose variables change starts anew. Its report lines are those of Lambda (``REPORT ... Init Duration``), by this machine's clock,
so the test asserts none of them: `tests/budgets/test_imports.py` has what no clock changes. In full, and with ``PUBLISH_COLD_STARTS=1``
(``make cold-start-deployed``), the medians go into docs/guides/running-on-lambda.md.
"""

from __future__ import annotations

import os
import re
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from dev_server import until
from figures import sizes

from bench.cold_start import FUNCTIONS
from bench.curves.guide import replaced

pytestmark = pytest.mark.e2e

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "running-on-lambda.md"
#: What a function is asked through the API; each looks into the database, if only to find nothing.
_THREAD = f"/threads/{uuid.uuid4()}"
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "assistants": ("POST", "/assistants/search", {}),
    "threads": ("POST", "/threads/search", {}),
    "runs": ("GET", f"{_THREAD}/runs", None),
    "stream": ("GET", f"{_THREAD}/runs/{uuid.uuid4()}/join", None),
    "crons": ("POST", "/runs/crons/search", {}),
    "store": ("POST", "/store/items/search", {"namespace_prefix": ["none"]}),
    "mcp": ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    "a2a": ("GET", "/.well-known/agent-card.json?assistant_id=minimal", None),
    "system": ("GET", "/ok?check_db=1", None),
    "app": ("GET", "/pages/one", None),
    "state": ("GET", f"{_THREAD}/state", None),
}
REPORT = re.compile(r"REPORT RequestId: \S+\tDuration: ([\d.]+) ms[^\n]*?(?:\tInit Duration: ([\d.]+) ms)?\n")


def reports(stack: Any, function: str, since: float) -> list[tuple[float, float | None]]:
    """Milliseconds of each invocation since then, and of the start before it if there was one."""
    group = f"/aws/lambda/{stack.functions[function]}"
    logs = stack.aws.client("logs")
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group, startTime=int(since * 1000))
    found = REPORT.findall("\n".join(event["message"] + "\n" for page in pages for event in page["events"]))
    return [(float(took), float(start) if start else None) for took, start in found]


@contextmanager
def started_anew(stack: Any, function: str) -> Iterator[None]:
    with stack.configured(function, COLD_START=uuid.uuid4().hex):
        yield


def ask(stack: Any, function: str) -> None:
    if function not in REQUESTS:
        stack.invoke(function)
        return
    method, path, body = REQUESTS[function]
    answer = httpx.request(method, f"{stack.url}{path}", json=body, timeout=60)
    assert answer.status_code < 500, (function, answer.text)


def cold_start(stack: Any, function: str) -> tuple[float, float]:
    """Milliseconds until it was ready, and of its first request."""
    since = time.time()
    ask(stack, function)

    def told() -> tuple[float, float] | None:
        cold = [(start, took) for took, start in reports(stack, function, since) if start is not None]
        return cold[-1] if cold else None

    found: tuple[float, float] = until(told, f"reports of {function}", every=0.3)
    return found


@sizes(timeout=1800, rounds=(1, 3))
def test_a_cold_start_is_reported(stack: Any, size: SimpleNamespace, figures: Callable[..., None]) -> None:
    functions = [name for name in FUNCTIONS if name in stack.functions] if size.full else ["threads"]
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in functions}
    for _ in range(size.rounds):
        for name in functions:
            with started_anew(stack, name):
                seen[name].append(cold_start(stack, name))
            if size.full:  # its variables are as they were, which is another start
                seen[name].append(cold_start(stack, name))
    medians = {name: [statistics.median(each) for each in zip(*rows, strict=True)] for name, rows in seen.items()}
    for start, first in medians.values():
        assert start > 0
        assert first > 0
    figures("C1, C2 deployed", **{name: f"{start:.0f}+{first:.0f} ms" for name, (start, first) in medians.items()})
    if size.full and os.environ.get("PUBLISH_COLD_STARTS"):
        GUIDE.write_text(replaced(GUIDE.read_text(), "cold starts", table(medians)))


def table(medians: dict[str, list[float]]) -> str:
    lines = ["| function | init, ms | first request, ms |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {start:.0f} | {first:.0f} |" for name, (start, first) in medians.items()]
    return "\n".join(lines)
