"""The synchronous SDK, used by tests that are written once for both clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any


class InThreads:
    """The synchronous client with the asynchronous one's manners."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return InThreads(found)
        if name in ("stream", "join_stream"):
            return lambda *args, **kwargs: _walked(found(*args, **kwargs))
        return partial(asyncio.to_thread, found)


async def _walked(parts: Iterator[Any]) -> AsyncIterator[Any]:
    while (part := await asyncio.to_thread(next, parts, None)) is not None:
        yield part
