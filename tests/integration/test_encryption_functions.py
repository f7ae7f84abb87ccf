"""Encryption on Lambda: functions without the graphs encrypt and decrypt too, with the project's handlers and nothing else of it.

One process plays the functions of a bundle, one event after the other, as the managed runtime calls them; the worker comes last.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg
from dev_server import PATIENCE, ROOT
from psycopg import sql
from streaming_function import rest_event

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "sealed"
CANARY = "canary-on-lambda"
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


def posted(path: str, body: Any) -> dict[str, Any]:
    return rest_event(path, "POST", json.dumps(body).encode(), {"content-type": "application/json"})


def test_functions_without_graphs_encrypt_and_decrypt(tmp_path: Path, databases: Any, redis_uri: str) -> None:
    (tmp_path / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
    shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", "from langgraph_serverless.cli.main import main; main()", "manifest"]
    options = ["--config", "project/langgraph.json", "--output", "langgraph_manifest.json"]
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    uri = databases.create()
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}:{ROOT / 'core'}",
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"sealed-{uuid.uuid4().hex[:8]}",
        "WORKER_IDLE_GRACE_SECS": "1",
        "LANGGRAPH_CONFIG": str(tmp_path / "project" / "langgraph.json"),
        "LANGGRAPH_MANIFEST": str(tmp_path / "langgraph_manifest.json"),
    }
    thread_id = str(uuid.uuid4())
    assistant_id = str(uuid.uuid4())
    thread, run = f"/threads/{thread_id}", {"assistant_id": assistant_id, "input": {"text": CANARY}}
    events: list[tuple[str, dict[str, Any]]] = [
        ("threads", posted("/threads", {"thread_id": thread_id, "metadata": {"owner": "u1", "note": CANARY}})),
        (
            "assistants",
            posted("/assistants", {"assistant_id": assistant_id, "graph_id": "asks", "metadata": {"note": CANARY}}),
        ),
        ("runs", posted(f"{thread}/runs", run)),
        ("crons", posted("/runs/crons", {**run, "schedule": "* * * * *", "metadata": {"note": CANARY}})),
        ("scheduler", {}),
        ("threads", posted("/threads/search", {"metadata": {"owner": "u1"}})),
        ("worker", {}),
        ("threads", rest_event(thread)),
        ("runs", rest_event(f"{thread}/runs")),
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-c", PLAY, json.dumps(events)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * PATIENCE,
        )
        assert done.returncode == 0, done.stderr + done.stdout[-3000:]
        stored = rows(uri)
    finally:
        databases.drop(uri)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert said.pop(6) == [False]  # the SDK imports langchain_core by itself
    answers = [(name, answer.get("statusCode"), json.loads(answer.get("body") or "null")) for name, answer in said]
    assert [status for _, status, _ in answers if status is not None] == [200] * 7, answers
    bodies = [body for *_, body in answers]
    assert bodies[0]["metadata"]["note"] == bodies[1]["metadata"]["note"] == CANARY
    assert bodies[3]["payload"]["input"] == {"text": CANARY}
    assert bodies[5][0]["metadata"]["note"] == CANARY
    assert bodies[7]["status"] == "interrupted"
    assert bodies[7]["values"]["text"] == CANARY
    assert bodies[8][0]["kwargs"]["input"] == {"text": CANARY}
    assert "lgs.cron" in stored
    assert "__encrypted__" in stored
    assert CANARY not in stored
    assert CANARY.encode().hex() not in stored
    assert CANARY not in done.stderr


def rows(uri: str) -> str:
    found = []
    with psycopg.connect(uri, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('lgs', 'public')"
        ).fetchall()
        for names in tables:
            query = sql.SQL("SELECT to_jsonb(t)::text FROM {}.{} AS t").format(*map(sql.Identifier, names))
            found += [f"{'.'.join(names)} {row}" for (row,) in connection.execute(query)]
    return "\n".join(found)
