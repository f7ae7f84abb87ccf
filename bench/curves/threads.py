"""Threads: what reading, creating, searching and counting them takes with a thousand, and with a million in the database.

The rows are made inside Postgres, as a year of use would leave them: 50 threads of each user, made one after the other, changed within
days, a twentieth interrupted. Each search is timed through the API and explained in Postgres, so that a bend has a name.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from bench.client import Client, WrongAnswerError
from bench.curves.part import Part, Picture, Table
from bench.curves.site import Process, Site
from langgraph_serverless.domain.threads import ThreadStatus
from langgraph_serverless.persistence.filters import Search, column
from langgraph_serverless.persistence.threads import ThreadRepository

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_ROWS = """
INSERT INTO lgs.thread (
    thread_id, status, settled_status, metadata, channel_values, created_at, updated_at, state_updated_at)
SELECT gen_random_uuid(), s.status, s.status,
    jsonb_build_object('graph_id', g.graph, 'assistant_id', md5(g.graph)::uuid, 'owner', 'user-' || n / 50,
        'title', 'About ' || left(md5(n::text), 12)),
    jsonb_build_object('messages', jsonb_build_array(
        jsonb_build_object('type', 'human', 'id', md5('h' || n), 'content', 'Question ' || repeat(md5(n::text) || ' ', 3)),
        jsonb_build_object('type', 'ai', 'id', md5('a' || n), 'content', 'Answer ' || repeat(md5(n::text) || ' ', 10)))),
    t.made, t.made + t.later, t.made + t.later
FROM generate_series(%(first)s::int, %(last)s::int) n,
LATERAL (SELECT CASE WHEN n %% 20 = 0 THEN 'interrupted' WHEN n %% 100 = 1 THEN 'error' ELSE 'idle' END AS status) s,
LATERAL (SELECT CASE n %% 7 WHEN 0 THEN 'research' WHEN 1 THEN 'support' ELSE 'chat' END AS graph) g,
LATERAL (SELECT now() - interval '365 days' * (1 - n / 1000000.0) AS made, interval '3 days' * (n::bigint * 7919 %% 1009) / 1009 AS later) t
"""
_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index WHERE indrelid = 'lgs.thread'::regclass AND NOT indisprimary
"""

#: What is asked: name -> filters. Sorted by ``updated_at``, newest first, ten to a page.
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "newest page": {},
    "of one user": {"metadata": {"owner": "user-7"}},
    "of one graph": {"metadata": {"graph_id": "chat"}},
    "interrupted": {"status": "interrupted"},
    "page 1,000": {"offset": 9_990},
}
COUNTS: Mapping[str, Mapping[str, Any]] = {
    "count all": {},
    "count of one user": {"metadata": {"owner": "user-7"}},
    "count interrupted": {"status": "interrupted"},
}


async def measure(site: Site, scale: float) -> Part:
    """All sizes one after the other, in one database."""
    with site.serve() as api:
        return await look(site, api, scale)


async def look(site: Site, api: Process, scale: float, sizes: Sequence[int] = SIZES) -> Part:
    """The same on a server that runs."""
    sizes = sorted({max(100, round(size * scale)) for size in sizes})
    times: dict[str, list[tuple[float, float]]] = {}
    plans: dict[str, str] = {}
    megabytes, made = [], 0
    client = Client(api.url)
    try:
        for size in sizes:
            await asyncio.to_thread(fill, site.database_uri, made, size)
            made = size
            for name, took in (await _ask(client, max(3, round(30 * min(1, scale))))).items():
                times.setdefault(name, []).append((size, took))
            plans = await asyncio.to_thread(explain, site.database_uri)
            (found,) = site.rows("SELECT pg_total_relation_size('lgs.thread') AS size")
            megabytes.append(found["size"] / 2**20)
    finally:
        await client.aclose()
    rows: list[list[str | float | None]] = [
        [name, *(took for _, took in points), plans.get(name, "")] for name, points in times.items()
    ]
    rows.append(["rows and indexes, MiB", *megabytes, ""])
    shown = (
        "read one",
        "create one",
        "newest page",
        "of one user",
        "interrupted",
        "page 1,000",
        "count interrupted",
        "count all",
    )
    return Part(
        "threads",
        [Table(("p50, ms", *(f"{size:,} threads" for size in sizes), "how Postgres finds them"), rows)],
        {
            "threads": Picture(
                "Requests about threads against how many there are, p50",
                "threads in the database",
                "milliseconds",
                {name: times[name] for name in shown if name in times},
                log_x=True,
                log_y=True,
            )
        },
    )


def fill(database_uri: str, made: int, size: int) -> None:
    """Add threads until there are so many. Indexes are built afterwards, as that is ten times as quick."""
    with psycopg.connect(database_uri, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '256MB'")
        indexes = connection.execute(_INDEXES).fetchall() if size >= 50_000 else []
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}")
        connection.execute(_ROWS, {"first": made + 1, "last": size})
        for _, definition in indexes:
            connection.execute(definition)
        connection.execute("VACUUM (ANALYZE) lgs.thread")
        connection.execute("CHECKPOINT")


async def _ask(client: Client, often: int) -> dict[str, float]:
    """Milliseconds (p50) of each kind of request."""
    (known,) = await client.json("POST", "/threads/search", {"limit": 1, "select": ["thread_id"]})

    async def timed(method: str, path: str, body: Any) -> float:
        took = []
        for _ in range(often + 2):
            began = time.perf_counter()
            answer = await client.json(method, path, body)
            took.append(time.perf_counter() - began)
            if answer is None:
                raise WrongAnswerError(f"{method} {path}: an empty answer")
        return 1000 * statistics.median(took[2:])  # what the first ones read from the disk is not what a bend is about

    found = {
        "read one": await timed("GET", f"/threads/{known['thread_id']}", None),
        "create one": await timed("POST", "/threads", {"metadata": {"owner": "user-7"}}),
    }
    for name, body in SEARCHES.items():
        found[name] = await timed("POST", "/threads/search", {**body, "limit": 10})
    for name, body in COUNTS.items():
        found[name] = await timed("POST", "/threads/count", body)
    return found


def explain(database_uri: str) -> dict[str, str]:
    """How Postgres carries out each of them, innermost step first."""
    plans = {}
    with psycopg.connect(database_uri, autocommit=True) as connection:
        for name, given in {**SEARCHES, **COUNTS}.items():
            statement = _search(given).count() if name in COUNTS else _page(given)
            query, parameters = statement
            ((found,),) = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + query, parameters).fetchall()
            plans[name] = _steps(found[0]["Plan"])
    return plans


def _search(given: Mapping[str, Any]) -> Search:
    status = given.get("status")
    return ThreadRepository.search_filter(
        ids=None, metadata=given.get("metadata", {}), values={}, status=status and ThreadStatus(status)
    )


def _page(given: Mapping[str, Any]) -> Any:
    return _search(given).page(
        [column("thread_id")], order=[column("updated_at")], descending=True, limit=10, offset=given.get("offset", 0)
    )


def _steps(plan: Mapping[str, Any]) -> str:
    """The steps that find rows or work through all of them."""
    inner = [_steps(child) for child in plan.get("Plans", ())]
    kind = plan["Node Type"]
    own = f"`{plan['Index Name']}`" if "Index Name" in plan else ""
    if kind == "Seq Scan":
        own = "all rows"
    elif kind in ("Sort", "Incremental Sort", "Aggregate"):
        own = {"Aggregate": "counted"}.get(kind, "sorted")
    steps = [step for step in [*inner, own] if step]
    return ", ".join(dict.fromkeys(steps))
