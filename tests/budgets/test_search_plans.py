"""Lists of 100,000 threads and 500,000 runs: what every search reads, looked at in the plan of the statement that it sends.

The same goes for what sweeps look for: a batch costs what it removes, however much there is beside it.

A search must find its page through an index, read no more than a page of rows (skipped ones cost index entries) and leave
what was not selected where it is. Plans depend on data and statistics, so this needs the rows: about 15 s to make them.

Two kinds of search are allowed to read the whole of a small table. Crons by ``end_time``: few have one. Assistants by a
part of the name: only trigrams would help, ``pg_trgm`` is not part of every Postgres (not of the laptop's), and the names
of 10,000 assistants are read in 10 ms.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.assistants import AssistantField
from langgraph_serverless.domain.crons import CronField
from langgraph_serverless.domain.manifest import GraphManifest, Manifest
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.threads import ThreadField, ThreadStatus
from langgraph_serverless.persistence import crons, queue, store, sweeps, system, webhooks
from langgraph_serverless.persistence.crons import CronFilter
from langgraph_serverless.settings import Settings

THREADS, RUNS, ASSISTANTS, CRONS = 100_000, 500_000, 10_000, 10_000
#: One thread has this many of the runs.
BUSY_RUNS = 20_000
BUSY_THREAD = uuid.UUID(int=1)
SORTS = [
    ThreadField(name) for name in ("thread_id", "status", "created_at", "updated_at", "state_updated_at")
]  # what the API allows

# times in no order that the rows have, 2 % of the values out of line, metadata from unique to the same in every other row
_THREADS = f"""
INSERT INTO lgs.thread (
    thread_id, status, settled_status, metadata, channel_values, created_at, updated_at, state_updated_at)
SELECT CASE WHEN n = 1 THEN '{BUSY_THREAD}' ELSE gen_random_uuid() END, s.status, s.status,
    jsonb_build_object('n', n, 'user', n % 5000, 'even', n % 2 = 0, 'o', jsonb_build_object('tags', jsonb_build_array(n))),
    jsonb_build_object('topic', n % 5000, 'even', n % 2 = 0,
        'messages', jsonb_build_array(jsonb_build_object('id', n, 'content', repeat(md5(n::text), CASE n % 50 WHEN 0 THEN 80 ELSE 2 END)))),
    now() - make_interval(secs => (n::bigint * 7919) % 100003),
    now() - make_interval(secs => (n::bigint * 104729) % 100003),
    now() - make_interval(secs => (n::bigint * 1299709) % 100003)
FROM generate_series(1, {THREADS}) n,
LATERAL (SELECT CASE WHEN n % 20 = 0 THEN 'interrupted' WHEN n % 50 = 1 THEN 'error' ELSE 'idle' END AS status) s
"""
_RUN = """
INSERT INTO lgs.run (run_id, thread_id, assistant_id, graph_id, status, kwargs, output, created_at, finished_at)
SELECT gen_random_uuid(), t.thread_id, gen_random_uuid(), 'chat',
    CASE WHEN k % 1000 = 7 THEN 'timeout' WHEN k % 3 = 0 THEN 'error' ELSE 'success' END, '{"input": null}', '{}',
    t.created_at + make_interval(secs => k), now()
"""
_RUNS = (
    f"{_RUN} FROM lgs.thread t, generate_series(1, {BUSY_RUNS}) k WHERE t.thread_id = '{BUSY_THREAD}'",
    f"{_RUN} FROM (SELECT * FROM lgs.thread OFFSET 1 LIMIT {(RUNS - BUSY_RUNS) // 5}) t, generate_series(1, 5) k",
)
_ASSISTANTS = f"""
INSERT INTO lgs.assistant (assistant_id, graph_id, version, name, metadata, created_at, updated_at)
SELECT gen_random_uuid(), CASE WHEN n % 100 = 0 THEN 'rare' ELSE 'chat' END, 1, 'Assistant ' || md5(n::text),
    jsonb_build_object('n', n, 'even', n % 2 = 0),
    now() - make_interval(secs => (n::bigint * 7919) % 10007), now() - make_interval(secs => (n::bigint * 104729) % 10007)
FROM generate_series(1, {ASSISTANTS}) n
"""
_CRONS = f"""
INSERT INTO lgs.cron (
    cron_id, assistant_id, thread_id, schedule, payload, metadata, enabled, next_run_date, created_at, updated_at)
