"""The functions of a bundle, played in one process, one event after the other, as the managed runtime calls them.

A ``Bundle`` is a folder that looks like one: the project, its manifest and the handlers. ``langgraph`` is left out as long as no
function has loaded it, which ``loaded_langgraph`` tells of the moment before the worker.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev_server import PATIENCE, ROOT
from streaming_function import rest_event

PLAY = """
import importlib, json, os, sys, time, types

class Context:
    function_name = "x"
    memory_limit_in_mb = 1
    invoked_function_arn = "arn:aws:lambda:x:1:function:x"
    aws_request_id = "1"
    until = time.monotonic() + 60
    def get_remaining_time_in_millis(self):
        return int((self.until - time.monotonic()) * 1000)

for name, event in json.loads(sys.argv[1]):
    if name == "worker":
        print(json.dumps(["langgraph" in sys.modules]), flush=True)
    handler = importlib.import_module(f"langgraph_serverless_functions.{name}.handler").handler
    answer = handler(event, Context())
    print(json.dumps([name, answer], default=str), flush=True)
os._exit(0)  # as a sandbox ends
"""


@dataclass(frozen=True)
class Played:
    """What the functions have answered."""

    #: name of the function, HTTP status (None of what is no request), body or whatever else it was
    answers: Sequence[tuple[str, int | None, Any]]
    #: whether langgraph was loaded when the worker's turn came; None if it never came
    loaded_langgraph: bool | None
    stderr: str


class Bundle:
    """Makes the folder."""

    def __init__(self, folder: Path, project: Path, **environ: str) -> None:
        (folder / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
        shutil.copytree(project, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-c", "from langgraph_serverless.cli.main import main; main()", "manifest"]
        options = ["--config", "project/langgraph.json", "--output", "langgraph_manifest.json"]
        subprocess.run([*command, *options], cwd=folder, check=True, capture_output=True, timeout=PATIENCE)
        self._environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{folder}:{ROOT / 'core'}",
            "REDIS_KEY_PREFIX": f"played-{uuid.uuid4().hex[:8]}",
            "WORKER_IDLE_GRACE_SECS": "1",
            "LANGGRAPH_CONFIG": str(folder / "project" / "langgraph.json"),
            "LANGGRAPH_MANIFEST": str(folder / "langgraph_manifest.json"),
            **environ,
        }

    def play(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> Played:
        """Call the functions, in one new process."""
        done = subprocess.run(
            [sys.executable, "-c", PLAY, json.dumps(events)],
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stderr + done.stdout[-3000:]
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        loaded = next((line[0] for line in said if len(line) == 1), None)
        answers = [
            (name, answer.get("statusCode"), json.loads(answer["body"] or "null") if "body" in answer else answer)
            for name, answer in (line for line in said if len(line) == 2)
        ]
        return Played(answers, loaded, done.stderr)


def posted(path: str, body: Any, **headers: str) -> dict[str, Any]:
    """What a function gets for a POST."""
    return rest_event(path, "POST", json.dumps(body).encode(), {"content-type": "application/json", **headers})
