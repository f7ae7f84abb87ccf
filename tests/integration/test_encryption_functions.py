"""Encryption on Lambda: functions without the graphs encrypt and decrypt too, with the project's handlers and nothing else of it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psycopg
from dev_server import ROOT
from function_play import Bundle, posted
from psycopg import sql
from streaming_function import rest_event

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "sealed"
CANARY = "canary-on-lambda"


def test_functions_without_graphs_encrypt_and_decrypt(tmp_path: Path, databases: Any, redis_uri: str) -> None:
    uri = databases.create()
    bundle = Bundle(tmp_path, PROJECT, DATABASE_URI=uri, REDIS_URI=redis_uri)
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
        played = bundle.play(events)
        stored = rows(uri)
    finally:
        databases.drop(uri)
    assert played.loaded_langgraph is False  # the SDK imports langchain_core by itself
    assert [status for _, status, _ in played.answers if status is not None] == [200] * 7, played.answers
    bodies = [body for *_, body in played.answers]
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
    assert CANARY not in played.stderr


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
