"""Postgres and Valkey out of wheels: data stays, and every kind of death is mended by the next start."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
import redis.asyncio

from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres
from langgraph_serverless.cli.laptop.valkey import EmbeddedValkey
from langgraph_serverless.errors import StartupError

HOLD = """
import importlib, pathlib, sys
module, name, folder = sys.argv[1:]
server = getattr(importlib.import_module(f"langgraph_serverless.cli.laptop.{module}"), name)(pathlib.Path(folder))
print(server.start(), server.pid, flush=True)
sys.stdin.read()
server.stop()
"""
Kind = type[EmbeddedPostgres] | type[EmbeddedValkey]


def eventually(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "still not true"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@contextmanager
def holder(kind: Kind, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """Another process with a server: itself, the server's URI, the server's process."""
    command = [sys.executable, "-c", HOLD, kind.__module__.rpartition(".")[2], kind.__name__, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        uri, pid = process.stdout.readline().split()
        try:
            yield process, uri, int(pid)
        finally:
            process.kill()


def killed(kind: Kind, folder: Path) -> int:
    """Start a server in another process and kill that one; the server's process."""
    with holder(kind, folder) as (_, _, pid):
        pass
    return pid


def one(uri: str, statement: str) -> object:
    with psycopg.connect(uri, autocommit=True) as connection:
        row = connection.execute(statement).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return row[0]


@contextmanager
def running(server: EmbeddedPostgres | EmbeddedValkey) -> Iterator[str]:
    uri = server.start()
    try:
        yield uri
    finally:
        server.stop()


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests here, with a cluster that holds a row. Its path is longer than any socket's may be."""
    folder = tmp_path_factory.mktemp("laptop") / ("deep" * 25) / "data"
    folder.mkdir(parents=True)
    (folder / "postgres.new-1").mkdir()
    (folder / "postgres.new-1" / "PG_VERSION").write_text("a kill in the middle of the first start leaves this")
    lines: list[str] = []
    with running(EmbeddedPostgres(folder, lines.append)) as uri, psycopg.connect(uri) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert len(lines) == 3, "one line for each stage"
    assert "first start" in lines[0]
    assert not list(folder.glob("postgres.new*"))
    return folder


