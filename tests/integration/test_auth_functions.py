"""Authentication and authorisation on Lambda: every function asks the project's handlers itself, and none needs its graphs for it."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import psycopg
from dev_server import ROOT
from function_play import Bundle, posted
from streaming_function import rest_event

PROJECT = ROOT / "tests" / "fixtures" / "projects" / "tenants"
ALICE, BOB = ({"authorization": f"Bearer {name}@acme"} for name in ("alice", "bob"))


def test_every_function_asks_and_crons_fire_as_their_creator(tmp_path: Path, databases: Any, redis_uri: str) -> None:
    uri = databases.create()
    bundle = Bundle(tmp_path, PROJECT, DATABASE_URI=uri, REDIS_URI=redis_uri)
    thread = f"/threads/{(thread_id := str(uuid.uuid4()))}"
    about = {"metadata": {"of": "the cron"}, "on_run_completed": "keep"}
    cron = {"assistant_id": "who", "schedule": "* * * * *", "input": {}, **about}
    try:
        made = bundle.play(
            [
                ("migrate", {}),  # which makes the assistants
                ("threads", posted("/threads", {})),
                ("threads", rest_event("/nowhere")),
                ("system", rest_event("/info")),
                ("threads", posted("/threads", {"thread_id": thread_id}, **ALICE)),
                ("threads", rest_event(thread, headers=BOB)),
                ("runs", posted(f"{thread}/runs", {"assistant_id": "echo", "input": {}}, **BOB)),
                ("crons", posted("/runs/crons", cron, **ALICE)),
            ]
        )
        assert [status for _, status, _ in made.answers[1:]] == [401, 401, 200, 200, 404, 404, 200], made.answers
        with psycopg.connect(uri, autocommit=True) as connection:
            connection.execute("UPDATE lgs.cron SET next_run_date = now() - interval '1 s'")
        mine = posted("/threads/search", {"metadata": {"of": "the cron"}}, **ALICE)
        others = posted("/threads/search", {}, **BOB)
        fired = bundle.play([("scheduler", {}), ("threads", others), ("worker", {}), ("threads", mine)])
    finally:
        databases.drop(uri)
    assert fired.loaded_langgraph is False
    (_, _, nobodys), (_, _, hers) = (answer for answer in fired.answers if answer[0] == "threads")
    assert nobodys == []
    (of_the_cron,) = hers
    assert of_the_cron["metadata"]["owner"] == "alice"
    assert of_the_cron["status"] == "idle"
    assert of_the_cron["values"]["found"]["identity"] == "alice"
    assert of_the_cron["values"]["found"]["org"] == "acme"
