"""Every function, called with its sample event, one after the other in this process; a line of JSON for each answer.

The manifest, which functions have from their bundle, is written first. Started by ``tests/integration/test_sample_events.py`` only. Each function has a thread of its own, as it has a process of its own on
Lambda: its event loop is that of its thread. While the stream is open, the worker is invoked until it has nothing to do.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lambda_sandbox import Context

from langgraph_serverless.cli.manifest import manifest

ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "tests" / "fixtures" / "events"
LIMIT = 60.0


def load(function: str) -> Any:
    """The function's handler, as the runtime imports it."""
    spec = importlib.util.spec_from_file_location(f"{function}_handler", ROOT / "functions" / function / "handler.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handler


class Function:
    """One function in a thread of its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._thread = ThreadPoolExecutor(1)
        self._handler = self._thread.submit(load, name).result()
        self.event = json.loads((EVENTS / f"{name}.json").read_text())

    def invoke(self) -> Any:
        context = Context(time.monotonic() + LIMIT, function_name=self.name)
        return self._thread.submit(self._handler, self.event, context).result()


def stream() -> Any:
    """The stream's answer, whose run a worker executes meanwhile."""
    function, worker, answers = Function("stream"), Function("worker"), []
    client = threading.Thread(target=lambda: answers.append(function.invoke()))
    client.start()
    while client.is_alive():
        worker.invoke()
    return answers[0]


if __name__ == "__main__":
    manifest(config=Path(os.environ["LANGGRAPH_CONFIG"]), output=Path(os.environ["LANGGRAPH_MANIFEST"]))
    for name in sys.argv[1:]:
        answer = stream() if name == "stream" else Function(name).invoke()
        print(json.dumps({"function": name, "answer": answer}), flush=True)
