"""A store of the project's own: what ``store.path`` of langgraph.json names.

``OwnStore`` promises that it is opened once, at its first use, and left when the process ends, both by one task, as context managers
may insist on. What is named may be a ``BaseStore``, or a callable without parameters that gives one: at once, awaited, or out of a context manager of either
kind. Anything else is a one-sentence ``ProjectError``.

Relies on ``modules.py`` for imports and ``factories.py`` for calling. Belongs to the event loop that opens it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.store.base import BaseStore

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.execution.factories import Factory, Use
from langgraph_serverless.execution.modules import load_object
from langgraph_serverless.execution.project import ProjectConfig

#: Seconds that it may take to be left, when a process ends.
PATIENCE = 10.0


class OwnStore:
    """The store, opened when it is first asked for."""

    def __init__(self, source: Any, *, key: str) -> None:
        self._source = source
        self._key = key
        self._holder: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._opened: asyncio.Future[BaseStore] | None = None

    @classmethod
    def of(cls, project: ProjectConfig) -> OwnStore | None:
        """That of a project whose imports are prepared; None if it has none.

        Raises:
            ProjectError: it cannot be one.
        """
        path = project.store_settings.path
        if path is None:
            return None
        key = f"{project.config_path}: store.path"
        loaded = load_object(project, path, key=key)
        if not isinstance(loaded, BaseStore) and not callable(loaded):
            raise ProjectError(
                f"{key}: '{path}' is of type {type(loaded).__name__}, and neither a store nor makes one."
            )
        return cls(loaded, key=key)

    async def get(self) -> BaseStore:
        """The store, open.

        Raises:
            ProjectError: what is named makes something else, or raises.
        """
        if isinstance(self._source, BaseStore):
            return self._source
        if self._opened is None or (self._opened.done() and self._opened.exception() is not None):
            # one that could not be opened is tried again, as what it connects to may have been away
            self._opened = asyncio.get_running_loop().create_future()
            self._holder = asyncio.create_task(self._hold(self._opened), name="own-store")
        return await asyncio.shield(self._opened)

    async def aclose(self) -> None:
        """Leave it; whoever asks again gets it opened anew."""
        holder, self._holder, self._opened = self._holder, None, None
        self._leave.set()
        self._leave = asyncio.Event()
        if holder is not None:
            await asyncio.wait([holder], timeout=PATIENCE)
            holder.cancel()

    def _checked(self, made: Any) -> BaseStore:
        if not isinstance(made, BaseStore):
            raise ProjectError(f"{self._key}: what was made is of type {type(made).__name__}, not a BaseStore.")
        return made

    async def _hold(self, opened: asyncio.Future[BaseStore]) -> None:
        try:
            async with Factory(self._source, key=self._key).open(Use(access_context="threads.read")) as store:
                leave = self._leave
                opened.set_result(self._checked(store))
                await leave.wait()
        # the user's code
        except Exception as error:
            if opened.done():
                raise
            sentence = f"{self._key}: the store cannot be opened: {type(error).__name__}: {error}"
            opened.set_exception(error if isinstance(error, ProjectError) else ProjectError(sentence))
