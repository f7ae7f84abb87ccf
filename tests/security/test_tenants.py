"""Row-level security (S3, P10): what the database itself shows and takes of tenants, whatever our own statements forget to ask.

Every table is looked at, so a new one fails here until it has a policy (``persistence/migrations/tenants.sql``) and a row of each
tenant below, or a reason to have none.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from figures import Figures, sizes
from langgraph.checkpoint.base import empty_checkpoint
from psycopg import sql
from psycopg.rows import dict_row
from transaction_pooler import transaction_pooler

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.state import StateContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.idempotency import Answer, IdempotencyKey
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import Durability, Lease, RunRequest
from langgraph_serverless.domain.tenants import acting_for, acting_tenant, item_root
from langgraph_serverless.domain.threads import Thread
from langgraph_serverless.errors import (
    AccessError,
    InvalidInputError,
    NotFoundError,
    ProjectError,
    SettingsError,
    StartupError,
    UnavailableError,
)
from langgraph_serverless.http.app import create_app
from langgraph_serverless.persistence.doctor import DoctorRepository
from langgraph_serverless.persistence.fenced_saver import FencedSaver
from langgraph_serverless.persistence.migrate import migrate, missing_migrations
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.store import Entry, StoreRepository
from langgraph_serverless.services.doctor import DoctorService
from langgraph_serverless.services.idempotency import AnsweredBeforeError, Once
from langgraph_serverless.services.store import StoreService
from langgraph_serverless.services.threads import ThreadService
from langgraph_serverless.settings import Settings

MEMORY = Path(__file__).parent.parent / "fixtures" / "projects" / "memory" / "langgraph.json"
TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relrowsecurity AS guarded,
    (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid AND p.polroles = ARRAY['lgs_tenant'::regrole::oid]) AS policies,
    (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) AS all_policies,
    has_table_privilege('lgs_tenant', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE') AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""
#: Tables without tenants' rows, to which the role has no rights at all.
NOT_OF_TENANTS = {
    "lgs.migration": "versions of the schema",
    "public.checkpoint_migrations": "versions of LangGraph's schema",
    "public.store_migrations": "the same",
    "public.vector_migrations": "the same",
}
#: A row of a tenant in every table; `%(t)s` is its name, `%(id)s` an id of its own, `%(root)s` where its items are.
ROWS = """
INSERT INTO lgs.thread (thread_id, tenant) VALUES (%(id)s, %(t)s);
INSERT INTO lgs.assistant (assistant_id, tenant, graph_id, version, name) VALUES (%(id)s, %(t)s, 'g', 1, 'n');
INSERT INTO lgs.assistant_version (assistant_id, version, graph_id, name) VALUES (%(id)s, 1, 'g', 'n');
INSERT INTO lgs.run (run_id, thread_id, tenant, assistant_id, graph_id, kwargs, status, finished_at)
    VALUES (%(id)s, %(id)s, %(t)s, %(id)s, 'g', '{}', 'success', now());
INSERT INTO lgs.run_trace (run_id, trace) VALUES (%(id)s, '{}');
INSERT INTO lgs.thread_priority (thread_id, priority) VALUES (%(id)s, 1);
INSERT INTO lgs.cron (cron_id, tenant, assistant_id, thread_id, schedule, payload) VALUES (%(id)s, %(t)s, %(id)s, %(id)s, '0 0 1 1 *', '{}');
INSERT INTO lgs.cron_creator (cron_id, tenant, value) VALUES (%(id)s, %(t)s, '{}');
INSERT INTO lgs.outbox (outbox_id, tenant, run_id, thread_id, url, payload, delivered_at)
    VALUES (%(id)s, %(t)s, %(id)s, %(id)s, 'http://x', '{}', now());
INSERT INTO lgs.idempotency (tenant, route, key, fingerprint, status, response, expires_at)
    VALUES (%(t)s, 'r', 'k', sha256(''), 200, 'x', now() + interval '1 day');