SELECT gen_random_uuid(), md5((n % 500)::text)::uuid, CASE WHEN n % 10 = 0 THEN '{BUSY_THREAD}'::uuid END, '* * * * *',
    '{{}}', jsonb_build_object('n', n, 'even', n % 2 = 0), n % 2 = 0, now() + make_interval(secs => (n::bigint * 7919) % 10007),
    now() - make_interval(secs => (n::bigint * 104729) % 10007), now() - make_interval(secs => n)
FROM generate_series(1, {CRONS}) n
"""


@pytest.fixture(scope="module")
def large_database(databases: Any) -> Iterator[str]:
    """A database with all the rows."""
    uri = databases.create()
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        # so that values above 2 KB go out of line as they are; what compresses away would not show
        connection.execute("ALTER TABLE lgs.thread ALTER channel_values SET STORAGE EXTERNAL")
        for statement in (_THREADS, *_RUNS, _ASSISTANTS):
            connection.execute(statement)
        # what is not on the disk yet is not vacuumed, and plans count on it
        connection.execute("SET synchronous_commit = on")
        connection.execute(_CRONS)
        connection.execute("VACUUM ANALYZE lgs.thread, lgs.run, lgs.assistant, lgs.cron")
    yield uri
    databases.drop(uri)


@pytest.fixture(scope="module")
async def container(settings: Settings, large_database: str) -> AsyncIterator[ApiContainer]:
    graphs = {
        name: GraphManifest(
            graph_id=name, description=None, is_factory=False, schemas={}, drawings={"false": {}}, subgraphs={}
        )
        for name in ("chat", "rare")
    }
    container = ApiContainer(settings.replace(database_uri=large_database), manifest=Manifest.of(graphs))
    yield container
    await container.aclose()


@dataclass
class Plan:
    """What a statement does, as Postgres has it."""

    #: Kinds of all nodes, and relations that are read from end to end.
    kinds: set[str] = field(default_factory=set)
    scanned: set[str] = field(default_factory=set)
    indexes: set[str] = field(default_factory=set)
    output: list[str] = field(default_factory=list)
    buffers: int = 0
    milliseconds: float = 0

    @classmethod
    def of(cls, explained: dict[str, Any]) -> Plan:
        root = explained["Plan"]
        plan = cls(
            output=[name.rpartition(".")[2] for name in root.get("Output", ())],
            buffers=root["Shared Hit Blocks"] + root["Shared Read Blocks"],
            milliseconds=explained["Planning Time"] + explained["Execution Time"],
        )
        plan._visit(root)
        return plan

    def _visit(self, node: dict[str, Any]) -> None:
        self.kinds.add(node["Node Type"])
        if node["Node Type"] == "Seq Scan":
            self.scanned.add(node["Relation Name"])
        if "Index Name" in node:
            self.indexes.add(node["Index Name"])
        for child in node.get("Plans", ()):
            self._visit(child)


class Explainer:
    """Makes a request and explains the statement that it sent, with the values that it sent."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self._connection = connection
        self._sent: list[tuple[Any, Any]] = []
        execute = psycopg.AsyncCursor.execute

        async def noted(cursor: Any, query: Any, parameters: Any = None, **options: Any) -> Any:
            self._sent.append((query, parameters))
            return await execute(cursor, query, parameters, **options)

        monkeypatch.setattr(psycopg.AsyncCursor, "execute", noted)

    async def _statement(self, request: Any) -> tuple[Any, Any]:
        """The search of a request, which may ask for other things as well."""
        self._sent.clear()
        await request
        ((query, parameters),) = (sent for sent in self._sent if isinstance(sent[0], sql.Composed))
        return query, parameters

    async def __call__(self, request: Any) -> Plan:
        query, parameters = await self._statement(request)
        explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) ")
        rows = await (await self._connection.execute(explain + query, parameters)).fetchall()
        return Plan.of(rows[0][0][0])

    async def toast_blocks(self, request: Any) -> int:
        """Blocks of out-of-line values that a statement reads, its answer included."""
        query, parameters = await self._statement(request)
        before = await self._toast_counter()
        await (await self._connection.execute(query, parameters)).fetchall()
        return await self._toast_counter() - before

    async def _toast_counter(self) -> int:
        await self._connection.execute("SELECT pg_stat_force_next_flush()")
        query = (
            "SELECT toast_blks_hit + toast_blks_read FROM pg_statio_user_tables WHERE relid = 'lgs.thread'::regclass"
        )
        ((blocks,),) = await (await self._connection.execute(query)).fetchall()
        return int(blocks)


