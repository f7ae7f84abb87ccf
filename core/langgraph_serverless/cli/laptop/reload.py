"""What counts as an edit of the user's project.

``Edits`` watches the project's folder and its local dependencies for changed ``.py`` files, ``.env`` files and
``langgraph.json``, and remembers what changed until it is asked. Folders that hold no source of the user's (virtual
environments, ``node_modules``, version control, our data) are not even registered with the kernel: a database writes all
the time, and the number of folders that one user may watch is limited. For that the folders directly below a root are
watched one by one; a new one is noticed and joins.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

from watchfiles import Change, awatch

_IGNORED = frozenset({"node_modules", "site-packages", "venv", "env", "dist", "build", "__pycache__"})


class Edits:
    """Collects edits below some roots. Use ``watching`` around everything else."""

    def __init__(self, roots: Iterable[Path], config_path: Path, data_dir: Path) -> None:
        # a root inside another is watched already
        unique = {root.resolve() for root in roots}
        self._roots = sorted(root for root in unique if not any(other in root.parents for other in unique))
        self._config_path = config_path
        self._data_dir = data_dir.resolve()
        self._changed: set[Path] = set()
        self._news = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self, on_failure: Callable[[str], None]) -> AsyncIterator[None]:
        """Watch until the block ends; ``on_failure`` gets one sentence if the system does not allow it."""
        task = asyncio.create_task(self._watch(on_failure))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def wait(self) -> set[Path]:
        """Wait for an edit, and return everything that changed since the last call."""
        await self._news.wait()
        self._news.clear()
        changed, self._changed = self._changed, set()
        return changed

    def forget(self) -> None:
        """What changed up to here is about to be read anyway."""
        self._news.clear()
        self._changed.clear()

    async def _watch(self, on_failure: Callable[[str], None]) -> None:
        try:
            while True:
                folders = {folder for root in self._roots for folder in self._folders(root)}
                stop = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch_roots(folders, stop))
                    if folders:
                        group.create_task(self._watch_folders(folders, stop))
        except* OSError as errors:
            on_failure(f"Edits of the project are not seen, so hot reload is off: {errors.exceptions[0]}")

    async def _watch_roots(self, folders: set[Path], stop: asyncio.Event) -> None:
        """Files directly in a root; ends, and ends the other watch, when the folders below the roots are others."""
        async for changes in awatch(
            *self._roots, watch_filter=None, recursive=False, stop_event=stop, step=100, debounce=400
        ):
            self._note(changes)
            if {folder for root in self._roots for folder in self._folders(root)} != folders:
                stop.set()

    async def _watch_folders(self, folders: set[Path], stop: asyncio.Event) -> None:
        async for changes in awatch(*folders, watch_filter=None, stop_event=stop, step=100, debounce=400):
            self._note(changes)

    def _folders(self, root: Path) -> set[Path]:
        return {child for child in root.iterdir() if child.is_dir() and not self._is_ignored(child)}

    def _note(self, changes: Iterable[tuple[Change, str]]) -> None:
        relevant = {path for _, name in changes if self._is_source(path := Path(name))}
        if relevant:
            self._changed |= relevant
            self._news.set()

    def _is_source(self, path: Path) -> bool:
        if not (path.suffix == ".py" or path == self._config_path or path.name.startswith(".env")):
            return False
        root = next((root for root in self._roots if root in path.parents), None)
        if root is None:
            return False
        below = [parent for parent in path.parents if root in parent.parents]
        return not any(self._is_ignored(folder) for folder in below)

    def _is_ignored(self, folder: Path) -> bool:
        # every hidden folder: .git, .venv, .mypy_cache, our own
        return folder.name.startswith(".") or folder.name in _IGNORED or folder == self._data_dir
