"""Addresses: which is chosen, how it is shown, and that a password never is."""

from __future__ import annotations

import socket

import pytest

from langgraph_serverless.cli.laptop.addresses import (
    check_postgres,
    check_redis,
    listen,
    named,
    url_of,
    without_password,
)
from langgraph_serverless.errors import StartupError


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@db:5432/app", "postgresql://me@db:5432/app"),
        ("postgresql://me:se%40cret@db/app?sslmode=require", "postgresql://me@db/app?sslmode=require"),
        ("postgresql://me@/app?host=%2Ftmp%2Fx&password=secret", "postgresql://me@/app?host=/tmp/x"),
        ("redis://:secret@cache:6379/0", "redis://cache:6379/0"),
        ("unix:///run/valkey.sock?db=0", "unix:///run/valkey.sock?db=0"),
        ("postgresql://me:secret@[broken/app", "postgresql://..."),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, shown: str) -> None:
    assert without_password(uri) == shown


@pytest.mark.parametrize(
    "uri",
    [
        "postgresql://me:hunter2@127.0.0.1:1/app",
        "postgresql://me@127.0.0.1:1/app?password=hunter2",
        "postgresql://me:hunter2 %zz@127.0.0.1:1/app",
        "postgresql://me:hunter2@[::1/app",
        "postgresql://me:hunter2@nowhere.invalid/app",
    ],
)
def test_an_unreachable_postgres_is_one_sentence_without_the_password(uri: str) -> None:
    with pytest.raises(StartupError) as caught:
        check_postgres("DATABASE_URI", uri)
    sentence = str(caught.value)
    assert "hunter2" not in sentence
    assert "DATABASE_URI" in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")


def test_the_reason_is_what_the_database_said() -> None:
    with pytest.raises(StartupError) as caught:
        check_postgres("POSTGRES_URI", "postgresql://me:hunter2@127.0.0.1:1/app")
    assert str(caught.value) == (
        "Postgres at postgresql://me@127.0.0.1:1/app (POSTGRES_URI) cannot be reached: Connection refused."
    )


@pytest.mark.parametrize("uri", ["redis://:hunter2@127.0.0.1:1/0", "unix:///nowhere.sock?password=hunter2"])
def test_an_unreachable_redis_is_one_sentence_without_the_password(uri: str) -> None:
    with pytest.raises(StartupError, match=r"REDIS_URI.*cannot be reached") as caught:
        check_redis("REDIS_URI", uri)
    assert "hunter2" not in str(caught.value)


def test_the_strongest_variable_that_is_not_empty_is_chosen() -> None:
    environ = {"DATABASE_URI": "", "POSTGRES_URI": "postgresql://b", "POSTGRES_URI_CUSTOM": "postgresql://a"}
    assert named(environ, "database_uri") == ("POSTGRES_URI_CUSTOM", "postgresql://a")
    assert named({}, "redis_uri") is None


def test_a_port_in_use_is_one_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=rf"^Port {port} on 127\.0\.0\.1 is in use .*--port\.$"):
            listen("127.0.0.1", port)


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(StartupError, match=r"^Port 0 on 192\.0\.2\.1 cannot be used: "):
        listen("192.0.2.1", 0)
    with pytest.raises(StartupError, match=r"^The host nowhere\.invalid is not known"):
        listen("nowhere.invalid", 0)


def test_a_listener_on_every_address_has_a_url_that_a_browser_can_open() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=5):
            pass