INSERT INTO lgs.a2a_turn (run_id, tenant, task_id) VALUES (%(id)s, %(t)s, %(id)s);
INSERT INTO lgs.a2a_push (task_id, config_id, tenant, url, dialect, value) VALUES (%(id)s, 'c', %(t)s, 'http://x', '1.0', '{}');
INSERT INTO checkpoints (thread_id, checkpoint_id, checkpoint, metadata) VALUES (%(id)s::text, '1', '{}', '{}');
INSERT INTO checkpoint_blobs (thread_id, channel, version, type) VALUES (%(id)s::text, 'c', '1', 'empty');
INSERT INTO checkpoint_writes (thread_id, checkpoint_id, task_id, idx, channel, blob) VALUES (%(id)s::text, '1', 't', 0, 'c', '');
INSERT INTO store (prefix, key, value) VALUES (%(root)s || 'a.b', 'k', '{}');
INSERT INTO store_vectors (prefix, key, field_name, embedding) VALUES (%(root)s || 'a.b', 'k', 'f', '[1,1,1,1,1,1,1,1]');
"""
A, B = "a", "b.%c"
IDS = {A: uuid.UUID(int=0xA), B: uuid.UUID(int=0xB), "": uuid.UUID(int=0xC)}
WHO = {tenant: Principal(identity=f"user of {tenant}", tenant=tenant) for tenant in IDS}

Connection = psycopg.Connection[dict[str, Any]]


@pytest.fixture(scope="module")
def uri(databases: Any) -> Iterator[str]:
    made = databases.create()
    assert asyncio.run(_prepared(made)) == ["tenants"]
    yield made
    databases.drop(made)


async def _prepared(uri: str) -> list[str]:
    assert await missing_migrations(uri, tenants=True) == ["tenants"]
    applied = await migrate(uri, tenants=True)
    assert await missing_migrations(uri, tenants=True) == []
    assert await migrate(uri, tenants=True) == []  # says when there is nothing to do
    return applied


@pytest.fixture
def owner(uri: str) -> Iterator[Connection]:
    """Sees everything. The database has a row of each tenant in every table, and nothing else."""
    with psycopg.connect(uri, autocommit=True, row_factory=dict_row) as connection:
        names = [row["name"] for row in connection.execute(TABLES) if row["guarded"]]
        connection.execute(sql.SQL("TRUNCATE {} CASCADE").format(sql.SQL(", ").join(map(sql.SQL, names))))
        for tenant, each in IDS.items():
            cursor = psycopg.ClientCursor(connection)
            cursor.execute(ROWS, {"t": tenant, "id": each, "root": item_root(tenant)})
        yield connection


@pytest.fixture
async def settings(uri: str, redis_uri: str) -> Settings:
    return Settings(
        database_uri=uri,
        redis_uri=redis_uri,
        redis_key_prefix=f"test-{uuid.uuid4().hex[:8]}",
        pool_max_size=1,
        pool_min_size=1,
        tenant_from="org",
        row_level_security=True,
        config_path=MEMORY,
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """One connection for everybody."""
    made = Database(settings)
    yield made
    await made.aclose()


def tables(owner: Connection) -> list[dict[str, Any]]:
    return owner.execute(TABLES).fetchall()


def guarded(owner: Connection) -> list[sql.SQL]:
    return [sql.SQL(table["name"]) for table in tables(owner) if table["guarded"]]


def contents(owner: Connection) -> dict[str, list[str]]:
    """All rows of all tables, as text."""
    rows = {}
    for table in guarded(owner):
        found = owner.execute(sql.SQL("SELECT t::text AS row FROM {} t ORDER BY 1").format(table)).fetchall()
        rows[table.as_string()] = [row["row"] for row in found]
    return rows


def mine(rows: dict[str, list[str]], tenant: str) -> dict[str, list[str]]:
    """Those that are not of another tenant: by an id or a root that is in every row of ``ROWS`` but those of keys."""
    marks = (str(IDS[tenant]), item_root(tenant) + "a.b,")
    own = {name: [row for row in found if any(mark in row for mark in marks)] for name, found in rows.items()}
    own["lgs.idempotency"] = [row for row in rows["lgs.idempotency"] if row.startswith((f"({tenant},", f'("{tenant}"'))]
    if not tenant:
        own["store"] = own["public.store"] = [row for row in rows["public.store"] if row.startswith("(a.b,")]
        own["public.store_vectors"] = [row for row in rows["public.store_vectors"] if row.startswith("(a.b,")]
        own["lgs.idempotency"] = [row for row in rows["lgs.idempotency"] if row.startswith(('("",', "(,"))]
        del own["store"]
    return own


def test_every_table_has_a_policy_or_is_closed(owner: Connection) -> None:
    for table in tables(owner):
        if table["name"] in NOT_OF_TENANTS:
            assert not table["readable"], table
        else:
            assert table["guarded"], f"{table['name']} needs a policy in persistence/migrations/tenants.sql"
            assert table["policies"] == table["all_policies"] > 0, table
    # and what follows looks at all of them
    assert all(len(rows) == len(IDS) for rows in contents(owner).values()), contents(owner)
    assert all(len(rows) == 1 for tenant in IDS for rows in mine(contents(owner), tenant).values())


async def test_a_tenant_sees_its_rows_and_nobody_sees_none(owner: Connection, database: Database) -> None:
    names, everything = guarded(owner), contents(owner)

    async def seen() -> dict[str, list[str]]:
        async with database.connection() as connection:
            return {
                name.as_string(): [
                    row["row"]
                    for row in await (
                        await connection.execute(sql.SQL("SELECT t::text AS row FROM {} t ORDER BY 1").format(name))
                    ).fetchall()
                ]
                for name in names
            }

    # the last one comes after a tenant on the same connection, where its setting has left an empty text behind
    for tenant in (None, A, None, "", B, None, "c", "b"):
        with acting_for(tenant):
            expected = mine(everything, tenant) if tenant in IDS else {name: [] for name in everything}
            assert await seen() == expected, tenant
    async with database.as_system().connection() as connection:
        row = await (await connection.execute("SELECT count(*) AS all FROM lgs.run")).fetchone()
    assert row == {"all": len(IDS)}


async def test_a_tenant_changes_its_rows_only(owner: Connection, database: Database) -> None:
    before = contents(owner)
    with acting_for(A):
        async with database.transaction() as connection:
            # what hangs on others first: afterwards it would be nobody's
            roots = ("lgs.assistant", "lgs.run", "lgs.thread")
            for name in sorted(guarded(owner), key=lambda name: (name.as_string() in roots, name.as_string())):
                await connection.execute(sql.SQL("DELETE FROM {}").format(name))
    after = contents(owner)
    assert mine(after, A) == {name: [] for name in before}
    for tenant in (B, ""):
        assert mine(after, tenant) == mine(before, tenant)


@pytest.mark.parametrize("acting", [A, None])
async def test_a_tenant_makes_rows_of_its_own_only(owner: Connection, database: Database, acting: str | None) -> None:
    before = contents(owner)
    new = uuid.UUID(int=0xD)
    for statement in filter(str.strip, ROWS.strip().split(";\n")):
        # another tenant's row, new, and one of this tenant that hangs on another tenant's
        for values in (
            {"t": B, "id": IDS[B], "root": item_root("d")},
            {"t": B, "id": new, "root": item_root("d")},
            {"t": acting or "", "id": IDS[B], "root": item_root("d")},
        ):
            if values["id"] == IDS[B] and "lgs.thread (" in statement:
                continue  # an id that is taken is an id that is taken
            with acting_for(acting), pytest.raises((AccessError, psycopg.IntegrityError)):
                async with database.transaction() as connection:
                    await connection.execute(statement, values)
    # nor gives one away
    with acting_for(acting):
        for table in (
            "thread",
            "run",
            "cron",
            "cron_creator",
            "assistant",
            "outbox",
            "idempotency",
            "a2a_turn",
            "a2a_push",
        ):
            with pytest.raises(AccessError) if acting else contextlib.nullcontext():
                async with database.connection() as connection:
                    await connection.execute(
                        sql.SQL("UPDATE {} SET tenant = %s").format(sql.Identifier("lgs", table)), (B,)
                    )
    assert contents(owner) == before


async def test_default_assistants_are_everybodys_to_use(owner: Connection, database: Database) -> None:
    known = uuid.uuid4()
    owner.execute(
        "INSERT INTO lgs.assistant (assistant_id, graph_id, version, name, metadata)"
        " VALUES (%s, 'g', 1, 'g', '{\"created_by\": \"system\"}')",
        (known,),
    )
    statements = {
        "SELECT * FROM lgs.assistant WHERE assistant_id = %s": 1,
        "SELECT * FROM lgs.assistant WHERE assistant_id = %s FOR KEY SHARE": 1,  # as runs lock them
        "DELETE FROM lgs.assistant WHERE assistant_id = %s": 0,
    }
    for statement, count in statements.items():
        for tenant, allowed in ((A, count), (None, 0)):
            with acting_for(tenant):
                async with database.connection() as connection:
                    assert (await connection.execute(statement, (known,))).rowcount == allowed, (statement, tenant)
    with acting_for(A), pytest.raises(AccessError):
        async with database.connection() as connection:
            await connection.execute("UPDATE lgs.assistant SET name = 'mine' WHERE assistant_id = %s", (known,))


async def test_the_same_name_is_two_items(owner: Connection, database: Database) -> None:
    items, service = StoreRepository(), StoreService(database)
    for tenant, caller in WHO.items():
        with acting_for(tenant):
            await service.put(caller, namespace=["a", "b"], key="shared", value={"of": tenant})
            await service.put(caller, namespace=["z"], key="other", value={"of": tenant})
    for tenant, caller in WHO.items():
        with acting_for(tenant):
            item = await service.get(caller, namespace=["a", "b"], key="shared")
            assert item is not None
            assert (item.namespace, item.value) == (["a", "b"], {"of": tenant})
            for namespace in ([], ["a"]):
                found = await service.search(caller, namespace=namespace, filter={"of": {"$ne": 0}})
                assert {(*each.namespace, each.key) for each in found} - {("z", "other")} == {
                    ("a", "b", "shared"),
                    ("a", "b", "k"),
                }
                assert {each.value.get("of", tenant) for each in found} == {tenant}
            assert await service.list_namespaces(caller) == [["a", "b"], ["z"]]
            assert await service.list_namespaces(caller, prefix=["a"], suffix=["*"], max_depth=1) == [["a"]]
    # also where only our statements keep them apart
    system = database.as_system()
    async with system.connection() as connection:
        for tenant in IDS:
            found = await items.search(connection, [], [], tenant=tenant, limit=10, offset=0, refresh=False)
            assert {each.value.get("of", tenant) for each in found} == {tenant}
            assert len(found) == 3
            listed = await items.namespaces(
                connection, tenant=tenant, prefixes=[], suffixes=[["b"], ["*", "b"]], max_depth=None, limit=9, offset=0
            )
            assert listed == [["a", "b"]]
        await items.delete(connection, [(["a", "b"], "shared")], tenant=A)
        left = [await items.find(connection, [((["a", "b"], "shared"), False)], tenant=tenant) for tenant in IDS]
    assert [found[0] is None for found in left] == [tenant == A for tenant in IDS]
    # a put of another tenant's item by a wrong root is refused
    with acting_for(A), pytest.raises(AccessError):
        async with database.connection() as connection:
            await items.put(connection, [Entry(namespace=["a"], key="k", value={})], tenant=B)


def test_roots_cannot_be_mistaken() -> None:
    tenants = ["", "a", "a.b", "a%2Eb", "a.", ".a", "%", "b", "a.b.c"]
    roots = [item_root(tenant) for tenant in tenants]
    assert len(set(roots)) == len(roots)
    for one in roots:
        for other in roots:
            assert one == other or not one or not other.startswith(one)


async def test_a_key_of_another_tenant_is_a_new_key(owner: Connection, database: Database) -> None:
    threads = ThreadService(database, bell=None)  # type: ignore[arg-type]
    same = Principal(identity="same", tenant=A), Principal(identity="same", tenant=B)

    def once() -> Once[Thread]:
        key = IdempotencyKey(route="POST /threads", key="k", fingerprint=b"f" * 32)
        return Once(
            key=key, retention=60, answer=lambda made: Answer(status=200, headers={}, body=str(made.thread_id).encode())
        )

    made = []
    for caller in same:
        with acting_for(caller.tenant):
            made.append(await threads.create(caller, once=once()))
    assert made[0].thread_id != made[1].thread_id
    for caller, thread in zip(same, made, strict=True):
        with acting_for(caller.tenant), pytest.raises(AnsweredBeforeError) as answered:
            await threads.create(caller, once=once())
        assert answered.value.answer.body == str(thread.thread_id).encode()


async def test_an_unprepared_database_is_said_to_be_one(databases: Any, settings: Settings) -> None:
    bare = databases.create()
    database = Database(settings.replace(database_uri=bare))
    try:
        with acting_for(A), pytest.raises((UnavailableError, AccessError)):
            async with database.connection() as connection:
                await connection.execute("SELECT * FROM lgs.thread")
    finally:
        await database.aclose()
        databases.drop(bare)


async def test_the_doctor_looks_for_policies(owner: Connection, databases: Any, uri: str) -> None:
    async def said(uri: str, *, tenants: bool = True, user: str = "") -> set[str]:
        doctor = DoctorService(migrations={}, prepared=True, wants_vectors=False, tenants=tenants)
        async with await psycopg.AsyncConnection[dict[str, Any]].connect(
            uri, autocommit=True, row_factory=dict_row
        ) as connection:
            if user:
                await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(user)))
            row = await DoctorRepository().look_at_tenants(connection)
            return {finding.says for finding in doctor._policies(row)}

    assert await said(uri) == {"Every table has a policy that keeps tenants apart."}
    assert await said(uri, tenants=False) == set()
    (seen,) = await said(uri, tenants=False, user="lgs_tenant")
    assert "does not see all rows" in seen
    bare = databases.create()
    (problem,) = await said(bare)
    databases.drop(bare)
    assert "lacks policies on" in problem
    assert "thread_priority" in problem


async def test_who_may_make_no_role_is_told_what_to_ask_for(databases: Any) -> None:
    bare, name = databases.create(), f"plain_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN NOCREATEROLE").format(sql.Identifier(name)))
        database = str(psycopg.conninfo.conninfo_to_dict(bare)["dbname"])
        admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(*map(sql.Identifier, (database, name))))
        admin.execute(sql.SQL("GRANT ALL ON SCHEMA lgs, public TO {}").format(sql.Identifier(name)))
        admin.execute(sql.SQL("GRANT ALL ON ALL TABLES IN SCHEMA lgs, public TO {}").format(sql.Identifier(name)))
    try:
        plain = psycopg.conninfo.make_conninfo(bare, user=name)
        with pytest.raises(StartupError, match="CREATE ROLE lgs_tenant NOLOGIN; GRANT lgs_tenant TO"):
            await migrate(plain, tenants=True)
        assert await missing_migrations(plain, tenants=True) == ["tenants"]  # nothing of it is there
    finally:
        with psycopg.connect(bare, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))
        databases.drop(bare)


async def test_the_owner_of_the_tables_need_not_be_a_superuser(databases: Any, uri: str, settings: Settings) -> None:
    """As on RDS; here somebody else has made the role, as roles are the server's."""
    bare, name = databases.create(migrated=False), f"owner_{uuid.uuid4().hex[:8]}"
    place, user = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(bare)["dbname"])), sql.Identifier(name)
    with psycopg.connect(bare, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(user))
        admin.execute(sql.SQL("GRANT lgs_tenant TO {}").format(user))
        admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(place, user))
    plain = psycopg.conninfo.make_conninfo(bare, user=name)
    database = Database(settings.replace(database_uri=plain))
    try:
        assert "tenants" in await migrate(plain, tenants=True)
        threads = ThreadService(database, bell=None)  # type: ignore[arg-type]
        for tenant in (A, B):
            with acting_for(tenant):
                made = await threads.create(WHO[tenant])
                rows = (await threads.search(WHO[tenant], ids=None, metadata={}, values={}, status=None)).items
                assert [row["thread_id"] for row in rows] == [made.thread_id]
        async with database.as_system().connection() as connection:
            row = await (await connection.execute("SELECT count(*) AS all FROM lgs.thread")).fetchone()
            assert row == {"all": 2}
            assert await DoctorRepository().look_at_tenants(connection) == {
                "open": [],
                "member": True,
                "sees_all": True,
            }
    finally:
        await database.aclose()
        with psycopg.connect(bare, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP OWNED BY {0} CASCADE").format(user))
            admin.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(place))
            admin.execute(sql.SQL("DROP ROLE {}").format(user))
        databases.drop(bare)


