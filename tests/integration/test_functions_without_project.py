"""API functions, the scheduler and the migration answer everything from the manifest: the project's code is never imported there.

It is there, as it is in a bundle, and leaves a note and fails as soon as anybody imports it. One process plays all these functions, and
every route of theirs is asked for; those that a project matters to with what makes them look for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dev_server import PATIENCE, ROOT
from streaming_function import rest_event

from bench.cold_start import API

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "run_path"
POISON = """
import os, pathlib
pathlib.Path(os.environ["NOTE"]).write_text("imported")
raise ImportError("the project has been imported")
"""
PLAY = """
import importlib, json, os, re, sys, types

context = types.SimpleNamespace(
    function_name="x", memory_limit_in_mb=1, invoked_function_arn="arn:aws:lambda:x:1:function:x", aws_request_id="1",
    get_remaining_time_in_millis=lambda: 60_000,
)
endless = {"/threads/{thread_id}/stream", "/threads/{thread_id}/stream/events"}  # they follow a thread that may yet be made
functions, template = json.loads(sys.argv[1]), json.loads(sys.argv[2])
handlers = {name: importlib.import_module(f"langgraph_serverless_functions.{name}.handler").handler for name in functions}

def ask(name, method, path, document=None):
    event = json.loads(json.dumps(template).replace("/THE/PATH", path).replace("THE_METHOD", method))
    event["body"], event["isBase64Encoded"] = (None if document is None else json.dumps(document)), False
    answer = handlers[name](event, context)
    print(json.dumps([name, method, path, answer["statusCode"], answer["body"][:2000]]), flush=True)
    return json.loads(answer["body"]) if answer["body"].startswith(("{", "[")) else None

steps = ask("assistants", "POST", "/assistants", {"graph_id": "steps"})["assistant_id"]
ask("assistants", "GET", f"/assistants/{steps}/graph")
ask("assistants", "GET", f"/assistants/{steps}/schemas")
ask("assistants", "GET", f"/assistants/{steps}/subgraphs")
ask("assistants", "POST", "/assistants", {"graph_id": "steps", "config": {"configurable": {"model": "x"}}})
thread = ask("threads", "POST", "/threads", {"ttl": {"ttl": 60, "strategy": "delete"}})["thread_id"]
run = ask("runs", "POST", f"/threads/{thread}/runs", {"assistant_id": steps, "input": {"name": "a"}})["run_id"]
ask("runs", "GET", f"/threads/{thread}/runs/{run}")
ask("crons", "POST", "/runs/crons", {"assistant_id": steps, "schedule": "0 0 * * *", "input": {}})
ask("store", "PUT", "/store/items", {"namespace": ["a"], "key": "b", "value": {"c": 1}})
ask("store", "POST", "/store/items/search", {"namespace_prefix": ["a"]})
for name, handler in handlers.items():
    for route in getattr(getattr(handler, "app", None), "routes", ()):
        for method in sorted(getattr(route, "methods", None) or ()):
            if route.path in endless:
                continue
            path = re.sub(r"\\{[^}]*\\}", "00000000-0000-0000-0000-000000000001", route.path)
            ask(name, method, path, {} if method in ("POST", "PUT", "PATCH") else None)
handlers["scheduler"]({}, context)
print(json.dumps({"modules": sorted(sys.modules)}), flush=True)
importlib.import_module("langgraph_serverless_functions.migrate.handler").handler({}, context)  # which has langgraph for its tables, and is of the worker's bundle
os._exit(0)  # as a sandbox ends
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "langgraph_serverless_functions").symlink_to(ROOT / "functions")
    shutil.copytree(PROJECT, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", "from langgraph_serverless.cli.main import main; main()", "manifest"]
    options = ["--config", "project/langgraph.json", "--output", "langgraph_manifest.json"]
    subprocess.run([*command, *options], cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE)
    for path in (tmp_path / "project").glob("*.py"):
        path.write_text(POISON)
    return tmp_path


def test_no_route_of_an_api_function_imports_the_project(bundle: Path, databases: Any, redis_uri: str) -> None:
    uri, note = databases.create(), bundle / "note"
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{bundle}:{ROOT / 'core'}",
        "DATABASE_URI": uri,
        "REDIS_URI": redis_uri,
        "REDIS_KEY_PREFIX": f"alone-{bundle.name}",
        "LANGGRAPH_CONFIG": str(bundle / "project" / "langgraph.json"),
        "LANGGRAPH_MANIFEST": str(bundle / "langgraph_manifest.json"),
        "NOTE": str(note),
    }
    functions = [*API, "scheduler"]
    template = rest_event("/THE/PATH", "THE_METHOD")
    try:
        done = subprocess.run(
            [sys.executable, "-c", PLAY, json.dumps(functions), json.dumps(template)],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    finally:
        databases.drop(uri)
    assert done.returncode == 0, done.stderr + done.stdout[-3000:]
    assert not note.exists()
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("[", '{"modules'))]
    *answers, modules = said
    loaded = {name.partition(".")[0] for name in modules["modules"]}
    assert not loaded & {"langgraph", "langchain_core", "langgraph_project_graphs"}
    failed = [answer for answer in answers if answer[3] >= 500]
    assert not failed
    # what was asked for on purpose was found, and every function was asked for something
    assert [answer[3] for answer in answers[:11]] == [200, 200, 200, 200, 200, 200, 200, 200, 200, 204, 200]
    assert {answer[0] for answer in answers} == set(API)
    assert len(answers) > 60
    graph = json.loads(answers[1][4])
    assert "__start__" in [node["id"] for node in graph["nodes"]]
