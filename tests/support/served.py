"""An application of the API, served by uvicorn on a thread of its own, in the test's process."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.http.app import create_app

PATIENCE = 20.0


@contextmanager
def served(container: ApiContainer, resources: Sequence[str] | None = None, *, ws: Any = "none") -> Iterator[str]:
    """The server's address. Its end closes the container; ``resources`` are all of the container's unless named, ``ws`` is uvicorn's."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await container.aclose()

    app = create_app(container, resources, lifespan=lifespan)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws=ws))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the server does not stop"