@sizes(timeout=1800, turns=(150, 10_000))
async def test_tenants_take_turns_on_one_connection(
    size: SimpleNamespace, owner: Connection, settings: Settings, uri: str, figures: Figures, seed: int
) -> None:
    """S3: whatever becomes of a request, cancelled in the midst of it or failed, the next one has the connection and its own rows.

    Two processes' pools share one connection to Postgres through a transaction pooler, which resets nothing.
    """
    async with transaction_pooler(uri) as (address, pooler):
        shared = settings.replace(database_uri=address, pool_max_size=4, pool_timeout=30, prepared_statements=False)
        databases = [Database(shared), Database(shared)]
        try:
            counts = await _take_turns(size.turns, databases, owner, random.Random(seed))
        finally:
            for database in databases:
                await database.aclose()
        figures(
            "S3",
            turns=size.turns,
            tenants=len(IDS),
            connections=1,
            clients=pooler.clients,
            transactions=pooler.transactions,
            seed=seed,
            **counts,
        )
        assert pooler.clients > 1
    assert counts["leaks"] == 0


async def _take_turns(
    turns: int, databases: list[Database], owner: Connection, chance: random.Random
) -> dict[str, int]:
    made: dict[str, set[uuid.UUID]] = {tenant: {each} for tenant, each in IDS.items()}
    counts = {"leaks": 0, "cancelled": 0, "failed": 0, "writes": 0}
    search: dict[str, Any] = {"metadata": {}, "values": {}, "status": None}

    async def turn(tenant: str) -> None:
        caller, other = WHO[tenant], chance.choice([each for each in IDS if each != tenant])
        database = chance.choice(databases)
        threads = ThreadService(database, bell=None)  # type: ignore[arg-type]
        store = StoreService(database)
        with acting_for(tenant):
            match chance.randrange(7):
                case 0:
                    new = uuid.UUID(int=chance.getrandbits(128))
                    made[tenant].add(new)  # before, as it may be cancelled after the commit
                    await threads.create(caller, thread_id=new)
                    counts["writes"] += 1
                case 1:
                    seen = {
                        row["thread_id"] for row in (await threads.search(caller, ids=None, limit=1000, **search)).items
                    }
                    counts["leaks"] += len(seen - made[tenant])
                case 2:
                    counts["leaks"] += await threads.count(caller, **search) > len(made[tenant])
                case 3:
                    try:
                        await threads.get(caller, chance.choice(sorted(made[other])))
                        counts["leaks"] += 1
                    except NotFoundError:
                        counts["failed"] += 1
                case 4:
                    await store.put(caller, namespace=["n"], key="k", value={"of": tenant})
                case 5:
                    item = await store.get(caller, namespace=["n"], key="k")
                    counts["leaks"] += item is not None and item.value != {"of": tenant}
                case 6:
                    async with database.transaction() as connection:
                        with contextlib.suppress(psycopg.errors.DivisionByZero):
                            await connection.execute("SELECT 1 / 0")

    async def impatient(tenant: str) -> None:
        task = asyncio.create_task(turn(tenant))
        if chance.random() < 0.2:
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            if task.cancel():
                counts["cancelled"] += 1
        with contextlib.suppress(asyncio.CancelledError):
            await task

    most_at_once = asyncio.Semaphore(8)

    async def waiting(tenant: str) -> None:
        async with most_at_once:
            await impatient(tenant)

    await asyncio.gather(*(waiting(chance.choice(list(IDS))) for _ in range(turns)))
    assert acting_tenant() is None
    # whoever takes the connection next is nobody in particular
    async with databases[0].as_system().connection() as connection:
        row = await (
            await connection.execute(
                "SELECT current_user = session_user AS owner, current_setting('lgs.tenant', true) AS t"
            )
        ).fetchone()
    assert row is not None
    assert row["owner"]
    assert not row["t"]
    for tenant, own in made.items():
        rows = owner.execute("SELECT thread_id FROM lgs.thread WHERE tenant = %s", (tenant,))
        assert {row["thread_id"] for row in rows} <= own
    return counts


