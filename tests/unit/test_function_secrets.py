"""Addresses out of secrets: in either form, with another host, and never in an error."""

import json
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from redis.asyncio.connection import parse_url

from langgraph_serverless import addresses
from langgraph_serverless.addresses import Address
from langgraph_serverless.errors import SettingsError
from langgraph_serverless.function_runtime import load_settings
from langgraph_serverless.function_secrets import SecretReader, postgres_uri, redis_uri, with_host
from langgraph_serverless.persistence.pool import is_refusal

RDS = {
    "engine": "postgres",
    "username": "app",
    "password": "p@ss/w:rd",
    "host": "db.example",
    "port": 5433,
    "dbname": "main",
}


def test_a_document_of_rds_is_an_address() -> None:
    settings = load_settings({"DATABASE_URI": json.dumps(RDS)})
    assert settings.database_uri == "postgresql://app:p%40ss%2Fw%3Ard@db.example:5433/main?sslmode=require"


def test_the_host_may_be_another() -> None:
    document = json.dumps({"username": "app", "password": "x"})  # all that a secret has that RDS makes by itself
    settings = load_settings({"DATABASE_URI": document, "DATABASE_HOST": "proxy.example"})
    assert settings.database_uri == "postgresql://app:x@proxy.example:5432/app?sslmode=require"
    settings = load_settings({"DATABASE_URI": json.dumps(RDS), "DATABASE_HOST": "proxy.example:6000"})
    assert "@proxy.example:6000/main" in settings.database_uri


@pytest.mark.parametrize(
    ("uri", "host", "expected"),
    [
        ("postgresql://u:p@a:5/d?sslmode=require", "b", "postgresql://u:p@b:5/d?sslmode=require"),
        ("postgresql://u:p@a:5/d", "b:6", "postgresql://u:p@b:6/d"),
        ("postgresql://u:p@a/d?host=c&port=7&connect_timeout=3", "b", "postgresql://u:p@b/d?connect_timeout=3"),
        ("postgresql://a/d", "b", "postgresql://b/d"),
    ],
)
def test_an_address_may_have_another_host(uri: str, host: str, expected: str) -> None:
    assert with_host(uri, host) == expected
    assert load_settings({"DATABASE_URI": uri, "DATABASE_HOST": host}).database_uri == expected


def test_whoever_wants_more_than_tls_says_so_to_libpq() -> None:
    environ = {"DATABASE_URI": json.dumps(RDS), "PGSSLMODE": "verify-full"}
    assert "sslmode" not in load_settings(environ).database_uri


def test_redis_may_be_a_document_too() -> None:
    document = json.dumps({"username": "app", "password": "p@/", "host": "cache.example", "port": 6380})
    settings = load_settings({"DATABASE_URI": "postgresql://x/y", "REDIS_URI": document})
    assert settings.redis_uri == "rediss://app:p%40%2F@cache.example:6380"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(user=texts, password=texts)
def test_any_password_arrives(user: str, password: str) -> None:
    document = json.dumps({"username": user, "password": password, "host": "db.example"})
    found = conninfo_to_dict(postgres_uri(document))
    assert (found["user"], found["password"], found["dbname"]) == (user, password, user)
    parts: dict[str, Any] = dict(parse_url(redis_uri(document)))
    assert (parts["username"], parts["password"]) == (user, password)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('{"username": "app", "password": "geheim"', "must be a URI or a JSON document"),
        ('{"username": "app", "password": "geheim"}', "lacks 'host'"),
        ('{"username": "app", "host": "geheim"}', "lacks 'password'"),
        ('{"password": "geheim", "host": "h"}', "lacks 'username'"),
        ("geheim", "must start with"),
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URI", "REDIS_URI"])
def test_an_error_says_what_is_wrong_and_not_what_is_there(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"DATABASE_URI": "postgresql://x/y", name: value})
    assert said in str(raised.value)
    assert name in str(raised.value)
    assert "geheim" not in repr(raised.value.problems)
    assert raised.value.__cause__ is None


def test_settings_do_not_show_their_addresses() -> None:
    address = Address("postgresql://app:geheim@db/x", lambda: "")
    settings = load_settings({"DATABASE_URI": address.current}).replace(addresses={"database_uri": address})
    assert settings.database_address is address
    assert "geheim" not in repr(settings)
    assert "geheim" not in repr(address)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "PAUSE", 0.0)


def test_an_address_is_read_once_for_all_who_were_refused() -> None:
    read = 0

    def read_again() -> str:
        nonlocal read
        read += 1
        return "new"

    address = Address("old", read_again)
    found: list[str | None] = []
    ask: Callable[[], None] = lambda: found.append(address.instead_of("old"))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["new"] * 8
    assert read == 1


def test_an_address_that_has_not_changed_is_not_asked_for_all_the_time() -> None:
    read: list[int] = []
    address = Address("old", lambda: read.append(1) or "old")  # type: ignore[func-returns-value]
    assert [address.instead_of("old") for _ in range(5)] == [None] * 5
    assert len(read) == 1


def test_an_address_that_cannot_be_read_is_kept(no_pause: None) -> None:
    answers: list[str] = []

    def read_again() -> str:
        if not answers:
            raise SettingsError(["DATABASE_URI_SECRET names 'x', which cannot be read"])
        return answers[0]

    address = Address("old", read_again)
    assert address.instead_of("old") is None
    assert address.current == "old"
    answers.append("new")
    assert address.instead_of("old") == "new"
    assert address.instead_of("new") is None


def test_an_address_of_the_environment_stays() -> None:
    address = Address("old")
    assert not address.changes
    assert address.instead_of("old") is None


def test_a_connection_that_never_got_as_far_is_no_refusal() -> None:
    with pytest.raises(psycopg.OperationalError) as raised:
        psycopg.connect("postgresql://app:x@127.0.0.1:1/x", connect_timeout=2)
    assert not is_refusal(raised.value)


def test_secrets_are_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold start waits for the slowest of them, not for all of them one after the other."""
    both = threading.Barrier(2, timeout=20)

    class Provider:
        def get(self, name: str, **_: object) -> str:
            if name not in kept:
                both.wait()
                kept[name] = f"{name}/x"
            return kept[name]

    kept: dict[str, str] = {}  # as Powertools does for a while
    monkeypatch.setattr(SecretReader, "_secrets", Provider())
    found, read_again = SecretReader(
        {"DATABASE_URI_SECRET": "postgresql://db", "REDIS_URI_SECRET": "redis://cache"}
    ).read_all()
    assert (found["DATABASE_URI"], found["REDIS_URI"]) == ("postgresql://db/x", "redis://cache/x")
    assert set(read_again) == {"database_uri", "redis_uri"}
