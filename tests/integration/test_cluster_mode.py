"""ElastiCache Serverless speaks cluster mode behind one endpoint: all that the bell and the event log ask keeps to one slot.

Against a Valkey in cluster mode with all slots on one node, which refuses what a cluster refuses, as a user who may do no more
than the one that infra/cache.yaml makes, and none of what AWS lists as restricted or missing there
(https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/SupportedCommands.html). What no single node shows is looked up in
its record of commands: scripts without keys, and channels, which are sharded there like keys
(https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/WorkingWithRedis.html).
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import redis
from cluster import Cluster
from langgraph_sdk.client import LangGraphClient
from own_valkey import OwnValkey, Start
from redis.asyncio import Redis
from redis.crc import key_slot
from workload import assert_invariants

from langgraph_serverless.queue.bell import BellListener, RedisBell
from langgraph_serverless.queue.slots import SlotBoard
from langgraph_serverless.queue.worker_function import WorkerFunction
from langgraph_serverless.redis_scripts import Script

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "langgraph_serverless"
#: Not there, or not for everybody, in a serverless cache.
MISSING = (
    "acl client|kill client|list client|no-evict client|pause config debug failover flushall flushdb info keys lastsave latency"
    " memory migrate module monitor move object pfdebug psubscribe psync pubsub punsubscribe randomkey replicaof role save script"
    " select shutdown slaveof slowlog swapdb sync wait"
)


@pytest.fixture(scope="module")
def server(valkey: Start) -> OwnValkey:
    """In cluster mode, with the template's user."""
    started = valkey(cluster=True)
    (rights,) = re.findall(r"AccessString: (.+)", (ROOT / "infra" / "cache.yaml").read_text(encoding="utf-8"))
    with started.client() as client:
        less = [f"-{command}" for command in MISSING.split()]
        client.execute_command("ACL", "SETUSER", "langgraph", ">password", *rights.split(), *less)
    return started


@pytest.fixture
def redis_uri(server: OwnValkey) -> str:
    return f"redis://langgraph:password@127.0.0.1:{server.port}"


class Record:
    """What the server was asked, by anybody; what scripts ask comes after them."""

    def __init__(self, client: redis.Redis) -> None:
        self.commands: list[tuple[str, list[str]]] = []
        self._client = client
        self._begun, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        assert self._begun.wait(10)

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            self._begun.set()
            for said in monitor.listen():
                name, *arguments = self._words(said["command"])
                if name == "echo" and arguments == ["end-of-the-record"]:
                    break
                self.commands.append(("lua " * (said["client_type"] == "lua") + name, arguments))
        self._ended.set()

    @staticmethod
    def _words(command: str) -> list[str]:
        # as MONITOR has it without the outer quotes; nothing of what is looked at has a quote or a space in it
        name, *arguments = command.split(" ")
        return [name.strip('"').lower(), *(argument.strip('"') for argument in arguments)]

    def stop(self) -> None:
        with redis.Redis(port=self._client.connection_pool.connection_kwargs["port"]) as client:
            client.execute_command("ECHO", "end-of-the-record")
        assert self._ended.wait(10)


@pytest.fixture
def record(server: OwnValkey) -> Iterator[Record]:
    client = server.client()
    record = Record(client)
    yield record
    client.close()


def slots_of(keys: list[str]) -> set[int]:
    return {key_slot(key.encode()) for key in keys}


async def test_a_run_its_streams_and_its_bell_keep_to_one_slot_each(
    cluster: Cluster, server: OwnValkey, record: Record, redis_uri: str
) -> None:
    cluster.worker()
    async with cluster.client() as client:
        await use(client)
    await ring_and_publish(redis_uri)
    record.stop()
    check(record)
    with server.client() as admin:
        assert admin.acl_log() == [], "refused to the user of the template"
    await assert_invariants(cluster.database_uri)