async def test_a_run_remembers_for_its_tenant(owner: Connection, settings: Settings) -> None:
    """A graph's store and checkpoints are its tenant's; the worker claims and settles for all."""
    worker = WorkerContainer(settings.replace(pool_max_size=5))
    api = worker.database.for_tenant  # what a request of a tenant has
    try:
        await worker.assistants.ensure_defaults()
        runs = {}
        for tenant in (A, B):
            # made as a request makes it; the worker's own services work for everybody
            caller = WHO[tenant]
            given = {"namespace": ["notes"], "put": {"k": {"text": f"of {tenant}"}}, "query": None}
            for graph in ("remember", "remember_sync"):
                request = RunRequest(assistant_id=graph, input=given, if_not_exists="create", on_completion="keep")
                runs[tenant, graph] = await worker.runs.create(caller, request, thread_id=uuid.uuid4())
        await worker.worker().work(remaining=lambda: 60.0, idle_grace=0.0)
        for (tenant, _), run in runs.items():
            for whose, count in ((A, int(tenant == A)), (B, int(tenant == B))):
                async with api(whose).connection() as connection:
                    row = await (
                        await connection.execute(
                            "SELECT (SELECT count(DISTINCT thread_id) FROM checkpoints WHERE thread_id = %(name)s) AS checkpoints,"
                            " (SELECT count(*) FROM lgs.run WHERE run_id = %(run)s AND status = 'success') AS runs",
                            {"name": str(run.thread_id), "run": run.run_id},
                        )
                    ).fetchone()
                    assert row == {"checkpoints": count, "runs": count}
            row = owner.execute("SELECT output FROM lgs.run WHERE run_id = %s", (run.run_id,)).fetchone()
            assert row is not None
            assert [found[1] for found in row["output"]["found"]] == [{"text": f"of {tenant}"}], row
    finally:
        await worker.aclose()


