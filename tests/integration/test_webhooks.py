"""Webhooks against a real receiver: one for every way in which a run can end, and what happens when a try goes wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from worker_container import MakeContainer, working

from langgraph_serverless.containers.scheduler import SchedulerContainer
from langgraph_serverless.containers.worker import WorkerContainer
from langgraph_serverless.domain.ids import new_id
from langgraph_serverless.domain.principal import ANONYMOUS
from langgraph_serverless.domain.runs import CancelAction, MultitaskStrategy, Run, RunRequest
from langgraph_serverless.domain.webhook_rules import WebhookRules
from langgraph_serverless.domain.webhooks import MOST_TRIES, AllowedHosts, signature
from langgraph_serverless.errors import DeliveryError, InvalidInputError
from langgraph_serverless.execution.loader import GraphRegistry
from langgraph_serverless.execution.project import read_project
from langgraph_serverless.persistence.invariants import INVARIANTS
from langgraph_serverless.persistence.queue import QueueRepository
from langgraph_serverless.services.queue import QueueService
from langgraph_serverless.webhooks.addresses import AddressBook
from langgraph_serverless.webhooks.sender import WebhookSender

PROJECT = Path(__file__).parent.parent / "fixtures" / "projects" / "run_path" / "langgraph.json"
SECRET = b"a secret of twenty-four bytes"
PATIENCE = 10.0
RUN = {
    *("run_id", "thread_id", "assistant_id", "created_at", "updated_at", "status", "metadata", "kwargs"),
    *("multitask_strategy", "langsmith_session_name"),
}
TIMES = {"run_started_at", "run_ended_at", "webhook_sent_at"}


@dataclass
class Post:
    """What the receiver got."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw)
        return body


