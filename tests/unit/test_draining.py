"""A server that leaves breaks long answers off where their clients can go on; and the API below a path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from langgraph_serverless.http.draining import Draining
from langgraph_serverless.http.mounted import Mounted

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Exchange:
    """One request to an application behind ``Draining``; ``say`` has the application send something."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.headers = list(headers)
        self.sent: list[bytes] = []
        self.cancelled = False
        self._next: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.draining = Draining(self._app)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(self.draining({"type": "http"}, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> dict[str, Any]:
        return await asyncio.Future()

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message.get("body", b"head"))

    async def _app(self, _scope: Any, _receive: Any, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            while True:
                message = await self._next.get()
                await send({"type": "http.response.body", "more_body": True, **message})
                if not message.get("more_body", True):
                    return
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def say(self, body: bytes, **more: Any) -> None:
        self._next.put_nowait({"body": body, **more})
        await settled()

    @property
    def broken_off(self) -> bool:
        return self.task.done() and self.task.exception() is None and self.cancelled


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")


async def test_a_stream_is_broken_off_behind_a_whole_event() -> None:
    exchange = Exchange(EVENTS)
    await exchange.say(b"id: 1\ndata: 1\n\n")
    await exchange.say(b"id: 2\ndata: the first half, ")
    exchange.draining.begin()
    await settled()
    assert not exchange.task.done()
    await exchange.say(b"the other half\n\n")
    assert exchange.broken_off
    assert exchange.sent[1:] == [b"id: 1\ndata: 1\n\n", b"id: 2\ndata: the first half, ", b"the other half\n\n"]
    assert exchange.draining.broken_off == 1


async def test_a_stream_without_an_event_waits_for_its_first_word() -> None:
    """Its client has nothing to come back with, and would miss what happens meanwhile."""
    exchange = Exchange(EVENTS)
    exchange.draining.begin()
    await settled()
    assert not exchange.task.done()
    await exchange.say(b": heartbeat\nid: -\n\n")
    assert exchange.broken_off


async def test_a_wait_is_broken_off_at_once() -> None:
    exchange = Exchange((b"content-type", b"application/json"))
    await settled()
    exchange.draining.begin()
    await settled()
    assert exchange.broken_off


async def test_answers_of_a_known_length_are_left_alone() -> None:
    exchange = Exchange((b"content-length", b"2"))
    await settled()
    exchange.draining.begin()
    await exchange.say(b"ok", more_body=False)
    assert exchange.task.done()
    assert not exchange.cancelled
    assert exchange.sent == [b"head", b"ok"]


async def test_what_begins_later_is_broken_off_too() -> None:
    exchange = Exchange(EVENTS)
    exchange.draining.begin()
    await exchange.say(b"id: 1\ndata: 1\n\n")
    assert exchange.broken_off


async def test_a_cancellation_of_the_server_stays_one() -> None:
    exchange = Exchange(EVENTS)
    await settled()
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task


@pytest.mark.parametrize("path", ["/api/threads", "/threads"])
async def test_a_prefix_may_be_there_or_not(path: str) -> None:
    app = FastAPI()

    @app.get("/threads")
    async def threads(request: Request) -> dict[str, str]:
        return {"root_path": request.scope["root_path"]}

    @app.get("/")
    async def root() -> str:
        return "root"

    transport = httpx.ASGITransport(app=Mounted(app, "/api"))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get(path)).json() == {"root_path": "/api"}
        assert (await client.get("/api")).json() == "root"
        assert (await client.get("/apiary")).status_code == 404
        page = await client.get("/api/docs")
        assert "/api/openapi.json" in page.text
