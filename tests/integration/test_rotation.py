"""Passwords change while a process is warm: the secret is read again, and no request fails for it.

The database's role and a Valkey of the test's own get another password, as a rotation does it; moto is the Secrets Manager.
Connections that are there stay, new ones are refused.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from moto import mock_aws
from own_valkey import Start
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from langgraph_serverless import addresses
from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain.events import END, Event
from langgraph_serverless.domain.runs import Lease
from langgraph_serverless.errors import UnavailableError
from langgraph_serverless.function_runtime import load_settings
from langgraph_serverless.persistence.pool import Database
from langgraph_serverless.persistence.queue import HeartbeatConnection
from langgraph_serverless.queue.bell import BellListener

PATIENCE = 30.0
OLD, NEW, NEWEST = "old p@ss/word:%1", "new p@ss?word#%2", "n€west&=+ 3"


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        yield boto3.client("secretsmanager")


@dataclass
class Role:
    """A role of the database that needs its password, and the secret that has it."""

    name: str
    database_uri: str
    secrets: Any

    def document(self, password: str) -> str:
        """As RDS writes it."""
        place = conninfo_to_dict(self.database_uri)
        found = {"engine": "postgres", "username": self.name, "password": password, "dbname": place["dbname"]}
        return json.dumps({**found, "host": place["host"], "port": int(place.get("port") or 5432)})

    def alter(self, password: str) -> None:
        with psycopg.connect(self.database_uri, autocommit=True) as connection:
            statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(statement.format(sql.Identifier(self.name), sql.Literal(password)))

    def publish(self, password: str) -> None:
        self.secrets.put_secret_value(SecretId="app/db", SecretString=self.document(password))


@pytest.fixture
def role(database_uri: str, postgres_uri: str, secrets: Any) -> Iterator[Role]:
    role = Role(f"lgs_rotating_{uuid.uuid4().hex[:8]}", database_uri, secrets)
    rule = "local all +lgs_with_password scram-sha-256"
    # not the session's own database: the lock is for the other sessions, which share the server
    with psycopg.connect(postgres_uri, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(7265)")
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'lgs_with_password'").fetchone():
            connection.execute("CREATE ROLE lgs_with_password")
        (path,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        if not Path(path).exists():
            pytest.skip("the server that TEST_DATABASE_URI names has its rules elsewhere")
        with open(path, encoding="utf-8") as file:
            rules = file.read()
        if rule not in rules:
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{rule}\n{rules}")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("SELECT pg_advisory_unlock(7265)")
        create = sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {} IN ROLE lgs_with_password")
        connection.execute(create.format(sql.Identifier(role.name), sql.Literal(OLD)))
        secrets.create_secret(Name="app/db", SecretString=role.document(OLD))
        yield role
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role.name)))


def refused(role: Role, password: str) -> bool:
    place = conninfo_to_dict(role.database_uri)
    try:
        psycopg.connect(host=place["host"], dbname=place["dbname"], user=role.name, password=password).close()
    except psycopg.OperationalError:
        return True
    return False


async def until_refused(role: Role, password: str) -> None:
    """The server reads its rules again soon, not at once."""
    deadline = time.monotonic() + PATIENCE
    while not refused(role, password):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_no_request_fails_when_the_password_of_the_database_changes(
    role: Role, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(caplog)
    monkeypatch.setattr(addresses, "PAUSE", 0.0)  # there are two changes within a second
    await until_refused(role, "another")
    settings = load_settings({"DATABASE_URI_SECRET": "app/db", "DATABASE_POOL_MIN_SIZE": "0"})
    database, beats = Database(settings), HeartbeatConnection(settings.database_address, timeout=5)
    lease = Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)
    try:
        async with database.connection() as warm:
            role.alter(NEW)
            role.publish(NEW)
            await warm.execute("SELECT 1")  # who is in stays in
            async with asyncio.TaskGroup() as group:
                for _ in range(3):  # at once: the secret is read for all of them
                    group.create_task(database.ping())
        assert await asyncio.to_thread(beats.beat, [lease], 30) == {}

        # one that connects on its own, after another change
        beats.close()
        role.alter(NEWEST)
        role.publish(NEWEST)
        await until_refused(role, NEW)
        assert await asyncio.to_thread(beats.beat, [lease], 30) == {}
    finally:
        beats.close()
        await database.aclose()
    assert "a password has changed" in caplog.text
    check_secrecy(caplog.text)


async def test_a_password_that_is_changed_before_its_secret_is_found_when_the_secret_has_it(
    role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    listen(caplog)
    await until_refused(role, "another")
    environ = {"DATABASE_URI_SECRET": "app/db", "DATABASE_POOL_MIN_SIZE": "0", "DATABASE_POOL_TIMEOUT_SECS": "0.2"}
    database = Database(load_settings(environ))
    try:
        role.alter(NEW)
        with pytest.raises(UnavailableError) as raised:
            await database.ping()
        check_secrecy(str(raised.value) + repr(raised.value.__cause__))
        role.publish(NEW)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                await database.ping()
                break
            except UnavailableError:
                assert time.monotonic() < deadline
    finally:
        await database.aclose()
    check_secrecy(caplog.text)


async def test_a_host_of_its_own_is_kept_when_the_secret_is_read_again(role: Role) -> None:
    await until_refused(role, "another")
    host = str(conninfo_to_dict(role.database_uri)["host"])
    elsewhere = {**json.loads(role.document(OLD)), "host": "nowhere.invalid"}
    role.secrets.put_secret_value(SecretId="app/db", SecretString=json.dumps(elsewhere))
    settings = load_settings({"DATABASE_URI_SECRET": "app/db", "DATABASE_HOST": host, "DATABASE_POOL_MIN_SIZE": "0"})
    database = Database(settings)
    try:
        role.alter(NEW)
        role.secrets.put_secret_value(SecretId="app/db", SecretString=json.dumps({**elsewhere, "password": NEW}))
        await database.ping()
    finally:
        await database.aclose()


@pytest.mark.parametrize("form", ["uri", "json"])
async def test_nothing_of_redis_is_lost_when_its_password_changes(
    valkey: Start, secrets: Any, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    listen(caplog)
    server = valkey(password="old-password")

    def document(password: str) -> str:
        if form == "uri":
            return f"redis://default:{password}@127.0.0.1:{server.port}"
        found = {"username": "default", "password": password, "host": "127.0.0.1", "port": server.port}
        return json.dumps({**found, "tls": False})

    secrets.create_secret(Name="app/redis", SecretString=document("old-password"))
    settings = load_settings({"DATABASE_URI": "postgresql://nowhere/x", "REDIS_URI_SECRET": "app/redis"})
    container = ApiContainer(settings)
    lease = Lease(run_id=uuid.uuid4(), token=uuid.uuid4(), epoch=1)
    log, hub, redis = container.event_log, container.event_hub, container.redis
    assert log is not None
    assert hub is not None
    assert redis is not None
    listener = BellListener(redis, settings.redis_key_prefix)
    events = hub.read(lease.run_id, "0-0")
    try:
        assert await container.bell.trouble() is None
        await log.append(lease, [Event("values", b"1")])
        assert [event.data for event in await anext(events)] == [b"1"]
        assert not await listener.wait(0.01)

        admin = server.client()
        admin.config_set("requirepass", "new-password")
        secrets.put_secret_value(SecretId="app/redis", SecretString=document("new-password"))
        admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
        admin.close()

        assert await container.bell.trouble() is None
        await container.bell.ring()
        await log.append(lease, [Event("values", b"2"), Event(END, b"{}")])
        found: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            while b"{}" not in found:
                found += [event.data for event in await anext(events)]
        assert found == [b"2", b"{}"]
        async with asyncio.timeout(PATIENCE):
            while not await listener.wait(0.2):
                pass
    finally:
        await events.aclose()  # type: ignore[attr-defined]
        await listener.aclose()
        await container.aclose()
    assert "a password has changed" in caplog.text
    assert "old-password" not in caplog.text
    assert "new-password" not in caplog.text


def listen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    # says every answer that it gets when it is asked to debug, which LOG_LEVEL does not
    caplog.set_level(logging.INFO, logger="botocore")


def check_secrecy(text: str) -> None:
    """No password is shown, in any spelling."""
    for part in ("p@ss", "p%40ss", "n€west", "%E2%82%ACwest"):
        assert part not in text
