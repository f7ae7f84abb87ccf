"""``get_client()`` without an address: it finds the application of its process, from every loop, at every time, piece by piece."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import httpx
import pytest

from langgraph_serverless.loopback import NoApplicationError, found, offered
from langgraph_serverless.loopback_transport import LoopbackTransport

PATIENCE = 20.0
of_the_caller: ContextVar[str] = ContextVar("of_the_caller", default="nobody's")


class Application:
    """Sends pieces when it is told to, and notes what it sees."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.go_on: asyncio.Queue[None] = asyncio.Queue()
        self.left = asyncio.Event()
        self.loops: list[asyncio.AbstractEventLoop] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loops.append(asyncio.get_running_loop())
        self.seen.append((scope["method"], scope["path"], scope["query_string"], (await receive())["body"]))
        self.seen.append((scope.get("mark"), of_the_caller.get()))
        if scope["path"] == "/waits":
            await receive()
            self.left.set()
            return
        await send({"type": "http.response.start", "status": 201, "headers": [(b"x-a", b"b")]})
        if scope["path"] == "/breaks":
            raise RuntimeError("in the middle")
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if scope["path"] == "/pieces":
            asking = asyncio.create_task(self.go_on.get())
            leaving = asyncio.create_task(receive())
            await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                assert leaving.result()["type"] == "http.disconnect"
                self.left.set()
            asking.cancel()
            leaving.cancel()
        await send({"type": "http.response.body", "body": b" last", "more_body": False})


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=LoopbackTransport(None, root_path="/noauth"), base_url="http://api")


async def test_a_request_reaches_the_application_of_this_loop() -> None:
    app = Application()
    before = client()
    with offered(lambda: app, lambda: {"mark": "found"}):
        of_the_caller.set("the caller's")
        async with before as http:
            answer = await http.post("/x?a=1", content=b"body")
        assert (answer.status_code, answer.headers["x-a"], answer.text) == (201, "b", "first last")
    # what the caller has around it, as a graph's config, stays there
    assert app.seen == [("POST", "/x", b"a=1", b"body"), ("found", "nobody's")]


async def test_pieces_are_there_when_they_are_sent_and_leaving_is_noticed() -> None:
    app = Application()
    with offered(lambda: app, dict):
        async with asyncio.timeout(PATIENCE), client() as http:
            async with http.stream("GET", "/pieces") as answer:
                pieces = answer.aiter_raw()
                assert await anext(pieces) == b"first"
                app.go_on.put_nowait(None)
                assert await anext(pieces) == b" last"
            assert not app.left.is_set()
            async with http.stream("GET", "/pieces") as answer:
                assert await anext(answer.aiter_raw()) == b"first"
            await app.left.wait()


async def test_an_answer_that_breaks_is_an_error_and_no_answer() -> None:
    app = Application()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    try:
        with offered(lambda: app, dict):
            async with client() as http:
                with pytest.raises(httpx.RemoteProtocolError):
                    await http.get("/breaks")
    finally:
        asyncio.get_running_loop().set_exception_handler(None)


@pytest.fixture
def elsewhere() -> Iterator[tuple[Application, asyncio.AbstractEventLoop]]:
    """An application on a loop of another thread."""
    loop, app, ready, end = asyncio.new_event_loop(), Application(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        with offered(lambda: app, dict):
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(PATIENCE)
    yield app, loop
    loop.call_soon_threadsafe(end.set)
    thread.join(PATIENCE)
    loop.close()


async def test_another_loop_of_the_process_does_too(
    elsewhere: tuple[Application, asyncio.AbstractEventLoop],
) -> None:
    app, loop = elsewhere

    async def ask() -> str:
        async with client() as http:
            return (await http.get("/x")).text

    # a synchronous node, in a thread of its own
    assert await asyncio.to_thread(lambda: asyncio.run(ask())) == "first last"
    assert await ask() == "first last"
    assert app.loops == [loop, loop]
    # an application of this loop comes before it
    here = Application()
    with offered(lambda: here, dict):
        assert await ask() == "first last"
    assert len(app.loops) == 2
    async with asyncio.timeout(PATIENCE), client() as http, http.stream("GET", "/pieces") as answer:
        assert await anext(answer.aiter_raw()) == b"first"
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.wait_for(app.left.wait(), PATIENCE), loop))


async def test_who_leaves_before_the_other_loop_has_begun_is_noticed(
    elsewhere: tuple[Application, asyncio.AbstractEventLoop],
) -> None:
    app, loop = elsewhere
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(PATIENCE)

    # a loop that is busy finds request and leave together
    loop.call_soon_threadsafe(hold)
    assert await asyncio.to_thread(held.wait, PATIENCE)
    async with client() as http:
        asking = asyncio.create_task(http.get("/waits"))
        for _ in range(50):  # it has nothing to wait for but the answer
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    go_on.set()
    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.wait_for(app.left.wait(), PATIENCE), loop))


async def test_without_a_server_it_says_so() -> None:
    with pytest.raises(NoApplicationError, match="without a URL"):
        found()
    async with client() as http:
        with pytest.raises(NoApplicationError):
            await http.get("/ok")


def test_the_sdk_finds_it_and_nothing_is_left_behind() -> None:
    """In a process of its own, as it is about what is imported first."""
    code = """
import asyncio, sys
from langgraph_serverless.loopback import offered, provide_modules
provide_modules(); provide_modules()
assert "httpx" not in sys.modules
import importlib.util
assert importlib.util.find_spec("langgraph_api") is not None
from langgraph_sdk import get_client
from langgraph_sdk._shared.utilities import _registered_transports
early = get_client()
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"[]", "more_body": False})
async def main():
    with offered(lambda: app, dict):
        assert await early.assistants.search() == []
        for _ in range(3):
            assert await get_client().assistants.search() == []
asyncio.run(main())
# a list of the SDK's that keeps clients for ever
assert _registered_transports == []
try:
    import langgraph_api.config
except ModuleNotFoundError:
    print("nothing else is there")
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("nothing else is there\n", 0), done.stderr
