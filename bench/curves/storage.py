"""Storage: what 1,000 checkpoints of one kind of state take in Postgres, table by table, and what pruning gives back.

Runs of a hundred supersteps are executed until there are so many checkpoints; tables are then looked at after everything that is no
longer used has been removed from them, so what counts is what is kept. Bytes do not depend on the machine. WAL does: a page that is
changed first after a checkpoint of Postgres is written whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import redis

from bench.client import Client
from bench.curves.part import Part, Picture, Table
from bench.curves.site import Process, Site, until_over

STEPS = 100
TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "lgs.run", "lgs.thread")
#: Kinds of state: name -> graph, its input, and the supersteps of a run.
STATES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "a counter": ("counter", {}),
    "100 kB that stay, and a counter": ("document", {"size": 100_000}),
    "messages of 500 bytes, one more each superstep": ("chat", {}),
    "the same in a delta channel": ("delta", {}),
}


@dataclass(frozen=True)
class Kept:
    """Bytes after some runs: of rows and of indexes by table, and how much WAL there has been."""

    rows: Mapping[str, float]
    indexes: Mapping[str, float]
    checkpoints: float
    #: Bytes of WAL so far, before and after this look, which writes some itself.
    wal: tuple[float, float]


async def measure(site: Site, scale: float) -> Part:
    """Each kind of state alone, and events and threads."""
    with site.serve() as api, site.workers(1):
        return await look(site, api, scale)


async def look(site: Site, api: Process, scale: float) -> Part:
    """The same on a server that has a worker."""
    steps, runs = max(3, round(STEPS * scale)), max(1, round(10 * scale))
    rows: list[list[str | float | None]] = []
    given_back: list[list[str | float | None]] = []
    client = Client(api.url)
    try:
        for name, (graph, state) in STATES.items():
            before = await asyncio.to_thread(_kept, site)
            threads = await _play(site, client, graph, {"steps": steps, **state}, runs)
            after = await asyncio.to_thread(_kept, site)
            rows.append(_row(name, before, after))
            await client.json("POST", "/threads/prune", {"thread_ids": threads, "strategy": "keep_latest"})
            pruned = await asyncio.to_thread(_kept, site)
            await client.json("POST", "/threads/prune", {"thread_ids": threads, "strategy": "delete"})
            gone = await asyncio.to_thread(_kept, site)
            given_back.append([name, *((_all(one) - _all(before)) / 1000 for one in (after, pruned, gone))])
        lengths = sorted({max(2, steps * part // 10) for part in (1, 2, 3, 5, 10)})
        growth = {name: await _growth(site, client, name, lengths) for name in STATES}
        beside = await _beside(site, client, max(5, round(100 * scale)))
    finally:
        await client.aclose()
    head = ("state", "checkpoints", "blobs", "writes", "indexes", "run and thread", "together", "WAL")
    back = (f"kB of {runs} threads with {steps} supersteps each", "kept all", "`keep_latest`", "deleted")
    picture = Picture(
        "Checkpoints of one thread against its supersteps",
        "supersteps of the thread",
        "kB in Postgres",
        {
            name: [(length, size / 1000) for length, size in zip(lengths, sizes, strict=True)]
            for name, sizes in growth.items()
        },
        log_y=True,
    )
    return Part(
        "storage",
        [Table((f"kB per 1,000 checkpoints: {head[0]}", *head[1:]), rows), Table(back, given_back), beside],
        {"storage": picture},
    )


async def _play(site: Site, client: Client, graph: str, given: Mapping[str, Any], runs: int) -> list[str]:
    """So many threads with a run each, all over."""
    threads = []
    config = {"recursion_limit": given["steps"] + 10}
    for _ in range(runs):
        thread = (await client.json("POST", "/threads", {}))["thread_id"]
        body = {"assistant_id": graph, "input": given, "config": config}
        answer = await client.json("POST", f"/threads/{thread}/runs/wait", body)
        assert answer["step"] == given["steps"], answer
        threads.append(thread)
    await until_over(site)
    return threads


async def _growth(site: Site, client: Client, name: str, lengths: Sequence[int]) -> list[float]:
    """Bytes of values in the checkpoints of one thread, after so many supersteps; the thread is deleted."""
    graph, state = STATES[name]
    query = """
    SELECT (SELECT COALESCE(sum(pg_column_size(c.*)), 0) FROM checkpoints c WHERE thread_id = %(thread)s)
        + (SELECT COALESCE(sum(pg_column_size(b.*)), 0) FROM checkpoint_blobs b WHERE thread_id = %(thread)s)
        + (SELECT COALESCE(sum(pg_column_size(w.*)), 0) FROM checkpoint_writes w WHERE thread_id = %(thread)s) AS size
    """
    sizes = []
    for length in lengths:
        (thread,) = await _play(site, client, graph, {"steps": length, **state}, 1)
        (found,) = await asyncio.to_thread(site.rows, query, {"thread": thread})
        sizes.append(float(found["size"]))
        await client.json("POST", "/threads/prune", {"thread_ids": [thread], "strategy": "delete"})
    return sizes


async def _beside(site: Site, client: Client, often: int) -> Table:
    """What an empty thread takes in Postgres, and what a run and its events take in Valkey."""
    before = await asyncio.to_thread(_kept, site)
    for number in range(often):
        await client.json("POST", "/threads", {"metadata": {"owner": f"user-{number}"}})
    after = await asyncio.to_thread(_kept, site)
    thread = (_all(after) - _all(before)) / often
    used = [await asyncio.to_thread(_valkey, site)]
    for events in (1, 500):
        for _ in range(max(2, often // 10)):
            body = {
                "assistant_id": "talk",
                "input": {"events": events},
                "stream_mode": ["custom"],
                "stream_resumable": True,
            }
            async for _ in client.events("POST", "/runs/stream", body):
                pass
        used.append(await asyncio.to_thread(_valkey, site))
    short, long = ((more - less) / max(2, often // 10) for less, more in pairwise(used))
    return Table(
        ("of each", "bytes", "until when"),
        [
            ["empty thread, in Postgres", thread, "its time to live, or deleted"],
            ["run's log, in Valkey", short, "`RESUMABLE_STREAM_TTL_SECONDS` after its end"],
            ["event of 18 bytes in it", (long - short) / 499, "the same"],
        ],
    )


def _kept(site: Site) -> Kept:
    """What there is; tables are rewritten first, so that nothing that was deleted counts."""
    wal = _wal(site)
    site.execute(f"VACUUM (FULL, ANALYZE) {', '.join(TABLES)}")
    sizes = site.rows(
        "SELECT name, pg_table_size(name::regclass) AS rows, pg_indexes_size(name::regclass) AS indexes"
        " FROM unnest(%s::text[]) AS name",
        (list(TABLES),),
    )
    (counted,) = site.rows("SELECT count(*) AS checkpoints FROM checkpoints")
    return Kept(
        {row["name"]: float(row["rows"]) for row in sizes},
        {row["name"]: float(row["indexes"]) for row in sizes},
        float(counted["checkpoints"]),
        (wal, _wal(site)),
    )


def _wal(site: Site) -> float:
    (found,) = site.rows("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS bytes")
    return float(found["bytes"])


def _all(kept: Kept) -> float:
    return sum(kept.rows.values()) + sum(kept.indexes.values())


def _row(name: str, before: Kept, after: Kept) -> list[str | float | None]:
    """Kilobytes per 1,000 checkpoints."""
    each = 1 / max(1.0, after.checkpoints - before.checkpoints)
    rows = {table: (after.rows[table] - before.rows[table]) * each for table in TABLES}
    indexes = sum((after.indexes[table] - before.indexes[table]) * each for table in TABLES)
    mine = rows["lgs.run"] + rows["lgs.thread"]
    saved = [rows[table] for table in TABLES[:3]]
    return [name, *saved, indexes, mine, sum(saved) + indexes + mine, (after.wal[0] - before.wal[1]) * each]


def _valkey(site: Site) -> float:
    with redis.Redis.from_url(site.redis_uri) as client:
        memory: Any = client.info("memory")
    return float(memory["used_memory_dataset"])
