"""The project's priority handler: what ``priority.path`` of langgraph.json names.

``load_handler`` promises an async function that takes one argument, or a one-sentence ``ProjectError``. ``PriorityHandler`` asks
it about runs, each in a bounded time. A handler that fails, hangs, or says what means nothing costs its runs nothing but
their place in the queue: they get the defaults, the log says why, and the next run of the thread asks again.

Relies on ``modules.py`` for imports and on ``langgraph_sdk`` for the handler's types. Never opens a database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langgraph_sdk import Priority
from langgraph_sdk.priority.types import PriorityContext

from langgraph_serverless.domain.priorities import FirstRun, ThreadPriority
from langgraph_serverless.domain.users import User
from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.modules import load_object
from langgraph_serverless.execution.project import ProjectConfig

logger = logging.getLogger(__name__)

#: Seconds for one answer, and for those to all runs of a request in relation to it; a client waits for them.
TIMEOUT = 5.0
ALL_TIMEOUTS = 2
#: Runs of one request that the handler is asked about at once.
AT_ONCE = 10

Handler = Callable[[PriorityContext], Awaitable[Any]]


class PriorityHandler:
    """Asks the handler; an ``AskHandler`` (``domain/priorities.py``)."""

    def __init__(self, handler: Handler, *, timeout: float = TIMEOUT) -> None:
        self._handler = handler
        self._timeout = timeout

    async def __call__(self, runs: Sequence[FirstRun]) -> list[ThreadPriority | None]:
        places = asyncio.Semaphore(AT_ONCE)
        loop = asyncio.get_running_loop()
        end = loop.time() + ALL_TIMEOUTS * self._timeout

        async def ask(run: FirstRun) -> ThreadPriority | None:
            async with places:
                return await self._ask(run, min(end, loop.time() + self._timeout))

        return list(await asyncio.gather(*map(ask, runs)))

    async def _ask(self, run: FirstRun, until: float) -> ThreadPriority | None:
        about = {"action": "priority_failed", "thread_id": run.thread_id, "graph_id": run.graph_id}
        try:
            async with asyncio.timeout_at(until):
                answer = await self._handler(_context(run))
        except TimeoutError:
            logger.error("the priority handler has not answered in time, within %g seconds", self._timeout, extra=about)
            return None
        # the user's code
        except Exception:
            logger.exception("the priority handler failed", extra=about)
            return None
        try:
            return ThreadPriority.of(answer)
        except ValueError as error:
            logger.error("the priority handler's answer cannot be used: %s", error, extra=about)
            return None


def load_handler(project: ProjectConfig) -> Handler | None:
    """The handler of a project whose imports are prepared; None if it has no section ``priority``.

    Raises:
        ProjectError: with the sentence to show.
    """
    if project.priority is None:
        return None
    key = f"{project.config_path}: priority.path"
    loaded = load_object(project, project.priority, key=key)
    if not isinstance(loaded, Priority):
        raise ProjectError(
            f"{key}: '{project.priority}' is of type {type(loaded).__name__}; it must be a langgraph_sdk.Priority."
        )
    handler: Handler | None = loaded._assign_handler
    if handler is None:
        raise ProjectError(f"{key}: '{project.priority}' has no handler; add an async function with @priority.assign.")
    return handler


def _context(run: FirstRun) -> PriorityContext:
    return PriorityContext(
        user=User(
            {
                **(run.user or {}),
                "identity": run.identity,
                "permissions": list(run.permissions),
                "is_authenticated": bool(run.identity),
            }
        ),
        permissions=list(run.permissions),
        thread_id=run.thread_id,
        thread_metadata=dict(run.thread_metadata),
        assistant_id=run.assistant_id,
        graph_id=run.graph_id,
        assistant_metadata=dict(run.assistant_metadata),
        run_metadata=dict(run.run_metadata),
        cron_id=run.cron_id,
    )