async def use(client: LangGraphClient) -> None:
    """A run with its stream, a join, the thread's stream, a cancel and a wait."""
    thread_id = (await client.threads.create())["thread_id"]
    given = {"name": "s", "steps": 3, "seconds": 0.05}
    followed: list[str] = []

    async def follow() -> None:
        async with aclosing(await client.threads.join_stream(thread_id, stream_mode="run_modes")) as parts:
            async for part in parts:
                followed.append(part.event)
                if followed.count("end") == 2 or "metadata" in followed[1:]:
                    return

    following = asyncio.create_task(follow())
    stream = client.runs.stream(
        thread_id, "steps", input=given, stream_mode=["values", "custom"], stream_resumable=True
    )
    parts = [part async for part in stream]
    assert [part.data["step"] for part in parts if part.event == "custom"] == [1, 2, 3]
    run_id = parts[0].data["run_id"]
    again = [part async for part in client.runs.join_stream(thread_id, run_id, last_event_id="-1")]
    assert [part.data for part in again if part.event == "custom"] == [
        part.data for part in parts if part.event == "custom"
    ]

    # a cancel, and a wait for the end
    long = await client.runs.create(thread_id, "steps", input={**given, "steps": 100, "seconds": 0.1})
    await next_event(client.runs.join_stream(thread_id, long["run_id"], stream_mode="values"))
    await client.runs.cancel(thread_id, long["run_id"], wait=True)
    assert (await client.runs.get(thread_id, long["run_id"]))["status"] == "interrupted"
    async with asyncio.timeout(30):
        await following
    answer = await client.runs.wait(thread_id, "steps", input=given)
    assert isinstance(answer, dict)
    assert answer["done"] == 3


async def next_event(parts: AsyncIterator[Any]) -> Any:
    async with aclosing(parts) as stream:  # type: ignore[type-var]
        return await anext(stream)


async def ring_and_publish(redis_uri: str) -> None:
    """The bell of functions: rings, free slots, tickets and invocations."""
    client, prefix = Redis.from_url(redis_uri), "board"
    invoked: list[str] = []

    class Lambda:
        def invoke(self, *, Payload: bytes, **_: Any) -> None:
            invoked.append(json.loads(Payload)["ticket"])

    function = WorkerFunction("worker", jobs=2)
    function.__dict__["client"] = Lambda()
    bell, board, listener = RedisBell(client, prefix, function), SlotBoard(client, prefix), BellListener(client, prefix)
    try:
        await bell.ring(3)
        assert len(invoked) == 2
        assert await board.publish("w1", 2, 30, ticket=invoked[0])
        assert (await board.workers(), await board.free_workers()) == (1, 1)
        await bell.ring(1)
        assert len(invoked) == 2
        assert await listener.wait(5)
        assert await board.withdraw("w1", invoked[1])
        assert await board.workers() == 0
        assert await bell.trouble() is None
    finally:
        await listener.aclose()
        await client.aclose()


def check(record: Record) -> None:
    """Of all commands, that a cluster of many nodes with sharded channels would take them too."""
    asked = Counter(name for name, _ in record.commands)
    for name in ("evalsha", "eval", "subscribe", "publish", "blmpop", "xrange", "xrevrange", "lua publish", "lua xadd"):
        assert asked[name] > 0, f"{name} is not in the record"
    assert not {"multi", "exec", "watch", "mget", "select", "psubscribe", "ssubscribe", "script"} & asked.keys()
    slot: set[int] = set()
    for name, arguments in record.commands:
        if name in {"evalsha", "eval"}:
            keys = keys_of(arguments)
            assert keys, "a script without keys is refused"
            slot = slots_of(keys)
            assert len(slot) == 1, keys
        elif name.startswith("lua ") and name != "lua time":
            assert slots_of(arguments[:1]) == slot, f"{name} of {arguments[0]} in a script of another slot"
        elif name in {"subscribe", "unsubscribe"}:
            assert len(arguments) == 1, "channels of several slots in one command"


def keys_of(arguments: list[str]) -> list[str]:
    # the text of a script has spaces
    at = next(
        place for place, word in enumerate(arguments) if re.fullmatch(r"\d+", word) and "{" in arguments[place + 1]
    )
    return arguments[at + 1 : at + 1 + int(arguments[at])]


def test_scripts_use_keys_that_they_were_given() -> None:
    asked = 0
    for path in CORE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for command, key in re.findall(r"redis\.call\('(\w+)'(?:, ([^,)]+))?", text):
            asked += 1
            assert key.startswith("KEYS[") or command == "TIME", f"{path.name}: {command} {key}"
        assert "register_script" not in text, f"{path.name}: Script asks with the text where the digest is not known"
    assert asked > 50


async def test_a_script_that_no_server_knows_is_sent_as_it_is(server: OwnValkey, redis_uri: str) -> None:
    script = Script(client := Redis.from_url(redis_uri), "return redis.call('INCRBY', KEYS[1], ARGV[1])")
    try:
        assert await script(keys=["n"], args=[2]) == 2
        with server.client() as admin:
            admin.script_flush()
        assert await script(keys=["n"], args=[3]) == 5
        assert await script(keys=["n"], args=[4]) == 9
    finally:
        await client.aclose()
