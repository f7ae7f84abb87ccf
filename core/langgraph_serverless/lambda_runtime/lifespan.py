"""An application's start-up and shutdown, once for the life of the process.

The start-up is part of the function's own (Lambda allows it ten seconds); the shutdown only happens where Lambda says that
it ends a sandbox, which it does for functions with an extension. An application without a lifespan is none the worse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

Message = dict[str, Any]


class Lifespan:
    """Runs beside the requests of one application, on their event loop."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        #: What the application keeps for its requests; each gets a copy.
        self.state: dict[str, Any] = {}
        self.started = False

    def with_state(self, app: Callable[..., Any]) -> Callable[..., Any]:
        """The application, for whoever serves it and knows nothing of its state."""

        async def served(scope: Message, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(self.state)}, receive, send)

        return served

    async def start(self) -> None:
        """Start the application up.

        Raises:
            RuntimeError: it says that it cannot start.
        """
        self._task = asyncio.create_task(self._run())
        await self._step("startup")
        self.started = True

    async def stop(self) -> None:
        """Shut it down, if it has started."""
        if self._task is not None and not self._task.done():
            await self._step("shutdown")

    async def _step(self, name: str) -> None:
        assert self._task is not None
        self._messages.put_nowait({"type": f"lifespan.{name}"})
        answer = asyncio.create_task(self._answers.get())
        await asyncio.wait({answer, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()  # it does not answer: it has no lifespan
        elif answer.result()["type"] == f"lifespan.{name}.failed":
            raise RuntimeError(answer.result().get("message") or f"The application's {name} failed")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._app(scope, self._messages.get, self._answers.put)
        except Exception as error:
            # how applications without a lifespan say so, and those whose start-up fails after they have told it
            logger.debug("The lifespan has ended: %r", error)
