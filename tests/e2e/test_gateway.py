"""What API Gateway does to requests and answers on their way: errors, headers, paths, queries, bodies, CORS.

Each assertion is what the same application answers without a gateway (``tests/contract``), so that nothing of it is lost.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("due_cron")]

MINIMAL = {"text": "hello"}
ORIGIN = {"Origin": "https://chat.example.com"}
#: Of several planes and directions, with what paths and queries are made of, and JSON within JSON.
WORDS = 'Grüße ✓ 🦜 שלום a/b c%20d e+f g&h=i "j" \\k {"l": [1]} é'


@pytest.fixture
async def http(stack: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        yield client


async def test_the_projects_own_application_has_its_pages_and_is_around_all_routes(http: httpx.AsyncClient) -> None:
    page = await http.get("/pages/one")
    assert page.json() == {"page": "one", "greeting": "hello from the start-up"}
    for path in ("/pages/one", "/ok", "/nowhere", f"/threads/{uuid.uuid4()}"):  # in its function and in others
        assert (await http.get(path)).headers["x-from-the-project"] == "yes", path
    assert (await http.get("/parts")).text == "0\n1\n2\n"
    found = (await http.post("/assistants/count", json={})).json()
    assert (await http.get("/counted")).json() == {"assistants": found}


async def test_errors_come_as_the_application_has_made_them(http: httpx.AsyncClient) -> None:
    missing = str(uuid.uuid4())
    unknown = await http.get("/threads/no/such/path")
    assert (unknown.status_code, unknown.json()) == (404, {"detail": "Not Found"})
    assert (await http.get("/nowhere")).json() == {"detail": "Not Found"}
    thread = await http.get(f"/threads/{missing}")
    assert (thread.status_code, thread.json()) == (404, {"detail": f"Thread with ID {missing} not found"})
    # each of these paths has a function of its own
    for path in (
        f"/assistants/{missing}",
        f"/threads/{missing}/state",
        f"/threads/{missing}/runs",
        f"/runs/crons/{missing}",
    ):
        answer = await http.get(path)
        assert (answer.status_code, list(answer.json())) == (404, ["detail"]), path
    streamed = await http.post(f"/threads/{missing}/runs/stream", json={"assistant_id": "minimal", "input": MINIMAL})
    assert (streamed.status_code, list(streamed.json())) == (404, ["detail"])

    wrong_method = await http.get("/runs/crons")
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "POST")
    assert wrong_method.json() == {"detail": "Method Not Allowed"}
    assert (await http.put("/threads/search")).status_code == 405
    assert (await http.delete("/runs/stream")).status_code == 405

    thread_id = str(uuid.uuid4())
    assert (await http.post("/threads", json={"thread_id": thread_id})).status_code == 200
    again = await http.post("/threads", json={"thread_id": thread_id})
    assert (again.status_code, list(again.json())) == (409, ["detail"])

    for content in (b"", b"{", b"\xff\xfe\x00", b'{"metadata": NaN}'):
        broken = await http.post("/threads", content=content)
        assert (broken.status_code, broken.json()) == (422, {"detail": "Invalid JSON in request body"}), content
    wrong_field = await http.post("/threads", json={"if_exists": "bad"})
    assert wrong_field.status_code == 422
    assert wrong_field.json()["detail"].endswith('On instance["if_exists"]:\n    "bad"')
    for path in ("/threads/nonsense", "/runs/crons/nonsense", "/threads/nonsense/state"):
        assert (await http.get(path)).status_code == 422, path
    nul = await http.get("/store/items", params={"namespace": "a", "key": "\0"})
    assert (nul.status_code, nul.json()) == (422, {"detail": "The parameter 'key' holds a NUL character"})


async def test_a_body_beyond_the_limit_gets_413(http: httpx.AsyncClient, stack: Any) -> None:
    """The limit is ours: API Gateway's own are 10 MB, Lambda's 6, which LocalStack has not."""
    with stack.configured("crons", MAX_REQUEST_BODY_BYTES="2000"):
        small = await http.post("/runs/crons/search", json={"metadata": {"a": "x" * 1000}})
        assert small.status_code == 200
        large = await http.post("/runs/crons/search", json={"metadata": {"a": "x" * 2000}})
        assert (large.status_code, list(large.json())) == (413, ["detail"])


async def test_whatever_characters_paths_and_queries_and_bodies_are_made_of(http: httpx.AsyncClient) -> None:
    space = f"e2e-{uuid.uuid4()}"
    value = {"text": WORDS, WORDS: [None, 2**53, 1.5, True]}
    put = await http.put("/store/items", json={"namespace": [space, WORDS], "key": WORDS, "value": value})
    assert put.status_code == 204
    got = await http.get("/store/items", params={"namespace": f"{space}.{WORDS}", "key": WORDS})
    assert (got.status_code, got.json()["namespace"]) == (200, [space, WORDS])
    assert (got.json()["key"], got.json()["value"]) == (WORDS, value)
    found = await http.post("/store/items/search", json={"namespace_prefix": [space, WORDS]})
    assert [item["key"] for item in found.json()["items"]] == [WORDS]

    (team,) = (await http.post("/assistants/search", json={"graph_id": "team"})).json()
    for namespace in ("walk", "no|such", "ñ✓", "a b", "a%20b"):
        path = f"/assistants/{team['assistant_id']}/subgraphs/{quote(namespace, safe='')}"
        subgraphs = await http.get(path)
        assert subgraphs.status_code == 200, (namespace, subgraphs.text)
        assert set(subgraphs.json()) == ({"walk"} if namespace == "walk" else set())
    name = f"{space} {WORDS}"
    made = await http.post("/assistants", json={"graph_id": "minimal", "name": name, "metadata": {WORDS: WORDS}})
    assert made.json()["name"] == name
    found = await http.post("/assistants/search", json={"metadata": {WORDS: WORDS}})
    assert [row["name"] for row in found.json()] == [name]
    await http.delete(f"/assistants/{made.json()['assistant_id']}")


async def test_a_query_parameter_may_be_repeated(http: httpx.AsyncClient) -> None:
    thread_id = (await http.post("/threads", json={})).json()["thread_id"]
    made = await http.post(f"/threads/{thread_id}/runs/wait", json={"assistant_id": "minimal", "input": MINIMAL})
    assert made.status_code == 200
    rows = await http.get(f"/threads/{thread_id}/runs", params={"select": ["run_id", "status"], "limit": 5})
    assert [set(row) for row in rows.json()] == [{"run_id", "status"}]
    run_id = rows.json()[0]["run_id"]
    modes = {"stream_mode": ["values", "updates"]}
    joined = await http.get(
        f"/threads/{thread_id}/runs/{run_id}/stream", params=modes, headers={"Last-Event-ID": "0-0"}
    )
    assert joined.status_code == 200
    assert joined.headers["content-type"].startswith("text/event-stream")


async def test_headers_reach_both_sides(http: httpx.AsyncClient) -> None:
    tag = {"page": str(uuid.uuid4())}
    threads = [(await http.post("/threads", json={"metadata": tag})).json()["thread_id"] for _ in range(3)]
    page = await http.post("/threads/search", json={"metadata": tag, "limit": 2})
    assert (page.headers["x-pagination-total"], page.headers["x-pagination-next"]) == ("3", "2")
    run = await http.post(f"/threads/{threads[0]}/runs", json={"assistant_id": "minimal", "input": MINIMAL})
    place = f"/threads/{threads[0]}/runs/{run.json()['run_id']}"
    assert run.headers["content-location"] == place
    waited = await http.post(f"/threads/{threads[1]}/runs/wait", json={"assistant_id": "minimal", "input": MINIMAL})
    assert waited.headers["location"] == waited.headers["content-location"] + "/join"
    assert (await http.get(waited.headers["location"].removeprefix("/"))).json() == waited.json()

    key = {"Idempotency-Key": str(uuid.uuid4())}
    first, second = [await http.post("/threads", json={"metadata": tag}, headers=key) for _ in range(2)]
    assert first.json() == second.json()
    assert ("idempotency-replayed" in first.headers, second.headers["idempotency-replayed"]) == (False, "true")
    minimal = await http.patch(f"/threads/{threads[2]}", json={"metadata": {}}, headers={"Prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (204, b"")
    head = await http.head("/ok")
    assert (head.status_code, head.content) == (200, b"")
    assert (await http.get(place + "/join")).status_code == 200


async def test_a_browser_may_call_it_from_another_origin(http: httpx.AsyncClient) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}
    # of functions that answer at once, and of the one that streams
    for path in ("/threads", "/runs/stream", "/store/items", "/nowhere"):
        preflight = await http.options(path, headers=ORIGIN | asked)
        assert preflight.status_code == 200, path
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    answers = await asyncio.gather(
        http.get("/ok", headers=ORIGIN),
        http.get(f"/threads/{uuid.uuid4()}", headers=ORIGIN),
        http.post("/runs/wait", json={"assistant_id": "minimal", "input": MINIMAL}, headers=ORIGIN),
    )
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    for answer in answers:  # errors too, or a script could not read them
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "content-location" in answer.headers["access-control-expose-headers"]
