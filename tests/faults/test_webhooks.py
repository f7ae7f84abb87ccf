"""Webhooks, their receivers and their senders fail in every way, and each webhook arrives all the same (R21).

Senders are real worker processes, and the receiver checks every signature with the standard's own library.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cluster import Cluster
from dev_server import PATIENCE, until
from standardwebhooks.webhooks import Webhook
from workload import RECONNECTING, assert_invariants

pytestmark = [pytest.mark.timeout(120), *map(pytest.mark.filterwarnings, RECONNECTING)]

NEW, OLD = (f"whsec_{base64.b64encode(word * 8).decode()}" for word in (b"new ", b"old "))
#: What a worker has for this test: no second claim of its own accord within it, signatures, a header.
SENDER = {
    "WEBHOOK_SIGNING_SECRETS": f"{NEW},{OLD}",
    "LANGGRAPH_WEBHOOKS": json.dumps(
        {"headers": {"X-Token": "pre-${{ env.LG_WEBHOOK_TOKEN }}"}, "url": {"require_https": False}}
    ),
    "WEBHOOK_VARIABLES": '{"LG_WEBHOOK_TOKEN": "tok"}',
}
#: Statements that wait for a lock.
BLOCKED = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

#: What becomes of a connection whose request has been read.
Behaviour = Callable[[socket.socket], None]


def answers(status: int, rest: bytes = b"Content-Length: 0\r\n\r\n") -> Behaviour:
    return lambda connection: connection.sendall(f"HTTP/1.1 {status} X\r\n".encode() + rest)


def hangs_up(connection: socket.socket) -> None:
    """No answer."""


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stops_halfway(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 O")


def hangs(connection: socket.socket) -> None:
    connection.settimeout(PATIENCE)
    connection.recv(1)  # until the sender has enough of it


def never_ends(connection: socket.socket) -> None:
    """A body without an end, and with all speed."""
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(bytes(65536))


def drips(connection: socket.socket) -> None:
    """Says yes, and then a body that takes longer than anybody waits."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    hangs(connection)


@dataclass
class Post:
    headers: dict[str, str]
    raw: bytes
    #: Of its run, for everybody else, when it arrived.
    committed: list[dict[str, Any]]


@dataclass
class Receiver:
    """Reads a request, writes it down, and then behaves as it is told; by default it accepts."""

    cluster: Cluster
    server: socket.socket
    posts: list[Post] = field(default_factory=list)
    behaviours: list[Behaviour] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.getsockname()[1]}/hook"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                head, _, raw = self._read(connection, b"", lambda data: b"\r\n\r\n" in data).partition(b"\r\n\r\n")
                lines = (line.partition(": ") for line in head.decode().split("\r\n")[1:])
                headers = {name.lower(): value for name, _, value in lines}
                length = int(headers["content-length"])
                raw = self._read(connection, raw, lambda data: len(data) >= length)
                query = "SELECT status FROM lgs.run WHERE run_id = %s"
                committed = self.cluster.rows(query, [json.loads(raw)["run_id"]])
                behaviour = self.behaviours.pop(0) if self.behaviours else answers(200)
                self.posts.append(Post(headers, raw, committed))
                behaviour(connection)
            except (OSError, EOFError):
                pass  # the sender has gone, as some tests want it

    @staticmethod
    def _read(connection: socket.socket, data: bytes, enough: Callable[[bytes], bool]) -> bytes:
        while not enough(data):
            if not (more := connection.recv(65536)):
                raise EOFError
            data += more
        return data

    def check(self) -> None:
        """Nothing came before its commit, all of it is signed with both secrets, and every post is the same message."""
        assert self.posts
        for post in self.posts:
            assert post.committed == [{"status": "success"}]
            assert post.headers["x-token"] == "pre-tok"
            for secret in (NEW, OLD):
                assert Webhook(secret).verify(post.raw, post.headers)["status"] == "success"
        assert len({post.headers["webhook-id"] for post in self.posts}) == 1
        bodies = [json.loads(post.raw) | {"webhook_sent_at": ""} for post in self.posts]
        assert all(body == bodies[0] for body in bodies)


@pytest.fixture
def receiver(cluster: Cluster) -> Iterator[Receiver]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        receiver = Receiver(cluster, server)
        threading.Thread(target=receiver.serve, daemon=True).start()
        yield receiver
        server.shutdown(socket.SHUT_RDWR)  # wakes the thread, which then ends


async def start(cluster: Cluster, receiver: Receiver) -> str:
    async with cluster.client() as client:
        thread = await client.threads.create()
        run = await client.runs.create(
            thread["thread_id"], "steps", input={"name": "a", "steps": 1, "seconds": 0}, webhook=receiver.url
        )
    return run["run_id"]


def outbox(cluster: Cluster, condition: str) -> list[dict[str, Any]]:
    return cluster.rows(f"SELECT * FROM lgs.outbox WHERE {condition}")


def due_now(cluster: Cluster) -> None:
    """As if the pause or the lost sender's claim had run out."""
    cluster.rows("UPDATE lgs.outbox SET available_at = now() RETURNING 1")


@contextmanager
def locked(cluster: Cluster, statement: str) -> Iterator[None]:
    with psycopg.connect(cluster.database_uri) as connection:
        connection.execute(statement)  # type: ignore[arg-type]
        yield
        connection.rollback()


