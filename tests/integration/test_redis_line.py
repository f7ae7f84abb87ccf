"""The connection that many ask at once: order, refusals, time limits, and coming back after it was lost."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from langgraph_serverless.redis_line import RedisLine
from langgraph_serverless.redis_scripts import Script

KEY = f"test-line-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def redis(redis_uri: str) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_uri, socket_timeout=3.0)
    yield client
    await client.delete(KEY)
    await client.aclose()


async def test_those_who_ask_at_once_are_answered_each_in_one_round_trip(redis: Redis) -> None:
    line = RedisLine.of(redis)
    assert RedisLine.of(redis) is line
    texts = [b"%d" % number for number in range(200)]
    assert await asyncio.gather(*(line.ask("ECHO", text, patience=10) for text in texts)) == texts
    assert await line.ask_all([("ECHO", text) for text in texts], patience=10) == texts
    assert len(redis.connection_pool._in_use_connections) == 1


async def test_a_refusal_is_for_whoever_asked(redis: Redis) -> None:
    line = RedisLine.of(redis)
    await redis.set(KEY, "text")
    refused, echo = await asyncio.gather(
        line.ask("LPUSH", KEY, "x", patience=10), line.ask("ECHO", "x", patience=10), return_exceptions=True
    )
    assert isinstance(refused, ResponseError)
    assert echo == b"x"
    with pytest.raises(ResponseError):
        await line.ask_all([("ECHO", "x"), ("LPUSH", KEY, "x"), ("LPUSH", KEY, "y")], patience=10)
    assert await line.ask("ECHO", "y", patience=10) == b"y"


async def test_whoever_leaves_does_not_mix_up_the_answers(redis: Redis) -> None:
    line = RedisLine.of(redis)
    await line.ask("PING", patience=10)
    leaving = [asyncio.create_task(line.ask("ECHO", f"{number}", patience=10)) for number in range(10)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    assert await line.ask("ECHO", "x", patience=10) == b"x"
    assert all(
        isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*leaving, return_exceptions=True)
    )


async def test_a_line_that_was_cut_is_opened_again_and_asked_once_more(redis: Redis) -> None:
    count = Script(redis, "return redis.call('INCR', KEYS[1])")
    assert await count(keys=[KEY]) == 1
    line = RedisLine.of(redis)
    me = await line.ask("CLIENT", "ID", patience=10)
    await redis.client_kill_filter(_id=str(me))
    assert await count(keys=[KEY]) == 2
    # cut while an answer is under way: asked again on another connection
    me = await line.ask("CLIENT", "ID", patience=10)
    waiting = asyncio.create_task(line.ask("BLPOP", f"{KEY}-list", 1, patience=10))
    await asyncio.sleep(0.05)
    await redis.client_kill_filter(_id=str(me))
    assert await waiting is None
    assert await line.ask("CLIENT", "ID", patience=10) != me


async def test_silence_ends_in_time_and_the_next_command_has_another_connection(redis: Redis) -> None:
    line = RedisLine.of(redis)
    me = await line.ask("CLIENT", "ID", patience=10)
    with pytest.raises(TimeoutError):
        await line.ask("BLPOP", f"{KEY}-list", 60, patience=0.1)
    assert await line.ask("CLIENT", "ID", patience=10) != me


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_redis_that_reads_nothing_costs_each_who_asks_its_patience(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> None:
        over, hangs = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while not hangs.is_set() and (said := await reader.read(65536)):
                writer.write(b"+OK\r\n" * said.count(b"*"))
                if b"PING" in said:
                    hangs.set()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            await over.wait()
            writer.transport.abort()

        server = await asyncio.start_server(serve, "127.0.0.1")
        client = Redis(port=server.sockets[0].getsockname()[1], protocol=2)
        line = RedisLine.of(client)
        assert await line.ask("PING", patience=10) == b"OK"
        # more than all buffers on the way take
        asked = [line.ask("SET", KEY, b"x" * 8_000_000, patience=0.2) for _ in range(3)]
        async with asyncio.timeout(20):
            ends = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(end, TimeoutError) for end in ends), ends
        over.set()
        await client.aclose()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # what was aborted is closed by then

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("turns", range(4))
def test_who_asks_while_the_line_breaks_is_asked_on_the_next_one(redis_uri: str, turns: int) -> None:
    async def main() -> None:
        client = Redis.from_url(redis_uri)
        line = RedisLine.of(client)
        await line.ask("PING", patience=10)
        line._connection._writer.transport.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        assert await line.ask("ECHO", "x", patience=10) == b"x"
        await client.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def test_whoever_leaves_while_much_is_written_does_not_cut_off_the_others(redis: Redis) -> None:
    line = RedisLine.of(redis)
    me = await line.ask("CLIENT", "ID", patience=10)
    leaving = asyncio.create_task(line.ask("ECHO", b"x" * 16_000_000, patience=10))
    staying = asyncio.create_task(line.ask("CLIENT", "ID", patience=10))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == me


async def test_an_answer_that_came_while_the_loop_was_busy_counts(redis: Redis) -> None:
    line = RedisLine.of(redis)
    asked = asyncio.create_task(line.ask("ECHO", "x", patience=0.2))
    await line.ask("PING", patience=10)
    again = asyncio.create_task(line.ask("ECHO", "y", patience=0.2))
    await asyncio.sleep(0)
    time.sleep(0.5)
    assert (await asked, await again) == (b"x", b"y")


async def test_nobody_there_is_said_in_time() -> None:
    client = Redis.from_url("redis://127.0.0.1:1")
    with pytest.raises((RedisError, OSError)):
        await RedisLine.of(client).ask("PING", patience=5)
    await client.aclose()
