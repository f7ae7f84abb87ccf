"""Lists in pages: for any rows and any search, the pages one after the other are exactly what matches, in order, once.

What matches and in which order is worked out a second time, in Python. Times and values are taken from few, so that most
rows are tied, and the order among ties shows as well. ``X-Pagination-Next`` leads to the end and not further, and the count
is the sum of the pages. ``X-Pagination-Total`` is no count: it says what is known after this page.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.http.app import create_app
from langgraph_serverless.settings import Settings

Row = dict[str, Any]
Database = psycopg.AsyncConnection[Any]

GRAPHS = ("chat", "Agent")
THREAD = uuid.UUID(int=7)

#: Fixtures live for all examples of a test: each example empties the tables itself.
examples = hypothesis_settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

ids = st.integers(0, 2**128 - 1).map(lambda number: str(uuid.UUID(int=number)))
times = st.integers(0, 3).map(lambda hour: f"2026-01-01T0{hour}:00:00+00:00")
words = st.sampled_from(["a", "b", 1])
documents = st.fixed_dictionaries(
    {},
    optional={
        "x": words,
        "y": st.fixed_dictionaries({"z": words}, optional={"w": words}),
        "t": st.lists(words, max_size=2),
    },
)
queries = documents | st.just({})
limits = st.integers(1, 7) | st.just(1000)
orders = st.sampled_from(["asc", "desc"])


def rows_of(key: str, **columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries({key: ids, **columns})
    return st.lists(row, max_size=20, unique_by=lambda row: row[key])


def contains(document: Any, query: Any) -> bool:
    """As ``@>``."""
    if isinstance(query, dict):
        return isinstance(document, dict) and all(
            key in document and contains(document[key], value) for key, value in query.items()
        )
    if isinstance(query, list):
        return isinstance(document, list) and all(any(contains(mine, asked) for mine in document) for asked in query)
    return bool(document == query)


def in_order(rows: Sequence[Row], key: str, by: Sequence[Callable[[Row], Any]], order: str) -> list[str]:
    """The ids as they have to come: nulls are greater than everything, ties go by the id, the other way round."""
    # stable sorts, from the last criterion to the first
    down = order == "desc"
    found = sorted(rows, key=lambda row: uuid.UUID(row[key]).int, reverse=not down if by else down)
    for criterion in reversed(by):
        found.sort(key=lambda row: (criterion(row) is None, criterion(row) or ""), reverse=down)
    return [row[key] for row in found]


@pytest.fixture(scope="module")
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    graphs = {
        name: GraphManifest(graph_id=name, description=None, is_factory=False, schemas={}, drawings={}, subgraphs={})
        for name in GRAPHS
    }
    container = ApiContainer(settings, manifest=Manifest.of(graphs))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield

    transport = httpx.ASGITransport(create_app(container, lifespan=lifespan))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client
    await container.aclose()


@pytest.fixture
async def database(database_uri: str, clean_database: None) -> AsyncIterator[Database]:
    async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as connection:
        yield connection
        await _empty(connection)


async def _empty(database: Database) -> None:
    for table in ("lgs.cron", "lgs.thread", "lgs.assistant"):
        await database.execute(psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier(*table.split("."))))


async def fill(database: Database, table: str, rows: Sequence[Row]) -> None:
    """Put rows into a table."""
    if rows:
        name = psycopg.sql.Identifier("lgs", table)
        columns = psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, rows[0]))
        insert = psycopg.sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM jsonb_populate_recordset(NULL::{}, %s::jsonb)"
        ).format(name, columns, columns, name)
        await database.execute(insert, (orjson.dumps(rows).decode(),))


async def walk(http: httpx.AsyncClient, path: str, body: Row, key: str) -> list[str]:
    """The ids of all pages, as the headers lead through them."""
    found: list[str] = []
    offset = 0
    while True:
        answer = await http.post(path, json={**body, "offset": offset})
        assert answer.status_code == 200, answer.text
        page = [row[key] for row in answer.json()]
        found += page
        following = answer.headers.get("x-pagination-next")
        assert answer.headers["x-pagination-total"] == str(offset + len(page) + (following is not None))
        if following is None:
            break
        assert following == str(offset + body["limit"])
        assert len(page) == body["limit"]
        offset = int(following)
    beyond = await http.post(path, json={**body, "offset": len(found) + 3})
    assert beyond.json() == []
    assert beyond.headers["x-pagination-total"] == str(len(found) + 3)
    assert "x-pagination-next" not in beyond.headers
    return found


async def count(http: httpx.AsyncClient, path: str, body: Row) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


STATUSES = ("idle", "interrupted", "error")


@examples
@given(
    rows=rows_of(
        "thread_id",
        status=st.sampled_from(STATUSES),
        metadata=documents,
        channel_values=documents | st.none(),
        purge_at=st.sampled_from([None, None, None, "2099-01-01T00:00:00Z"]),
        created_at=times,
        updated_at=times,
        state_updated_at=times,
    ),
    metadata=queries,
    values=queries,
    status=st.sampled_from(STATUSES) | st.none(),
    some=st.none() | st.sets(st.integers(0, 19)),
    sort=st.sampled_from(["thread_id", "status", "created_at", "updated_at", "state_updated_at"]),
    order=orders,
    limit=limits,
)
async def test_threads(
    http: httpx.AsyncClient,
    database: Database,
    *,
    rows: list[Row],
    metadata: Row,
    values: Row,
    status: str | None,
    some: set[int] | None,
    sort: str,
    order: str,
    limit: int,
) -> None:
    await _empty(database)
    await fill(database, "thread", [{**row, "settled_status": row["status"]} for row in rows])
    wanted = None if some is None else [row["thread_id"] for number, row in enumerate(rows) if number in some]
    matching = [
        row
        for row in rows
        if row["purge_at"] is None
        and contains(row["metadata"], metadata)
        and (not values or (row["channel_values"] is not None and contains(row["channel_values"], values)))
        and status in (None, row["status"])
        and (wanted is None or row["thread_id"] in wanted)
    ]
    by = {"thread_id": [], "status": ["status", "updated_at"]}.get(sort, [sort])
    filters = {"metadata": metadata, "values": values, **({"status": status} if status else {})}
    body = {**filters, "sort_by": sort, "sort_order": order, "limit": limit}
    if wanted is not None:
        body["ids"] = wanted
    found = await walk(http, "/threads/search", body, "thread_id")
    assert found == in_order(matching, "thread_id", [_get(name) for name in by], order)
    if wanted is None:
        assert await count(http, "/threads/count", filters) == len(found)


def _get(name: str) -> Callable[[Row], Any]:
    return lambda row: row[name]


@examples
@given(
    rows=rows_of(
        "assistant_id",
        graph_id=st.sampled_from(GRAPHS),
        name=st.text("aBbA%_", min_size=1, max_size=3),
        metadata=documents,
        created_at=times,
        updated_at=times,
    ),
    metadata=queries,
    graph_id=st.sampled_from(GRAPHS) | st.none(),
    part=st.none() | st.text("aBbA%_", min_size=1, max_size=2),
    sort=st.sampled_from(["assistant_id", "created_at", "updated_at", "name", "graph_id"]),
    order=orders,
    limit=limits,
)
async def test_assistants(
    http: httpx.AsyncClient,
    database: Database,
    *,
    rows: list[Row],
    metadata: Row,
    graph_id: str | None,
    part: str | None,
    sort: str,
    order: str,
    limit: int,
) -> None:
    await _empty(database)
    await fill(database, "assistant", [{**row, "version": 1} for row in rows])
    matching = [
        row
        for row in rows
        if contains(row["metadata"], metadata)
        and graph_id in (None, row["graph_id"])
        and (part is None or part.lower() in row["name"].lower())
    ]
    filters = {"metadata": metadata}
    if graph_id is not None:
        filters["graph_id"] = graph_id
    if part is not None:
        filters["name"] = part
    found = await walk(
        http, "/assistants/search", {**filters, "sort_by": sort, "sort_order": order, "limit": limit}, "assistant_id"
    )
    if sort in ("name", "graph_id"):
        by = [lambda row: row[sort].lower()]
    else:
        by = [] if sort == "assistant_id" else [_get(sort)]
    assert found == in_order(matching, "assistant_id", by, order)
    assert await count(http, "/assistants/count", filters) == len(found)


ASSISTANTS = [str(uuid.UUID(int=number)) for number in (1, 2)]


@examples
@given(
    rows=rows_of(
        "cron_id",
        assistant_id=st.sampled_from(ASSISTANTS),
        thread_id=st.sampled_from([None, str(THREAD)]),
        metadata=documents,
        enabled=st.booleans(),
        next_run_date=times | st.none(),
        end_time=times | st.none(),
        created_at=times,
        updated_at=times,
    ),
    metadata=queries,
    assistant_id=st.sampled_from(ASSISTANTS) | st.none(),
    thread_id=st.just(str(THREAD)) | st.none(),
    enabled=st.booleans() | st.none(),
    sort=st.sampled_from(
        ["cron_id", "assistant_id", "thread_id", "next_run_date", "end_time", "created_at", "updated_at"]
    ),
    order=orders,
    limit=limits,
)
async def test_crons(
    http: httpx.AsyncClient,
    database: Database,
    *,
    rows: list[Row],
    metadata: Row,
    assistant_id: str | None,
    thread_id: str | None,
    enabled: bool | None,
    sort: str,
    order: str,
    limit: int,
) -> None:
    await _empty(database)
    await fill(database, "thread", [{"thread_id": str(THREAD), "metadata": {}}])
    await fill(database, "cron", [{**row, "schedule": "* * * * *", "payload": {}} for row in rows])
    matching = [
        row
        for row in rows
        if contains(row["metadata"], metadata)
        and assistant_id in (None, row["assistant_id"])
        and thread_id in (None, row["thread_id"])
        and enabled in (None, row["enabled"])
    ]
    given_ids = {"assistant_id": assistant_id, "thread_id": thread_id}
    filters = {"metadata": metadata, **{name: value for name, value in given_ids.items() if value is not None}}
    body = {**filters, "sort_by": sort, "sort_order": order, "limit": limit}
    if enabled is not None:
        body["enabled"] = enabled
    found = await walk(http, "/runs/crons/search", body, "cron_id")
    assert found == in_order(matching, "cron_id", [] if sort == "cron_id" else [_get(sort)], order)
    if enabled is None:
        assert await count(http, "/runs/crons/count", filters) == len(found)


@examples
@given(
    rows=rows_of(
        "run_id", status=st.sampled_from(["pending", "success", "error"]), resuming=st.booleans(), created_at=times
    ),
    status=st.sampled_from(["pending", "running", "success", "error", "timeout"]) | st.none(),
    limit=limits,
)
async def test_runs_of_a_thread(
    http: httpx.AsyncClient, database: Database, *, rows: list[Row], status: str | None, limit: int
) -> None:
    await _empty(database)
    await fill(database, "thread", [{"thread_id": str(THREAD), "metadata": {}}])
    for row in rows:
        row["resuming"] &= row["status"] == "pending"
    whole = {"thread_id": str(THREAD), "assistant_id": ASSISTANTS[0], "graph_id": "chat", "kwargs": {}}
    await fill(
        database,
        "run",
        [{**row, **whole, "finished_at": None if row["status"] == "pending" else row["created_at"]} for row in rows],
    )
    matching = [row for row in rows if status in (None, "running" if row["resuming"] else row["status"])]
    found: list[str] = []
    asked: Any = {"limit": limit, **({"status": status} if status else {})}
    while True:
        answer = await http.get(f"/threads/{THREAD}/runs", params={**asked, "offset": len(found)})
        assert answer.status_code == 200, answer.text
        page = [run["run_id"] for run in answer.json()]
        found += page
        if len(page) < limit:
            break
    newest = sorted(matching, key=lambda row: (row["created_at"], uuid.UUID(row["run_id"]).int), reverse=True)
    assert found == [row["run_id"] for row in newest]
