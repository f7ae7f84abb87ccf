"""Threads, as ``contract/threads.md`` says, except for their state and runs."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import psycopg
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.usefixtures("clean_database")

Database = psycopg.AsyncConnection[Any]

KEYS = {
    "thread_id",
    "created_at",
    "updated_at",
    "state_updated_at",
    "metadata",
    "config",
    "status",
    "values",
    "interrupts",
    "error",
}


async def set_state(database: Database, thread_id: str, values: Any, status: str = "idle", **columns: Any) -> None:
    """What a finished run leaves on a thread."""
    await database.execute(
        "UPDATE lgs.thread SET channel_values = %s, status = %s, settled_status = %s, interrupts = %s, error = %s"
        " WHERE thread_id = %s",
        (
            Jsonb(values),
            status,
            status,
            Jsonb(columns.get("interrupts", {})),
            Jsonb(columns["error"]) if "error" in columns else None,
            thread_id,
        ),
    )


async def add_run(database: Database, thread_id: str, *, running: bool = False) -> uuid.UUID:
    """A live run, as run creation and claiming make it."""
    run_id = uuid.uuid4()
    lease = (uuid.uuid4(), 1) if running else (None, 0)
    await database.execute(
        "INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, kwargs, status, lease_token, attempt,"
        " lease_expires_at, started_at, lease_history) VALUES (%s, %s, %s, 'chat', '{}', %s, %s, %s,"
        " CASE WHEN %s THEN now() + interval '1 minute' END, now(), %s)",
        (
            run_id,
            thread_id,
            uuid.uuid4(),
            "running" if running else "pending",
            *lease,
            running,
            Jsonb([{"token": str(lease[0]), "owner": "test"}] if running else []),
        ),
    )
    await database.execute("UPDATE lgs.thread SET status = 'busy' WHERE thread_id = %s", (thread_id,))
    return run_id


async def add_checkpoints(database: Database, thread_id: str, count: int = 2) -> None:
    for number in range(count):
        await database.execute(
            "INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)"
            " VALUES (%s, '', %s, %s, %s, %s)",
            (
                thread_id,
                f"c{number}",
                f"c{number - 1}" if number else None,
                Jsonb({"v": 4, "channel_versions": {"log": str(number)}}),
                Jsonb({"step": number}),
            ),
        )
        await database.execute(
            "INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)"
            " VALUES (%s, '', 'log', %s, 'msgpack', %s)",
            (thread_id, str(number), b"12345"),
        )
        await database.execute(
            "INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)"
            " VALUES (%s, '', %s, 't', 0, 'log', 'msgpack', %s)",
            (thread_id, f"c{number}", b"123"),
        )


async def checkpoint_rows(database: Database, thread_id: str) -> list[int]:
    found = []
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        query = f"SELECT count(*) AS n FROM {table} WHERE thread_id = %s"
        row = await (await database.execute(query, (thread_id,))).fetchone()
        assert row is not None
        found.append(row["n"])
    return found


async def test_create_fills_in_the_defaults(sdk: LangGraphClient) -> None:
    made = await sdk.threads.create()
    assert set(made) == KEYS
    assert uuid.UUID(made["thread_id"]).version == 7
    assert (made["status"], made["values"], made["error"]) == ("idle", None, None)
    assert made["metadata"] == made["config"] == made["interrupts"] == {}
    assert made["created_at"] == made["updated_at"] == made["state_updated_at"]
    assert len(made["created_at"]) == len("2026-11-22T06:08:18.031850+00:00")
    assert made["created_at"].endswith("+00:00")
    assert await sdk.threads.get(made["thread_id"]) == made


async def test_an_existing_id_is_a_conflict_or_the_stored_thread(sdk: LangGraphClient) -> None:
    made = await sdk.threads.create(thread_id=str(uuid.uuid4()), metadata={"a": 1})
    with pytest.raises(ConflictError) as raised:
        await sdk.threads.create(thread_id=made["thread_id"])
    assert raised.value.response.json() == {"detail": f"Thread with ID {made['thread_id']} already exists"}
    again = await sdk.threads.create(thread_id=made["thread_id"], if_exists="do_nothing", metadata={"b": 1})
    assert again == made


async def test_ttl_is_kept_and_shown_on_demand(sdk: LangGraphClient) -> None:
    made = await sdk.threads.create(ttl={"strategy": "delete", "ttl": 1.5})
    assert "ttl" not in made
    found: Any = await sdk.threads.get(made["thread_id"], include=["ttl"])
    assert found["ttl"]["strategy"] == "delete"
    assert found["ttl"]["ttl_minutes"] == 1.5
    assert found["ttl"]["expires_at"] > made["created_at"]
    patched = await sdk.threads.update(made["thread_id"], metadata={"a": 1}, ttl={"ttl": 60})
    assert "ttl" not in patched
    later: Any = await sdk.threads.get(made["thread_id"], include=["other", "ttl"])
    assert later["ttl"]["strategy"] == "delete"
    assert later["ttl"]["expires_at"] > found["ttl"]["expires_at"]
    await sdk.threads.update(made["thread_id"], metadata={}, ttl={"strategy": "keep_latest", "ttl": 1})
    kept: Any = await sdk.threads.get(made["thread_id"], include=["ttl"])
    assert (kept["ttl"]["strategy"], kept["ttl"]["ttl_minutes"]) == ("keep_latest", 1)
    plain: Any = await sdk.threads.get((await sdk.threads.create())["thread_id"], include=["ttl"])
    assert plain["ttl"] is None


@pytest.mark.parametrize(
    ("body", "first_line", "place"),
    [
        ({"thread_id": None}, 'null is not of type "string"', '["thread_id"]'),
        ({"metadata": None}, 'null is not of type "object"', '["metadata"]'),
        ({"if_exists": "bad"}, '"bad" is not one of "raise" or "do_nothing"', '["if_exists"]'),
        ({"ttl": 5}, '5 is not of type "object"', '["ttl"]'),
        ({"ttl": {}}, '"ttl" is a required property', '["ttl"]'),
        ({"ttl": {"ttl": 0}}, "0 is less than or equal to the minimum of 0", '["ttl"]["ttl"]'),
        ({"ttl": {"ttl": 1, "strategy": "x"}}, '"x" is not one of', '["ttl"]["strategy"]'),
        ({"supersteps": [{}]}, '"updates" is a required property', '["supersteps"][0]'),
        ([], '[] is not of type "object"', ""),
    ],
)
async def test_create_names_the_wrong_field(http: httpx.AsyncClient, body: Any, first_line: str, place: str) -> None:
    response = await http.post("/threads", json=body)
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert detail.startswith(first_line)
    assert f"On instance{place}:\n    " in detail


async def test_an_id_in_a_body_is_refused_as_in_a_path(http: httpx.AsyncClient) -> None:
    response = await http.post("/threads", json={"thread_id": "bad"})
    assert (response.status_code, response.json()) == (422, {"detail": "Invalid thread ID: must be a UUID"})


async def test_supersteps_need_the_graphs(http: httpx.AsyncClient) -> None:
    body = {"metadata": {"graph_id": "chat"}, "supersteps": [{"updates": [{"values": {}, "as_node": "__input__"}]}]}
    response = await http.post("/threads", json=body)
    assert response.status_code == 422
    assert "'supersteps'" in response.json()["detail"]
    assert (await http.post("/threads", json={"supersteps": []})).status_code == 200


async def test_a_patch_may_be_answered_without_a_body(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    made = await sdk.threads.create()
    assert await sdk.threads.update(made["thread_id"], metadata={"a": 1}, return_minimal=True) is None
    assert (await sdk.threads.get(made["thread_id"]))["metadata"] == {"a": 1}
    for prefer, status in (("respond-async, return=minimal", 204), ("return=representation", 200), ("x", 200)):
        path, headers = f"/threads/{made['thread_id']}", {"Prefer": prefer}
        assert (await http.patch(path, json={}, headers=headers)).status_code == status


async def test_what_runs_write_into_metadata_cannot_be_sent(sdk: LangGraphClient) -> None:
    sent = {"assistant_id": "a", "run_id": "r", "thread_id": "t", "cron_id": "c", "graph_id": "g", "own": 1}
    made = await sdk.threads.create(metadata=sent)
    assert made["metadata"] == {"graph_id": "g", "own": 1}
    patched = await sdk.threads.update(made["thread_id"], metadata={**sent, "own": 2})
    assert patched["metadata"] == {"graph_id": "g", "own": 2}


async def test_patch_merges_metadata(sdk: LangGraphClient) -> None:
    made = await sdk.threads.create(metadata={"a": {"x": 1}, "b": 1})
    patched = await sdk.threads.update(made["thread_id"], metadata={"a": {"y": 2}, "b": None})
    assert patched["metadata"] == {"a": {"y": 2}, "b": None}
    assert patched["updated_at"] > made["updated_at"]
    assert patched["state_updated_at"] == made["state_updated_at"]
    touched = await sdk.threads.update(made["thread_id"], metadata={})
    assert touched["metadata"] == patched["metadata"]
    assert touched["updated_at"] > patched["updated_at"]


async def test_missing_threads_are_named(http: httpx.AsyncClient) -> None:
    missing = uuid.uuid4()
    text = f"Thread with ID {missing} not found"
    for method, path, status, detail in (
        ("GET", "", 404, text),
        ("DELETE", "", 404, text),
        ("GET", "/storage", 404, text),
        ("PATCH", "", 404, "Not Found"),
        ("POST", "/copy", 409, "Conflict"),
    ):
        body = {} if method == "PATCH" else None
        response = await http.request(method, f"/threads/{missing}{path}", json=body)
        assert (response.status_code, response.json()) == (status, {"detail": detail})


async def test_ids_must_be_uuids(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/copy"), ("GET", "/storage")):
        body = {} if method == "PATCH" else None
        response = await http.request(method, f"/threads/nope{path}", json=body)
        assert (response.status_code, response.json()) == (422, {"detail": "Invalid thread ID: must be a UUID"})


async def test_patch_takes_no_null(http: httpx.AsyncClient, sdk: LangGraphClient) -> None:
    made = await sdk.threads.create()
    for body in ({"ttl": None}, {"metadata": None}):
        assert (await http.patch(f"/threads/{made['thread_id']}", json=body)).status_code == 422


async def test_a_thread_on_its_way_out_exists_for_nobody(
    sdk: LangGraphClient, http: httpx.AsyncClient, database: Database
) -> None:
    made = await sdk.threads.create(metadata={"hidden": True})
    await database.execute(
        "UPDATE lgs.thread SET temporary = true, purge_at = now() WHERE thread_id = %s", (made["thread_id"],)
    )
    path = f"/threads/{made['thread_id']}"
    assert (await http.get(path)).status_code == 404
    assert (await http.patch(path, json={})).status_code == 404
    assert (await http.delete(path)).status_code == 404
    assert (await http.post(f"{path}/copy")).status_code == 409
    assert (await http.get(f"{path}/storage")).status_code == 404
    assert await sdk.threads.search() == []
    assert await sdk.threads.count() == 0
    assert await sdk.threads.prune([made["thread_id"]]) == {"pruned_count": 0}


async def test_delete_takes_runs_crons_and_checkpoints_along(sdk: LangGraphClient, database: Database) -> None:
    made = await sdk.threads.create()
    thread_id = made["thread_id"]
    other = await sdk.threads.create()
    await add_checkpoints(database, thread_id)
    await add_checkpoints(database, other["thread_id"])
    await add_run(database, thread_id, running=True)
    await add_run(database, thread_id)
    await database.execute(
        "INSERT INTO lgs.cron (cron_id, assistant_id, thread_id, schedule, payload) VALUES (%s, %s, %s, '* * * * *', '{}')",
        (uuid.uuid4(), uuid.uuid4(), thread_id),
    )
    assert (await sdk.threads.get(thread_id))["status"] == "busy"
    await sdk.threads.delete(thread_id)
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread_id)
    assert await checkpoint_rows(database, thread_id) == [0, 0, 0]
    assert await checkpoint_rows(database, other["thread_id"]) == [2, 2, 2]
    for table in ("run", "cron"):
        assert await (await database.execute(f"SELECT 1 FROM lgs.{table}")).fetchall() == []
    assert await sdk.threads.create(thread_id=thread_id)


async def test_copy_takes_state_and_history_but_no_runs(sdk: LangGraphClient, database: Database) -> None:
    made = await sdk.threads.create(metadata={"a": 1}, ttl={"ttl": 5})
    interrupts = {"task": [{"id": "i", "value": "ok?"}]}
    await set_state(database, made["thread_id"], {"log": ["x"]}, "interrupted", interrupts=interrupts)
    await add_checkpoints(database, made["thread_id"])
    await add_run(database, made["thread_id"])
    copy: Any = await sdk.threads.copy(made["thread_id"])
    assert uuid.UUID(copy["thread_id"]).version == 4
    assert (copy["metadata"], copy["values"], copy["status"]) == ({"a": 1}, {"log": ["x"]}, "interrupted")
    assert copy["interrupts"] == interrupts
    assert await checkpoint_rows(database, copy["thread_id"]) == [2, 2, 2]
    rows = await (
        await database.execute(
            "SELECT checkpoint_id, parent_checkpoint_id FROM checkpoints WHERE thread_id = %s ORDER BY 1",
            (copy["thread_id"],),
        )
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [("c0", None), ("c1", "c0")]
    assert (await sdk.threads.get(made["thread_id"]))["status"] == "busy"
    await sdk.threads.delete(made["thread_id"])
    assert await checkpoint_rows(database, copy["thread_id"]) == [2, 2, 2]


async def test_prune_deletes_what_exists(sdk: LangGraphClient, http: httpx.AsyncClient, database: Database) -> None:
    threads = [(await sdk.threads.create())["thread_id"] for _ in range(3)]
    await add_checkpoints(database, threads[0])
    assert await sdk.threads.prune([*threads[:2], str(uuid.uuid4()), threads[0]]) == {"pruned_count": 2}
    assert [item["thread_id"] for item in await sdk.threads.search()] == [threads[2]]
    assert await checkpoint_rows(database, threads[0]) == [0, 0, 0]
    assert await sdk.threads.prune([]) == {"pruned_count": 0}
    for body, place in (
        ({}, "On instance:"),
        ({"thread_ids": ["bad"]}, "Invalid thread ID: must be a UUID"),
        ({"thread_ids": [], "strategy": "x"}, 'On instance["strategy"]:'),
    ):
        response = await http.post("/threads/prune", json=body)
        assert response.status_code == 422
        assert place in response.json()["detail"]


async def test_storage_counts_rows_and_bytes(http: httpx.AsyncClient, sdk: LangGraphClient, database: Database) -> None:
    made = await sdk.threads.create()
    path = f"/threads/{made['thread_id']}/storage"
    assert (await http.get(path)).json() == {
        "thread_id": made["thread_id"],
        "total_bytes": 0,
        "checkpoints": {"count": 0, "bytes": 0},
        "channel_values": {"count": 0, "bytes": 0, "by_channel": {}},
        "pending_writes": {"count": 0, "bytes": 0},
    }
    await add_checkpoints(database, made["thread_id"])
    found = (await http.get(path)).json()
    assert found["channel_values"] == {"count": 2, "bytes": 10, "by_channel": {"log": {"versions": 2, "bytes": 10}}}
    assert found["pending_writes"] == {"count": 2, "bytes": 6}
    assert found["checkpoints"]["count"] == 2
    assert found["total_bytes"] == found["checkpoints"]["bytes"] + 16 > 16


async def test_search_filters(sdk: LangGraphClient, http: httpx.AsyncClient, database: Database) -> None:
    a = await sdk.threads.create(metadata={"user": {"id": 1, "x": 2}, "tags": [1, 2]})
    b = await sdk.threads.create(metadata={"user": {"id": 2}})
    c = await sdk.threads.create()
    await set_state(database, b["thread_id"], {"log": {"n": 1}}, "interrupted")
    await set_state(database, c["thread_id"], ["root list"], "error", error={"error": "E", "message": "m"})

    async def found(**query: Any) -> set[str]:
        names = {a["thread_id"]: "a", b["thread_id"]: "b", c["thread_id"]: "c"}
        return {names[item["thread_id"]] for item in await sdk.threads.search(**query)}

    assert await found() == {"a", "b", "c"}
    assert await found(metadata={"user": {"id": 1}}) == {"a"}
    assert await found(metadata={"user": {}}) == {"a", "b"}
    assert await found(values={"log": {"n": 1}}) == {"b"}
    assert await found(values={"log": {"n": 2}}) == set()
    assert await found(status="interrupted") == {"b"}
    assert await found(status="idle") == {"a"}
    assert await found(ids=[a["thread_id"], c["thread_id"], str(uuid.uuid4())]) == {"a", "c"}
    assert (await http.post("/threads/search", json={"ids": []})).json() == []
    assert await found(status="error", metadata={"user": {}}) == set()
    assert await sdk.threads.count(metadata={"user": {}}) == 2
    assert await sdk.threads.count(values={"log": {"n": 1}}) == 1
    assert await sdk.threads.count(status="error") == 1
    failed = (await sdk.threads.search(status="error"))[0]
    assert failed["error"] == {"error": "E", "message": "m"}
    assert failed["values"] == ["root list"]


async def test_search_sorts(sdk: LangGraphClient, database: Database) -> None:
    made = [(await sdk.threads.create())["thread_id"] for _ in range(3)]
    await sdk.threads.update(made[0], metadata={})
    await set_state(database, made[1], {}, "error")

    async def order(**query: Any) -> list[int]:
        return [made.index(item["thread_id"]) for item in await sdk.threads.search(**query)]

    assert await order() == [0, 2, 1]
    assert await order(sort_order="asc") == [1, 2, 0]
    assert await order(sort_by="created_at") == [2, 1, 0]
    assert await order(sort_by="thread_id", sort_order="asc") == [0, 1, 2]
    assert (await order(sort_by="status", sort_order="asc"))[0] == 1
    assert await order(sort_by="state_updated_at", sort_order="asc") == [0, 1, 2]


async def test_search_selects_and_extracts(sdk: LangGraphClient, http: httpx.AsyncClient, database: Database) -> None:
    made = await sdk.threads.create(metadata={"o": {"p": [7, 8]}})
    messages = [{"content": "first"}, {"content": "last"}]
    await set_state(database, made["thread_id"], {"messages": messages, "n": 1})
    empty = await sdk.threads.create()
    found = await sdk.threads.search(select=["thread_id", "values"], ids=[made["thread_id"]])
    assert found == [{"thread_id": made["thread_id"], "values": {"messages": messages, "n": 1}}]
    extract = {
        "last": "values.messages[-1].content",
        "first": "values.messages[0].content",
        "p": "metadata.o.p[1]",
        "all": "values.messages[*].content",
        "none": "values.nope.deeper",
        "whole": "metadata",
    }
    items: Any = await sdk.threads.search(select=["thread_id"], extract=extract, sort_by="created_at")
    assert items == [
        {"thread_id": empty["thread_id"], "extracted": dict.fromkeys(extract) | {"whole": {}}},
        {
            "thread_id": made["thread_id"],
            "extracted": {
                "last": "last",
                "first": "first",
                "p": 8,
                "all": None,
                "none": None,
                "whole": {"o": {"p": [7, 8]}},
            },
        },
    ]
    for path in ("zzz.a", "thread_id", "valuesx.n", "status"):
        response = await http.post("/threads/search", json={"extract": {"a": path}})
        text = f"Extract path '{path}' must start with one of: config, interrupts, metadata, values"
        assert (response.status_code, response.json()) == (422, {"detail": text})
    for alias in ("é", "a-b", "1a", "", "status", "'\"%s{}"):
        response = await http.post("/threads/search", json={"extract": {alias: "values"}})
        assert (response.status_code, response.json()["detail"][:11]) == (422, "Extract key")
    response = await http.post("/threads/search", json={"extract": {f"a{n}": "values" for n in range(11)}})
    assert response.status_code == 422
    paths = {
        "a": "values.'; DROP TABLE lgs.run; --",
        "b": "values.",
        "c": "values..n",
        "d": "values[",
        "e": "values.n[x]",
    }
    response = await http.post("/threads/search", json={"ids": [made["thread_id"]], "extract": paths})
    whole = {"messages": messages, "n": 1}
    assert response.json()[0]["extracted"] == {"a": None, "b": whole, "c": 1, "d": None, "e": None}


async def test_search_pages(sdk: LangGraphClient, http: httpx.AsyncClient) -> None:
    made = {(await sdk.threads.create())["thread_id"] for _ in range(14)}
    seen: list[str] = []
    offset = 0
    for total, following in (("11", "10"), ("14", None)):
        response = await http.post("/threads/search", json={"offset": offset})
        seen += [item["thread_id"] for item in response.json()]
        assert response.headers["x-pagination-total"] == total
        assert response.headers.get("x-pagination-next") == following
        offset += 10
    assert len(seen) == 14
    assert set(seen) == made
    response = await http.post("/threads/search", json={"offset": 50})
    assert (response.json(), response.headers["x-pagination-total"]) == ([], "50")


@pytest.mark.parametrize(
    ("body", "first_line"),
    [
        ({"limit": 0}, "0 is less than the minimum of 1"),
        ({"limit": 1001}, "1001 is greater than the maximum of 1000"),
        ({"offset": -1}, "-1 is less than the minimum of 0"),
        ({"status": "nope"}, '"nope" is not one of'),
        ({"sort_by": "metadata"}, '"metadata" is not one of'),
        ({"select": ["zzz"]}, '"zzz" is not one of'),
        ({"ids": ["zzz"]}, '"zzz" is not a "uuid"'),
        ({"values": []}, '[] is not of type "object"'),
        ({"extract": {"a": 1}}, '1 is not of type "string"'),
    ],
)
async def test_search_names_the_wrong_field(http: httpx.AsyncClient, body: dict[str, Any], first_line: str) -> None:
    response = await http.post("/threads/search", json=body)
    assert response.status_code == 422
    detail = response.json()["detail"]
    assert detail.startswith(first_line)
    assert f'On instance["{next(iter(body))}"]' in detail