def test_postgres_keeps_its_data_and_its_promises(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    with running(server) as uri:
        pid = server.pid
        assert pid is not None
        assert one(uri, "SELECT answer FROM kept") == 42
        assert one(uri, "SELECT current_database()") == "langgraph"
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
            "max_connections": "100",
        }.items():
            assert one(uri, f"SHOW {name}") == value
        assert one(uri, "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == 1
        with pytest.raises(StartupError, match="in use by another process"):
            EmbeddedPostgres(data_dir).start()
        assert one(uri, "SELECT 1") == 1, "the refused second start must not stop the first"
    assert not alive(pid)
    assert not (data_dir / "postgres" / "postmaster.pid").exists(), "shut down, not killed"


def test_a_postgres_left_by_a_killed_command_is_adopted_and_stopped(data_dir: Path) -> None:
    left = killed(EmbeddedPostgres, data_dir)
    assert alive(left)
    server = EmbeddedPostgres(data_dir)
    with running(server) as uri:
        assert server.pid == left
        assert one(uri, "SELECT answer FROM kept") == 42
    assert not alive(left)


def test_a_postgres_that_was_killed_too_recovers(data_dir: Path) -> None:
    with holder(EmbeddedPostgres, data_dir) as (_, uri, pid):
        with psycopg.connect(uri) as connection:
            connection.execute("CREATE TABLE late AS SELECT 1")
        os.kill(pid, signal.SIGKILL)
    assert (data_dir / "postgres" / "postmaster.pid").exists()
    with running(EmbeddedPostgres(data_dir)) as uri:
        assert one(uri, "SELECT count(*) FROM late") == 1


def test_a_process_number_that_was_given_to_another_does_not_matter(data_dir: Path) -> None:
    pid_file = data_dir / "postgres" / "postmaster.pid"
    with holder(EmbeddedPostgres, data_dir) as (_, _, pid):
        os.kill(pid, signal.SIGKILL)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        content = pid_file.read_text().split("\n", 1)
        pid_file.write_text(f"{stranger.pid}\n{content[1]}")
        with running(EmbeddedPostgres(data_dir)) as uri:
            assert one(uri, "SELECT 1") == 1
        assert stranger.poll() is None, "a stranger was signalled"
        stranger.kill()


def test_a_postgres_that_was_told_to_stop_is_waited_for(data_dir: Path) -> None:
    with running(EmbeddedPostgres(data_dir)) as uri:
        pass
    first = EmbeddedPostgres(data_dir)
    first.start()
    first.let_go()
    first.hand_over()
    with running(EmbeddedPostgres(data_dir)) as uri:
        assert one(uri, "SELECT 1") == 1


def test_a_server_can_be_handed_over(data_dir: Path) -> None:
    first, second = EmbeddedPostgres(data_dir), EmbeddedPostgres(data_dir)
    first.start()
    pid = first.pid
    first.hand_over()
    with running(second):
        assert second.pid == pid
    first.stop()  # nothing of its own is left to stop


def test_two_folders_have_two_servers(data_dir: Path, tmp_path: Path) -> None:
    with running(EmbeddedPostgres(data_dir)) as one_uri, running(EmbeddedPostgres(tmp_path)) as other_uri:
        assert one_uri != other_uri
        assert one(one_uri, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == 1
        assert one(other_uri, "SELECT count(*) FROM pg_tables WHERE tablename = 'kept'") == 0


def test_what_postgres_has_against_starting_is_one_sentence(data_dir: Path) -> None:
    settings = data_dir / "postgres" / "postgresql.auto.conf"
    before = settings.read_text()
    settings.write_text("shared_preload_libraries = 'nonsense'\n")
    try:
        with pytest.raises(StartupError, match=r'^Postgres did not start: could not access file "nonsense".*\.log\.$'):
            EmbeddedPostgres(data_dir).start()
    finally:
        settings.write_text(before)


def test_another_version_s_cluster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartupError, match=r"was made by Postgres 17 and this is Postgres 18"):
        EmbeddedPostgres(tmp_path).start()


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="root becomes somebody else here; others run all tests as themselves",
)
def test_an_ordinary_user_can_start_it() -> None:
    nobody = pwd.getpwnam("nobody")
    script = (
        "import os, pathlib, psycopg, sys; from langgraph_serverless.cli.laptop.postgres import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(pathlib.Path(sys.argv[1])); uri = server.start()\n"
        "with psycopg.connect(uri) as connection: print(os.geteuid(), connection.execute('SELECT 42').fetchone()[0])\n"
        "server.stop()"
    )
    with tempfile.TemporaryDirectory(prefix="lgs-", dir="/tmp") as folder:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        # the capability is for this Python, which may lie in a folder that only root can enter
        become = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        reach = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--"]
        done = subprocess.run(
            ["setpriv", *become, *reach, sys.executable, "-c", script, f"{folder}/data"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
        )
        assert (done.stdout, done.returncode) == (f"{nobody.pw_uid} 42\n", 0), done.stderr


async def test_valkey_keeps_its_data_and_is_found_by_redis_py(data_dir: Path) -> None:
    server = EmbeddedValkey(data_dir)
    with running(server) as uri:
        pid = server.pid
        assert pid is not None
        client = redis.asyncio.from_url(uri)
        await client.set("kept", "42")
        assert (await client.config_get("appendfsync"))["appendfsync"] == "everysec"
        await client.aclose()
        with pytest.raises(StartupError, match="in use by another process"):
            EmbeddedValkey(data_dir).start()
    assert not alive(pid)
    with running(EmbeddedValkey(data_dir)) as uri, redis.from_url(uri) as again:
        assert again.get("kept") == b"42"


def test_a_valkey_left_by_a_killed_command_is_adopted_and_stopped(data_dir: Path) -> None:
    left = killed(EmbeddedValkey, data_dir)
    assert alive(left)
    server = EmbeddedValkey(data_dir)
    with running(server):
        assert server.pid == left
    assert not alive(left)


def test_a_valkey_that_does_not_answer_is_replaced(data_dir: Path) -> None:
    left = killed(EmbeddedValkey, data_dir)
    os.kill(left, signal.SIGSTOP)
    server = EmbeddedValkey(data_dir)
    with running(server) as uri, redis.from_url(uri) as client:
        assert server.pid != left
        assert client.ping()
        eventually(lambda: not alive(left))


def test_a_valkey_without_its_socket_is_replaced(data_dir: Path) -> None:
    with holder(EmbeddedValkey, data_dir) as (_, uri, left):
        Path(uri.removeprefix("unix://").partition("?")[0]).unlink()
    server = EmbeddedValkey(data_dir)
    with running(server):
        assert server.pid != left
        eventually(lambda: not alive(left))


def test_damaged_files_of_valkey_are_put_aside(tmp_path: Path) -> None:
    with running(EmbeddedValkey(tmp_path)) as uri, redis.from_url(uri) as client:
        client.set("gone", "1")
    (file,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"this is no command\r\n" + file.read_bytes())
    lines: list[str] = []
    with running(EmbeddedValkey(tmp_path, lines.append)) as uri, redis.from_url(uri) as client:
        assert client.get("gone") is None
    assert any("damaged" in line for line in lines)
    assert list((tmp_path / "valkey").glob("damaged-*/*.incr.aof"))