@pytest.fixture
async def explain(large_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Explainer]:
    async with await psycopg.AsyncConnection.connect(large_database, autocommit=True) as connection:
        yield Explainer(connection, monkeypatch)


#: Filters, how many threads match, and the indexes that may find them.
SOME_IDS = [BUSY_THREAD, *(uuid.UUID(int=n) for n in range(2, 50))]
FILTERS: dict[str, tuple[dict[str, Any], int]] = {
    "nothing": ({}, THREADS),
    "metadata, half of them": ({"metadata": {"even": True}}, THREADS // 2),
    "metadata, twenty": ({"metadata": {"user": 77}}, 20),
    "metadata, one": ({"metadata": {"o": {"tags": [4711]}}}, 1),
    "metadata, none": ({"metadata": {"unheard": "of"}}, 0),
    "values, half of them": ({"values": {"even": True}}, THREADS // 2),
    "values, twenty": ({"values": {"topic": 77}}, 20),
    "values, one": ({"values": {"messages": [{"id": 4711}]}}, 1),
    "status, most": ({"status": ThreadStatus.IDLE}, 93_000),
    "status, few": ({"status": ThreadStatus.ERROR}, 2_000),
    "status, none": ({"status": ThreadStatus.BUSY}, 0),
    "ids": ({"ids": SOME_IDS}, 1),
    "status and half the metadata": ({"status": ThreadStatus.INTERRUPTED, "metadata": {"even": True}}, 5_000),
    "metadata and values": ({"metadata": {"user": 77}, "values": {"topic": 77}}, 20),
    "all": (
        {"ids": SOME_IDS, "metadata": {"user": 1}, "values": {"topic": 1}, "status": ThreadStatus.ERROR},
        1,
    ),
}
EVERYTHING: dict[str, Any] = {"ids": None, "metadata": {}, "values": {}, "status": None}
#: Blocks that a page may read: of a search that finds few, of a first page, and of a page at the end of a long list, which
#: is a pass over an index without a filter and one over the table with one.
FEW_BLOCKS, FIRST_BLOCKS, INDEX_BLOCKS, TABLE_BLOCKS = 250, 6_000, 2_500, 20_000


@pytest.mark.parametrize("name", FILTERS)
async def test_a_search_of_threads_uses_an_index(container: ApiContainer, explain: Explainer, name: str) -> None:
    given, matching = FILTERS[name]
    slowest: dict[int, float] = {}
    for sort in SORTS:
        for descending in (True, False):
            for offset in sorted({0, max(0, matching - 10)}):
                plan = await explain(
                    container.threads.search(
                        ANONYMOUS, **EVERYTHING | given, sort_by=sort, descending=descending, offset=offset
                    )
                )
                case = f"by {name}, sorted by {sort} {'down' if descending else 'up'}, from {offset}: {plan}"
                assert plan.scanned == set(), case
                if matching < 100:
                    assert plan.buffers < FEW_BLOCKS, case
                elif offset == 0:
                    assert plan.buffers < FIRST_BLOCKS, case
                elif set(given) <= {"status"}:
                    assert plan.buffers < INDEX_BLOCKS, case
                else:
                    assert plan.buffers < TABLE_BLOCKS, case
                if matching == THREADS and sort is not ThreadField.THREAD_ID:
                    assert not plan.kinds & {"Sort", "Incremental Sort"}, case
                slowest[offset] = max(slowest.get(offset, 0), plan.milliseconds)
    print(f"\nby {name}, slowest sort: {', '.join(f'{took:.1f} ms from {offset}' for offset, took in slowest.items())}")


@pytest.mark.parametrize("name", [name for name, (given, _) in FILTERS.items() if "ids" not in given])
async def test_a_count_of_threads_uses_an_index(container: ApiContainer, explain: Explainer, name: str) -> None:
    given, matching = FILTERS[name]
    wanted = EVERYTHING | given
    del wanted["ids"]
    plan = await explain(container.threads.count(ANONYMOUS, **wanted))
    assert plan.scanned == set(), plan
    assert await container.threads.count(ANONYMOUS, **wanted) == matching
    print(f"\ncount by {name}: {plan.milliseconds:.1f} ms, {plan.buffers} blocks")


#: Threads whose index entries take more than what may gather before they are sorted in (``gin_pending_list_limit``).
_NEW_THREADS = """
INSERT INTO lgs.thread (thread_id, metadata, channel_values)
SELECT gen_random_uuid(), d.keys, d.keys FROM generate_series(1, 4000) n,
LATERAL (SELECT jsonb_object_agg('key' || k, -n) AS keys FROM generate_series(1, 20) k) d
"""


def test_a_search_reads_little_of_what_was_just_written(databases: Any) -> None:
    """What is not yet sorted into a GIN index is a list that each search reads from end to end."""
    uri = databases.create()
    with psycopg.connect(uri) as connection:  # one transaction: nobody vacuums in the middle of it
        connection.execute(_NEW_THREADS)
        connection.execute("SET enable_seqscan = off")  # of few rows it would be the quickest
        for column, index in (("metadata", "thread_metadata"), ("channel_values", "thread_values")):
            search = f'SELECT thread_id FROM lgs.thread WHERE {column} @> \'{{"unheard": "of"}}\''
            explain: Any = f"EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) {search}"
            plan = Plan.of(connection.execute(explain).fetchall()[0][0][0])
            assert plan.indexes == {index}
            assert plan.buffers < 50, (column, plan)
    databases.drop(uri)


async def test_what_is_not_selected_stays_where_it_is(container: ApiContainer, explain: Explainer) -> None:
    """Values are out of line when they are large, and reading them is most of what a page costs."""
    select = [field for field in ThreadField if field is not ThreadField.VALUES]
    for sort in SORTS:
        for given in ({}, {"metadata": {"even": True}}, {"status": ThreadStatus.IDLE}):
            for offset in (0, 40_000):
                page: Any = {**EVERYTHING, **given, "sort_by": sort, "limit": 1000, "offset": offset}
                search = container.threads.search(ANONYMOUS, **page, select=select)
                assert await explain.toast_blocks(search) == 0, (sort, given)
    some = container.threads.search(ANONYMOUS, **EVERYTHING, select=[ThreadField.THREAD_ID, ThreadField.STATUS])
    assert (await explain(some)).output == ["thread_id", "status", "updated_at"]  # the last one to sort by


async def test_only_the_page_is_read_of_what_is_selected_or_extracted(
    container: ApiContainer, explain: Explainer
) -> None:
    page: Any = {**EVERYTHING, "limit": 100, "offset": 90_000}
    values = container.threads.search(ANONYMOUS, **page, select=[ThreadField.VALUES])
    extract = container.threads.search(
        ANONYMOUS, **page, select=[ThreadField.THREAD_ID], extract={"text": "values.messages[-1].content"}
    )
    # about two of a hundred are out of line, with a few blocks each
    for search in (values, extract):
        assert 0 < await explain.toast_blocks(search) < 150


async def test_a_search_is_planned_for_its_values(container: ApiContainer) -> None:
    """A plan for any value, which Postgres may make of a prepared statement, is wrong for half of them."""
    for number in range(15):
        await container.threads.search(ANONYMOUS, **EVERYTHING | {"metadata": {"user": number}})
    async with container.database.connection() as connection:
        query = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE '%LIMIT%'"
        assert await (await connection.execute(query)).fetchall() == []


@pytest.mark.parametrize(
    ("status", "offset"),
    [(None, 0), (None, 19_000), ("success", 0), ("success", 13_000), ("timeout", 0), ("running", 0)],
)
async def test_a_list_of_runs_uses_an_index(
    container: ApiContainer, explain: Explainer, status: str | None, offset: int
) -> None:
    def listed(**more: Any) -> Any:
        return container.runs.list(ANONYMOUS, BUSY_THREAD, limit=10, offset=offset, status=status, **more)

    plan = await explain(listed())
    assert plan.scanned == set(), plan
    assert "run_of_thread" in plan.indexes
    # far down, sorting the keys of one thread costs what skipping them does, and the planner may choose
    assert status or offset or not plan.kinds & {"Sort", "Incremental Sort"}, plan
    # with a status, no more than the thread's own runs
    assert plan.buffers < (1_500 if status is None else BUSY_RUNS + 1_000), plan
    assert "kwargs" in plan.output
    assert not {"output", "lease_history"} & set(plan.output)
    assert not {"kwargs", "metadata"} & set((await explain(listed(select=["run_id"]))).output)


ASSISTANT_FILTERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "metadata, half of them": {"metadata": {"even": True}},
    "metadata, one": {"metadata": {"n": 47}},
    "graph, most": {"graph_id": "chat"},
    "graph, few": {"graph_id": "rare"},
}


@pytest.mark.parametrize("name", ASSISTANT_FILTERS)
async def test_a_search_of_assistants_uses_an_index(container: ApiContainer, explain: Explainer, name: str) -> None:
    given = {"metadata": {}, "graph_id": None, "name": None} | ASSISTANT_FILTERS[name]
    for sort in ("assistant_id", "created_at", "updated_at", "name", "graph_id"):
        for descending in (True, False):
            plan = await explain(
                container.assistants.search(ANONYMOUS, **given, sort_by=AssistantField(sort), descending=descending)
            )
            assert plan.scanned == set(), (name, sort, plan)
            assert plan.buffers < ASSISTANTS + 1_000, (name, sort, plan)


async def test_a_search_of_assistants_by_name_is_quick_without_an_index(
    container: ApiContainer, explain: Explainer
) -> None:
    plan = await explain(container.assistants.search(ANONYMOUS, metadata={}, graph_id=None, name="NT C4CA4"))
    assert plan.buffers < 1_000, plan


CRON_FILTERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "metadata, half of them": {"metadata": {"even": True}},
    "metadata, one": {"metadata": {"n": 47}},
    "assistant": {"assistant_id": uuid.UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")},
    "thread": {"thread_id": BUSY_THREAD},
    "enabled": {"enabled": True},
}


@pytest.mark.parametrize("name", CRON_FILTERS)
async def test_a_search_of_crons_uses_an_index(container: ApiContainer, explain: Explainer, name: str) -> None:
    wanted = CronFilter(**CRON_FILTERS[name])
    for sort in ("cron_id", "assistant_id", "thread_id", "next_run_date", "created_at", "updated_at"):
        for descending in (True, False):
            plan = await explain(
                container.crons.search(ANONYMOUS, wanted, sort_by=CronField(sort), descending=descending)
            )
            assert plan.scanned == set(), (name, sort, plan)
            assert plan.buffers < ASSISTANTS + 1_000, (name, sort, plan)
    select = [field for field in CronField if field not in (CronField.PAYLOAD, CronField.METADATA)]
    plan = await explain(container.crons.search(ANONYMOUS, wanted, select=select))
    assert not {"payload", "metadata"} & set(plan.output)


@pytest.mark.parametrize("name", ["MEASURE_QUEUE", "MEASURE_MOVES", "MEASURE_WEBHOOKS", "MEASURE_CRONS"])
async def test_the_numbers_of_metrics_read_no_whole_table(large_database: str, name: str) -> None:
    explain: Any = f"EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) {getattr(system, name)}"
    async with await psycopg.AsyncConnection.connect(large_database, autocommit=True) as connection:
        rows = await (await connection.execute(explain, {"limits": '{"default": 5}', "most": 10})).fetchall()
    plan = Plan.of(rows[0][0][0])
    assert not plan.scanned & {"run", "cron"}, plan
    assert plan.buffers <= FEW_BLOCKS, plan


#: What sweeps find among much that they must leave: rows made in a transaction that is rolled back.
_SWEPT = (
    f"""UPDATE lgs.thread SET ttl_strategy = CASE WHEN random() < 0.5 THEN 'delete' ELSE 'keep_latest' END, ttl_minutes = 60,
        expires_at = now() + make_interval(secs => 3600 * random() - 36)
    WHERE thread_id IN (SELECT thread_id FROM lgs.thread WHERE thread_id <> '{BUSY_THREAD}' LIMIT 3000)""",
    """UPDATE lgs.thread SET temporary = true, purge_at = now() - interval '1 s'
    WHERE thread_id IN (SELECT thread_id FROM lgs.thread WHERE ttl_minutes IS NULL OFFSET 1 LIMIT 100)""",
    """INSERT INTO lgs.outbox (outbox_id, run_id, thread_id, url, payload, available_at, delivered_at, dead_at, attempt)
    SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'https://example.com/hook', '{}', now() - interval '1 h',
        CASE WHEN n % 100 > 1 THEN now() - make_interval(secs => n * 90) END,
        CASE WHEN n % 100 = 1 THEN now() - make_interval(secs => n * 90) END, 1
    FROM generate_series(1, 10000) n""",
    """INSERT INTO lgs.idempotency (route, key, fingerprint, status, response, expires_at)
    SELECT 'POST /threads', n::text, '', 200, '', now() + make_interval(secs => n * 10 - 600) FROM generate_series(1, 10000) n""",
    """INSERT INTO store (prefix, key, value, expires_at, ttl_minutes)
    SELECT 'a.b', n::text, '{}', now() + make_interval(secs => n * 10 - 600), 60 FROM generate_series(1, 10000) n""",
    """UPDATE lgs.run SET status = 'running', attempt = 1, finished_at = NULL, lease_history = '[{}]',
        lease_token = gen_random_uuid(), lease_expires_at = now() + make_interval(secs => (row_number % 100)::int - 3)
    FROM (SELECT run_id AS chosen, row_number() OVER () FROM (
        SELECT DISTINCT ON (thread_id) run_id FROM lgs.run WHERE thread_id IN (SELECT thread_id FROM lgs.thread LIMIT 1000)
    ) AS each_thread) AS picked WHERE run_id = chosen""",
    """INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata)
    SELECT t.thread_id::text, lpad(k::text, 6, '0'),
        '{"v": 4, "channel_versions": {"log": "1"}, "channel_values": {}}', '{"step": 1, "parents": {}}'
    FROM (SELECT thread_id FROM lgs.thread LIMIT 1000) t, generate_series(1, 10) k""",
    """INSERT INTO checkpoint_blobs (thread_id, channel, version, type, blob)
    SELECT DISTINCT thread_id, 'log', v::text, 'msgpack', ''::bytea FROM checkpoints, generate_series(1, 3) v""",
    """INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob)
    SELECT thread_id, checkpoint_id, 't', 0, 'log', '' FROM checkpoints""",
    "ANALYZE lgs.thread, lgs.run, lgs.outbox, lgs.idempotency, store, checkpoints, checkpoint_blobs, checkpoint_writes",
)
#: Statements of sweeps with their parameters, and blocks that a batch of them may touch.
SWEEPS: dict[str, tuple[Any, dict[str, Any], int]] = {
    "purge_threads": (sweeps.PURGE_THREADS, {"limit": 50}, 10_000),
    "claim_expired_histories": (sweeps.CLAIM_EXPIRED_HISTORIES, {"limit": 20}, 2_000),
    "forget_webhooks": (sweeps.FORGET_WEBHOOKS, {"limit": 100}, 1_500),
    "forget_keys": (sweeps.FORGET_KEYS, {"limit": 50}, 1_000),
    "sweep_expired_items": (store.SWEEP_EXPIRED_ITEMS, {"limit": 50, "interval": None}, 1_500),
    "sweep_expired_items of an interval": (store.SWEEP_EXPIRED_ITEMS, {"limit": 50, "interval": 60}, 1_500),
    "requeue_expired": (queue.REQUEUE_EXPIRED, {"max_attempts": 3, "limit": 100}, 8_000),
    "bury_webhooks": (webhooks.BURY_WEBHOOKS, {"most_tries": 1}, 2_000),
    "claim_webhooks": (webhooks.CLAIM_WEBHOOKS, {"most_tries": 8, "outbox_id": None, "limit": 10, "lease": 30}, 1_000),
    "claim_due_cron": (crons.CLAIM_DUE_CRON, {"now": None, "skipped": []}, 200),
}


@pytest.fixture(scope="module")
def swept(large_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(large_database) as connection:
        for statement in _SWEPT:
            connection.execute(statement)
        connection.execute(
            "UPDATE lgs.cron SET next_run_date = now() - interval '1 s' WHERE metadata -> 'n' IN ('4', '6')"
        )
        yield connection
        connection.rollback()


@pytest.mark.parametrize("name", [*SWEEPS, "keep_latest"])
def test_a_sweep_uses_indexes(swept: psycopg.Connection[Any], name: str) -> None:
    statement, parameters, most = SWEEPS.get(name, (sweeps.KEEP_LATEST, {}, 15_000))
    if name == "keep_latest":
        rows = swept.execute("SELECT DISTINCT thread_id FROM checkpoints LIMIT 20").fetchall()
        parameters = {"names": [row[0] for row in rows]}
    with swept.transaction(force_rollback=True):
        assert swept.execute(statement, parameters).rowcount > 0
    with swept.transaction(force_rollback=True):
        explain = f"EXPLAIN (ANALYZE, BUFFERS, VERBOSE, FORMAT JSON) {statement}"
        plan = Plan.of(swept.execute(explain, parameters).fetchall()[0][0][0])
    # all crons of this database are on one thread: in one that has any, reading them all is the quickest
    assert plan.scanned <= ({"cron"} if name == "purge_threads" else set()), plan
    assert plan.buffers < most, plan
    print(f"\n{name}: {plan.milliseconds:.1f} ms, {plan.buffers} blocks, {sorted(plan.indexes)}")