@dataclass
class Receiver:
    """A server on 127.0.0.1 that writes down what it gets and answers as it is told."""

    port: int = 0
    posts: list[Post] = field(default_factory=list)
    #: Answers to give, in order; then 200.
    answers: list[bytes] = field(default_factory=list)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
            raw = await reader.readexactly(int(headers["content-length"]))
            async with self.arrived:
                self.posts.append(Post(line.split()[1], headers, raw))
                self.arrived.notify_all()
            writer.write(self.answers.pop(0) if self.answers else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender has gone, as some tests want it
        finally:
            writer.close()

    async def got(self, count: int = 1) -> Post:
        """The post of this number, once it is there."""
        async with asyncio.timeout(PATIENCE), self.arrived:
            await self.arrived.wait_for(lambda: len(self.posts) >= count)
        return self.posts[count - 1]


def answer(status: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{more}Content-Length: 0\r\n\r\n".encode()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    async with server:
        yield receiver


@pytest.fixture(scope="module")
def registry() -> GraphRegistry:
    return GraphRegistry.load(read_project(PROJECT))


@pytest.fixture
async def container(worker_on: MakeContainer, registry: GraphRegistry, clean_database: None) -> WorkerContainer:
    return await worker_on(
        registry,
        heartbeat_interval=0.1,
        lease_duration=1.5,
        poll_interval=0.3,
        sweep_interval=0.2,
        worker_deadline_margin=2.0,
        shutdown_grace=2.0,
        webhook_allowed_hosts=("127.0.0.0/8", "localhost"),
        webhook_signing_secrets=(SECRET, b"the one before"),
    )


async def rows(container: WorkerContainer, query: str, *parameters: Any) -> list[dict[str, Any]]:
    async with container.database.connection() as connection:
        cursor = await connection.execute(query, parameters)  # type: ignore[arg-type]
        return await cursor.fetchall() if cursor.description else []


async def until_row(container: WorkerContainer, condition: str) -> dict[str, Any]:
    """The only row of the outbox, once this is true of it."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await rows(container, f"SELECT * FROM lgs.outbox WHERE {condition}")):
            await asyncio.sleep(0.02)
    return found[0]


async def due_now(container: WorkerContainer) -> None:
    await rows(container, "UPDATE lgs.outbox SET available_at = now()")


async def on_thread(container: WorkerContainer, url: str, graph: str, **request: Any) -> Run:
    thread_id = request.pop("thread_id", None) or new_id()
    await rows(container, "INSERT INTO lgs.thread (thread_id) VALUES (%s) ON CONFLICT DO NOTHING", thread_id)
    return await container.runs.create(
        ANONYMOUS, RunRequest(assistant_id=graph, webhook=url, **request), thread_id=thread_id
    )


async def running(container: WorkerContainer, run: Run) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await rows(container, "SELECT 1 FROM lgs.run WHERE run_id = %s AND status = 'running'", run.run_id):
            await asyncio.sleep(0.02)


# -- every end -------------------------------------------------------------------------------------------------------


async def test_a_run_that_succeeds(container: WorkerContainer, receiver: Receiver) -> None:
    run = await on_thread(container, receiver.url("/hook?a=b"), "steps", input={"log": ["in"], "count": 1})
    assert run.kwargs["webhook"] == receiver.url("/hook?a=b")
    async with working(container):
        post = await receiver.got()
        row = await until_row(container, "delivered_at IS NOT NULL")
    assert post.path == "/hook?a=b"
    assert set(post.body) == RUN | TIMES | {"values"}
    assert (post.body["run_id"], post.body["thread_id"]) == (str(run.run_id), str(run.thread_id))
    assert post.body["status"] == "success"
    assert post.body["values"] == {"log": ["in", "step"], "count": 0}
    assert post.body["metadata"] == run.metadata
    assert post.body["kwargs"] == run.kwargs
    assert post.body["created_at"] == run.created_at.isoformat()
    assert sorted(TIMES, key=post.body.__getitem__) == ["run_started_at", "run_ended_at", "webhook_sent_at"]
    assert post.headers["content-type"] == "application/json"
    assert post.headers["webhook-id"] == str(row["outbox_id"])
    assert (row["attempt"], row["payload"], row["dead_at"]) == (1, None, None)


async def test_it_is_signed_over_the_bytes_that_are_sent(container: WorkerContainer, receiver: Receiver) -> None:
    await on_thread(container, receiver.url(), "steps", input={"count": 1})
    async with working(container):
        post = await receiver.got()
    assert len(post.headers["webhook-signature"].split()) == 2
    for secret in (SECRET, b"the one before"):  # a receiver that has not changed its own yet accepts it too
        assert Webhook(secret).verify(post.raw, post.headers) == post.body
    sent_at = int(post.headers["webhook-timestamp"])
    for secret, raw, headers in (
        (b"another one", post.raw, post.headers),
        (SECRET, post.raw.replace(b"success", b"failure"), post.headers),
        (SECRET, post.raw, {**post.headers, "webhook-id": str(new_id())}),
        (SECRET, post.raw, {**post.headers, "webhook-timestamp": str(sent_at - 1)}),
        (SECRET, post.raw, {**post.headers, "webhook-timestamp": str(sent_at - 600)}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(raw, headers)


async def test_a_signature_of_long_ago_is_not_accepted() -> None:
    long_ago = int(datetime.now(UTC).timestamp()) - 600
    headers = {"webhook-id": "id", "webhook-timestamp": str(long_ago)}
    headers["webhook-signature"] = signature([SECRET], "id", long_ago, b"{}") or ""
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(b"{}", headers)


async def test_disabled_webhooks_are_accepted_and_not_even_noted(
    container: WorkerContainer, receiver: Receiver
) -> None:
    earlier = await on_thread(container, receiver.url("/earlier"), "steps", input={"count": 0})
    for name in ("webhook_rules", "webhook_addresses", "webhooks", "runs"):
        container.__dict__.pop(name, None)
    container.__dict__["webhook_rules"] = WebhookRules(disabled=True)
    later = await on_thread(container, "http://10.0.0.1/later", "steps", input={"count": 0})
    assert later.kwargs["webhook"] == "http://10.0.0.1/later"
    async with working(container):
        row = await until_row(container, "dead_at IS NOT NULL")
        async with asyncio.timeout(PATIENCE):
            while await rows(container, "SELECT 1 FROM lgs.run WHERE status IN ('pending', 'running')"):
                await asyncio.sleep(0.02)
    assert (row["run_id"], row["last_error"]) == (earlier.run_id, "webhooks are disabled (http.disable_webhooks)")
    assert len(await rows(container, "SELECT 1 FROM lgs.outbox")) == 1
    assert receiver.posts == []


async def test_runs_that_fail_ask_or_time_out(container: WorkerContainer, receiver: Receiver) -> None:
    await on_thread(container, receiver.url("/fail"), "fail", input={"kind": "CustomError"})
    await on_thread(container, receiver.url("/ask"), "ask", input={"log": ["in"]})
    container.runner.run_timeout = 0.3
    await on_thread(container, receiver.url("/slow"), "wait", input={"seconds": 60})
    async with working(container):
        await receiver.got(3)
    bodies = {post.path: post.body for post in receiver.posts}
    assert bodies["/fail"]["status"] == "error"
    assert bodies["/fail"]["error"] == {"error": "CustomError", "message": "An internal error occurred"}
    assert bodies["/fail"]["values"] == {"log": [], "kind": "CustomError"}
    assert bodies["/ask"]["status"] == "success"
    assert bodies["/ask"]["values"] == {"log": ["in"]}
    assert "error" not in bodies["/ask"]
    assert bodies["/slow"]["status"] == "timeout"
    assert bodies["/slow"]["error"]["error"] == "TimeoutError"


async def test_stateless_runs_have_values_if_their_thread_is_kept(
    container: WorkerContainer, receiver: Receiver
) -> None:
    for path, kept in (("/gone", "delete"), ("/kept", "keep")):
        request = RunRequest(assistant_id="steps", input={"count": 1}, webhook=receiver.url(path), on_completion=kept)
        await container.runs.create(ANONYMOUS, request, thread_id=None)
    (batched,) = await container.runs.create_batch(
        ANONYMOUS, [RunRequest(assistant_id="steps", input={"count": 0}, webhook=receiver.url("/batch"))]
    )
    async with working(container):
        await receiver.got(3)
    bodies = {post.path: post.body for post in receiver.posts}
    assert bodies["/gone"]["values"] is None
    assert bodies["/gone"]["status"] == "success"
    assert bodies["/kept"]["values"] == {"log": ["step"], "count": 0}
    assert bodies["/batch"]["run_id"] == str(batched.run_id)


@pytest.mark.parametrize(("action", "status"), [("interrupt", "interrupted"), ("rollback", "rollback")])
async def test_cancelled_runs_running_and_pending(
    container: WorkerContainer, receiver: Receiver, action: str, status: str
) -> None:
    run = await on_thread(container, receiver.url("/running"), "wait", input={"log": ["in"], "seconds": 60})
    async with working(container):
        await running(container, run)
        queued = await on_thread(container, receiver.url("/pending"), "wait", thread_id=run.thread_id)
        await container.runs.cancel(
            ANONYMOUS, run.thread_id, [run.run_id, queued.run_id], CancelAction(action), f"{action} by a test"
        )
        await receiver.got(2)
    bodies = {post.path: post.body for post in receiver.posts}
    for body in bodies.values():
        assert body["status"] == status
        assert body["error"]["error"] == ("UserInterrupt" if action == "interrupt" else "UserRollback")
        assert body["error"]["message"] == f"{action} by a test"
    assert bodies["/running"]["values"] == ({"log": ["in"], "seconds": 60.0} if action == "interrupt" else None)
    assert bodies["/pending"]["values"] is None
    assert bodies["/pending"]["run_started_at"] is None


async def test_a_run_that_has_to_make_way(container: WorkerContainer, receiver: Receiver) -> None:
    run = await on_thread(container, receiver.url("/first"), "wait", input={"seconds": 60})
    async with working(container):
        await running(container, run)
        await on_thread(
            container,
            receiver.url("/second"),
            "steps",
            input={"count": 0},
            thread_id=run.thread_id,
            multitask_strategy=MultitaskStrategy.ROLLBACK,
        )
        await receiver.got(2)
    assert {post.path: post.body["status"] for post in receiver.posts} == {"/first": "rollback", "/second": "success"}


async def test_a_run_that_is_given_up(container: WorkerContainer, receiver: Receiver) -> None:
    run = await on_thread(container, receiver.url(), "steps", input={"count": 1})
    queue = QueueRepository(container.database)
    assert await queue.claim(owner="lost", limit=1, lease=60)
    await rows(
        container,
        "UPDATE lgs.run SET attempt = 3, lease_expires_at = now(), lease_history = lease_history || lease_history || lease_history"
        " WHERE run_id = %s",
        run.run_id,
    )
    assert (await QueueService(container.database, container.settings, None).sweep()).buried == 1
    await container.webhooks.deliver_due()
    post = await receiver.got()
    assert (post.body["status"], post.body["error"]["error"]) == ("error", "RunAttemptsExhausted")


async def test_a_run_that_ends_without_its_webhook_breaks_an_invariant(
    container: WorkerContainer, receiver: Receiver, database_uri: str
) -> None:
    await on_thread(container, receiver.url(), "steps", input={"count": 0})
    async with working(container):
        await receiver.got()
        await until_row(container, "delivered_at IS NOT NULL")
    kept = await rows(container, "DELETE FROM lgs.outbox RETURNING run_id")
    broken = await violations(database_uri)
    assert [row["run_id"] for row in broken] == [row["run_id"] for row in kept]
    await rows(container, "TRUNCATE lgs.thread, checkpoints, checkpoint_blobs, checkpoint_writes CASCADE")


async def violations(database_uri: str) -> list[Any]:
    (statement,) = [invariant.sql for invariant in INVARIANTS if invariant.number == "9b"]
    async with await psycopg.AsyncConnection.connect(
        database_uri, autocommit=True, row_factory=psycopg.rows.dict_row
    ) as connection:
        return await (await connection.execute(statement)).fetchall()


# -- what goes wrong -------------------------------------------------------------------------------------------------


async def test_a_receiver_that_fails_gets_it_again_with_the_same_id(
    container: WorkerContainer, receiver: Receiver
) -> None:
    receiver.answers += [answer(500), answer(302, f"Location: {receiver.url('/elsewhere')}\r\n"), b"nonsense\r\n\r\n"]
    await on_thread(container, receiver.url(), "steps", input={"count": 1})
    async with working(container):
        for number, reason in enumerate(["answered 500", "answered 302", "does not speak HTTP"], start=1):
            await receiver.got(number)
            row = await until_row(container, f"strpos(last_error, '{reason}') > 0")
            assert row["attempt"] == number
            assert row["dead_at"] is None
            await due_now(container)
        await receiver.got(4)
        row = await until_row(container, "delivered_at IS NOT NULL")
    assert (row["attempt"], row["last_error"]) == (4, None)
    assert {post.headers["webhook-id"] for post in receiver.posts} == {str(row["outbox_id"])}
    assert {post.path for post in receiver.posts} == {"/hook"}, "a redirect was followed"
    first, *later = (post.body for post in receiver.posts)
    assert all({**body, "webhook_sent_at": ""} == {**first, "webhook_sent_at": ""} for body in later)


async def test_a_receiver_that_is_down_is_given_up_after_eight_tries(
    container: WorkerContainer, unused_tcp_port: int
) -> None:
    run = await on_thread(container, f"http://127.0.0.1:{unused_tcp_port}/", "steps", input={"count": 0})
    async with working(container):
        row = await until_row(container, "last_error IS NOT NULL")
        assert await rows(container, "SELECT 1 FROM lgs.run WHERE run_id = %s AND status = 'success'", run.run_id)
    assert "refused" in row["last_error"].lower() or "connect" in row["last_error"].lower()
    scheduler = SchedulerContainer(container.settings, manifest=container._manifest)
    try:
        report = await scheduler.scheduler.tick()
        assert (report.webhooks_delivered, report.webhooks_failed) == (0, 0), "it is not due yet"
        for attempt in range(2, MOST_TRIES + 1):
            await due_now(container)
            assert (await scheduler.scheduler.tick()).webhooks_failed == 1
            row = (await rows(container, "SELECT *, available_at - now() AS pause FROM lgs.outbox"))[0]
            assert row["attempt"] == attempt
        assert row["dead_at"] is not None
        assert row["payload"]["status"] == "success", "a dead letter can be sent again"
        await due_now(container)
        assert (await scheduler.scheduler.tick()).webhooks_failed == 0
    finally:
        await scheduler.aclose()


async def test_a_receiver_that_is_gone_for_good_is_not_asked_again(
    container: WorkerContainer, receiver: Receiver
) -> None:
    receiver.answers.append(answer(410))
    await on_thread(container, receiver.url(), "steps", input={"count": 0})
    async with working(container):
        await until_row(container, "dead_at IS NOT NULL")
    assert len(receiver.posts) == 1


async def test_a_sender_that_dies_after_sending_is_replaced(container: WorkerContainer, receiver: Receiver) -> None:
    await on_thread(container, receiver.url(), "steps", input={"count": 0})
    service = container.webhooks

    class Dying:
        async def send(self, url: str, message_id: str, body: bytes, headers: Any = None) -> None:
            await alive.send(url, message_id, body)
            raise asyncio.CancelledError  # as if the process had ended here

    alive, service._sender = service._sender, Dying()
    async with working(container):
        await receiver.got()
        row = await until_row(container, "attempt = 1 AND delivered_at IS NULL")
    service._sender = alive
    assert not await service._claim(1), "its claim still holds"
    await due_now(container)  # the end of the claim's lease
    report = await service.deliver_due()
    assert report.delivered == 1
    again = await receiver.got(2)
    assert again.headers["webhook-id"] == str(row["outbox_id"])


async def test_many_senders_send_each_once(container: WorkerContainer, receiver: Receiver) -> None:
    for _ in range(30):
        await container.runs.create(
            ANONYMOUS, RunRequest(assistant_id="steps", input={"count": 0}, webhook=receiver.url()), thread_id=None
        )
    worker = container.worker()
    worker._courier = worker._jobs._settler._courier = None  # somebody else sends
    task = asyncio.create_task(worker.work())
    async with asyncio.timeout(PATIENCE):
        while len(await rows(container, "SELECT 1 FROM lgs.outbox")) < 30:
            await asyncio.sleep(0.05)
    worker.stop()
    await task
    reports = await asyncio.gather(*(container.webhooks.deliver_due() for _ in range(5)))
    assert sum(report.delivered for report in reports) == 30
    assert len({post.headers["webhook-id"] for post in receiver.posts}) == len(receiver.posts) == 30


async def test_one_that_cannot_be_sent_takes_no_other_along(container: WorkerContainer, receiver: Receiver) -> None:
    for path in ("/broken", "/fine"):
        await on_thread(container, receiver.url(path), "steps", input={"count": 0})
    sender = container.webhooks._sender
    container.webhooks._sender = None  # type: ignore[assignment]  # so that the worker's own tries come to nothing
    async with working(container):
        async with asyncio.timeout(PATIENCE):
            while len(await rows(container, "SELECT 1 FROM lgs.outbox WHERE attempt > 0")) < 2:
                await asyncio.sleep(0.02)

    class Faulty:
        async def send(self, url: str, message_id: str, body: bytes, headers: Any = None) -> None:
            if url.endswith("/broken"):
                raise RuntimeError("a fault of ours")
            await asyncio.sleep(0.05)  # long enough to be cancelled
            await sender.send(url, message_id, body)

    container.webhooks._sender = Faulty()
    await due_now(container)
    assert (await container.webhooks.deliver_due()).delivered == 1
    assert [post.path for post in receiver.posts] == ["/fine"]


async def test_what_has_ended_is_forgotten_after_a_week(container: WorkerContainer, receiver: Receiver) -> None:
    receiver.answers.append(answer(410))
    for path in ("/dead", "/delivered", "/new"):
        await on_thread(container, receiver.url(path), "steps", input={"count": 0})
        async with working(container):
            await until_row(container, f"url LIKE '%%{path}' AND (dead_at IS NOT NULL OR delivered_at IS NOT NULL)")
    await rows(
        container,
        "UPDATE lgs.outbox SET dead_at = dead_at - interval '8 days', delivered_at = delivered_at - interval '8 days'"
        " WHERE url NOT LIKE '%%/new'",
    )
    await rows(container, "UPDATE lgs.run SET finished_at = finished_at - interval '8 days'")
    scheduler = SchedulerContainer(container.settings, manifest=container._manifest)
    try:
        assert (await scheduler.scheduler.tick()).webhooks_swept == 2
    finally:
        await scheduler.aclose()
    assert [row["url"] for row in await rows(container, "SELECT url FROM lgs.outbox")] == [receiver.url("/new")]


async def test_a_slow_receiver_delays_no_run(container: WorkerContainer) -> None:
    hung = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server, working(container):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        first = await on_thread(container, url, "steps", input={"count": 0})
        await asyncio.wait_for(hung.wait(), PATIENCE)
        second = await on_thread(container, url, "steps", input={"count": 0}, thread_id=first.thread_id)
        async with asyncio.timeout(PATIENCE):
            while not await rows(
                container, "SELECT 1 FROM lgs.run WHERE run_id = %s AND status = 'success'", second.run_id
            ):
                await asyncio.sleep(0.02)
        assert not await rows(
            container, "SELECT 1 FROM lgs.outbox WHERE delivered_at IS NOT NULL OR last_error IS NOT NULL"
        )


async def test_a_function_leaves_before_its_deadline_whoever_is_slow(container: WorkerContainer) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    end = asyncio.get_running_loop().time() + 2.5

    def remaining() -> float:
        return end - asyncio.get_running_loop().time()

    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await on_thread(container, url, "steps", input={"count": 0})
        slow = await on_thread(container, url, "wait", input={"seconds": 60})
        report = await container.worker().work(remaining=remaining)
    assert (report.reason, report.succeeded) == ("deadline", 1)
    assert remaining() > 0.5
    await rows(container, "UPDATE lgs.run SET lease_expires_at = now() WHERE run_id = %s", slow.run_id)


async def test_a_name_that_turns_inward_after_the_check_is_not_followed(
    container: WorkerContainer, receiver: Receiver
) -> None:
    book = container.webhook_addresses
    book._allowed = type(book._allowed)()
    answers = [["93.184.216.34"], ["127.0.0.1"]]

    async def rebinding(host: str, port: int) -> list[str]:
        return answers.pop(0)

    book._resolve = rebinding
    await on_thread(container, receiver.url(host="rebinding.example"), "steps", input={"count": 0})
    async with working(container):
        row = await until_row(container, "last_error IS NOT NULL")
    assert row["last_error"] == "Webhook host blocked: loopback IP range"
    assert receiver.posts == []


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    """A server's context with a certificate that it has signed itself; ``folder`` has it as ``cert.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_https_goes_to_the_checked_address_and_wants_the_names_certificate(tmp_path: Path) -> None:
    async def nearby(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    receiver = Receiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=certificate(tmp_path, "hooks.example"))
    receiver.port = server.sockets[0].getsockname()[1]
    sender = WebhookSender(AddressBook(AllowedHosts.parse(["127.0.0.1"]), resolver=nearby))
    async with server:
        url = f"https://hooks.example:{receiver.port}/hook"
        with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            await sender.send(url, "id", b"{}")
        sender._tls.load_verify_locations(tmp_path / "cert.pem")
        await sender.send(url, "id", b"{}")
        with pytest.raises(DeliveryError, match="Hostname mismatch"):
            await sender.send(url.replace("hooks", "other"), "id", b"{}")
    assert [post.headers["host"] for post in receiver.posts] == [f"hooks.example:{receiver.port}"]


async def test_a_url_that_would_not_be_sent_to_is_refused_at_once(container: WorkerContainer) -> None:
    with pytest.raises(InvalidInputError, match="Webhook host blocked: blocked IP range"):
        await on_thread(container, "http://169.254.169.254/latest", "steps")
    assert await rows(container, "SELECT 1 FROM lgs.run") == []


async def test_an_endless_answer_and_a_silent_receiver_are_cut_off(container: WorkerContainer) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except OSError:
            writer.close()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    sender = container.webhooks._sender
    sender._patience = 0.5  # type: ignore[attr-defined]
    for behaviour, reason in ((endless, "LimitOverrunError"), (silent, "no answer within 0.5 seconds")):
        server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
        async with server:
            with pytest.raises(DeliveryError, match=reason):
                await sender.send(f"http://localhost:{server.sockets[0].getsockname()[1]}/", "id", b"{}")