@pytest.mark.parametrize("durability", list(Durability))
async def test_the_end_of_a_run_writes_nothing_to_threads_of_other_tenants(
    owner: Connection, database: Database, durability: Durability
) -> None:
    """Whoever ends runs may write everywhere, and writes what is left of their checkpoints; their nodes may not."""
    lease = Lease(run_id=IDS[A], token=uuid.uuid4(), epoch=1, tenant=A)
    owner.execute(
        "UPDATE lgs.run SET status = 'running', finished_at = NULL, lease_token = %s, lease_owner = 'w', "
        "lease_expires_at = now() + interval '1 hour' WHERE run_id = %s",
        (lease.token, lease.run_id),
    )
    before = contents(owner)
    pool = await database.as_system().for_tenant(A).pool()
    saver = FencedSaver(pool, lease, durability=durability, thread_id=str(IDS[A]))
    theirs: Any = {"configurable": {"thread_id": str(IDS[B]), "checkpoint_ns": "", "checkpoint_id": "1"}}
    assert await saver.aget_tuple(theirs) is None
    with pytest.raises(AccessError):
        await saver.aput(theirs, empty_checkpoint(), {"step": 1}, {})
    with pytest.raises(AccessError):
        await saver.aput_writes(theirs, [("channel", "value")], "task")
    assert await saver.unsaved.take() is None
    assert contents(owner) == before
    # its own is written as ever
    own: Any = {"configurable": {"thread_id": str(IDS[A]), "checkpoint_ns": ""}}
    await saver.aput(own, empty_checkpoint(), {"step": 1}, {})
    await saver.unsaved.flush()
    assert contents(owner) != before