def end_blocked(cluster: Cluster) -> None:
    """A killed worker's statement would still be carried out by Postgres once the lock is gone."""
    cluster.rows(f"SELECT pg_terminate_backend(pid) FROM ({BLOCKED}) AS blocked")
    until(lambda: not cluster.rows(BLOCKED), "the blocked statements to end")


async def test_whatever_a_receiver_does_first_it_gets_the_webhook(cluster: Cluster, receiver: Receiver) -> None:
    # one that hangs takes ten seconds: see tests/integration/test_webhooks.py
    troubles = [answers(500), answers(503), resets, hangs_up, stops_halfway, answers(429)]
    receiver.behaviours = [*troubles, drips]
    await start(cluster, receiver)
    cluster.worker(**SENDER)
    for number in range(1, len(troubles) + 1):
        until(lambda n=number: len(receiver.posts) >= n, f"try {number}")  # type: ignore[misc]
        until(
            lambda n=number: outbox(cluster, f"attempt = {n} AND last_error IS NOT NULL AND available_at > now()"),  # type: ignore[misc]
            f"the failure of try {number}",
        )
        if number < len(troubles):
            cluster.rows("UPDATE lgs.outbox SET available_at = now(), last_error = NULL RETURNING 1")
        else:
            due_now(cluster)
    until(lambda: outbox(cluster, "delivered_at IS NOT NULL"), "the delivery")
    assert len(receiver.posts) == len(troubles) + 1
    receiver.check()
    await assert_invariants(cluster.database_uri)


async def test_a_sender_is_killed_between_the_answer_and_the_mark(cluster: Cluster, receiver: Receiver) -> None:
    locks = []

    def accept_but_lock(connection: socket.socket) -> None:
        # the row is locked before the sender hears that all is well, so it cannot write that down
        lock = locked(cluster, "SELECT 1 FROM lgs.outbox FOR UPDATE")
        lock.__enter__()
        locks.append(lock)
        answers(200)(connection)

    receiver.behaviours = [accept_but_lock]
    await start(cluster, receiver)
    worker = cluster.worker(**SENDER)
    until(
        lambda: cluster.rows(f"{BLOCKED} AND query LIKE '%%UPDATE lgs.outbox%%'"),
        "the sender to write down that it has been accepted",
    )
    worker.kill()
    end_blocked(cluster)
    locks[0].__exit__(None, None, None)
    assert outbox(cluster, "attempt = 1 AND delivered_at IS NULL AND last_error IS NULL AND available_at > now()")

    due_now(cluster)
    cluster.worker(**SENDER)
    until(lambda: outbox(cluster, "delivered_at IS NOT NULL"), "the delivery")
    assert len(receiver.posts) == 2
    receiver.check()
    await assert_invariants(cluster.database_uri)


async def test_nothing_is_sent_before_the_commit(cluster: Cluster, receiver: Receiver) -> None:
    run_id = await start(cluster, receiver)
    with locked(cluster, "LOCK TABLE lgs.outbox IN SHARE MODE"):
        worker = cluster.worker(**SENDER)
        until(lambda: cluster.rows(f"{BLOCKED} AND query LIKE '%%UPDATE lgs.run%%'"), "the end of the run, uncommitted")
        assert cluster.rows("SELECT status FROM lgs.run WHERE run_id = %s", [run_id]) == [{"status": "running"}]
        worker.kill()
        end_blocked(cluster)
        assert receiver.posts == []
    assert outbox(cluster, "true") == []
    cluster.worker(**SENDER)
    until(lambda: outbox(cluster, "delivered_at IS NOT NULL"), "the delivery")
    assert len(receiver.posts) == 1
    receiver.check()
    await assert_invariants(cluster.database_uri)


async def test_a_dead_letter_is_listed_and_replayed(cluster: Cluster, receiver: Receiver) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("langgraph-serverless"), "webhooks", *arguments],
            env=cluster.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    receiver.behaviours = [answers(410), never_ends]
    run_id = await start(cluster, receiver)
    worker = cluster.worker(**SENDER)
    until(lambda: outbox(cluster, "dead_at IS NOT NULL"), "the end of it")
    assert "webhook given up: the receiver answered 410" in worker.output
    (letter,) = map(json.loads, command("list").stdout.splitlines())
    assert (letter["run_id"], letter["tries"], letter["reason"]) == (run_id, 1, "the receiver answered 410")
    assert (letter["url"], letter["next_try_at"]) == (receiver.url, None)

    refused = command("replay", letter["webhook_id"], run_id)
    assert (refused.returncode, refused.stderr) == (
        1,
        f"Error: Not among the webhooks that were given up: {run_id}.\n",
    )
    assert outbox(cluster, "dead_at IS NOT NULL")
    replayed = command("replay", letter["webhook_id"])
    assert (replayed.returncode, replayed.stdout) == (0, f"{letter['webhook_id']}\n")
    until(lambda: outbox(cluster, "delivered_at IS NOT NULL"), "the delivery")
    assert len(receiver.posts) == 2
    receiver.check()
    nothing = command("replay", "--all")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "To be sent again: 0.\n")