async def test_a_cron_runs_for_its_tenant(owner: Connection, settings: Settings) -> None:
    """The scheduler fires crons of all tenants; what they make is theirs, also where nobody is asked who they are."""
    # each has one already
    worker = WorkerContainer(settings.replace(pool_max_size=5, max_crons=2))
    scheduler = SchedulerContainer(settings, manifest=worker.catalog.manifest)
    try:
        await worker.assistants.ensure_defaults()
        made = {}
        for tenant in (A, B):
            body = {"assistant_id": "remember", "schedule": "* * * * *", "input": {"namespace": ["c"], "put": {}}}
            made[tenant] = await worker.crons.create(WHO[tenant], body, thread_id=None)
            with pytest.raises(InvalidInputError, match="there are 2 crons already"):
                await worker.crons.create(WHO[tenant], body, thread_id=None)
        await scheduler.scheduler.tick(now=datetime.now(UTC) + timedelta(minutes=2))
        for tenant, cron in made.items():
            rows = owner.execute(
                "SELECT r.tenant, t.tenant AS of_thread FROM lgs.run r JOIN lgs.thread t USING (thread_id) WHERE cron_id = %s",
                (cron.cron_id,),
            ).fetchall()
            assert rows == [{"tenant": tenant, "of_thread": tenant}]
    finally:
        await scheduler.aclose()
        await worker.aclose()


def test_tenants_want_somebody_who_says_who_they_are(settings: Settings) -> None:
    with pytest.raises(ProjectError, match="nobody says whose data it is"):
        create_app(StateContainer(settings))  # its project has no auth
    with pytest.raises(SettingsError, match="ROW_LEVEL_SECURITY needs TENANT_FROM"):
        Settings.from_env({"DATABASE_URI": settings.database_uri, "ROW_LEVEL_SECURITY": "true"})
