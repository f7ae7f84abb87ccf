"""A Lua script that Redis runs: by its digest, and with its text where Redis does not have it (any more).

redis-py's own scripts load the text and ask by the digest again. Behind one endpoint there may be several servers (ElastiCache
Serverless), and the one that has the keys may be new by then; the text itself goes where the keys are. Every script names
all its keys, which are in one slot of a cluster (``streaming/keys.py``, ``queue/slots.py``): serverless caches refuse others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError


class Script:
    """One script, on one client."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis = redis
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, *, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """What the script returns."""
        try:
            return await self._redis.evalsha(self._digest, len(keys), *keys, *args)
        except NoScriptError:
            return await self._redis.eval(self._text, len(keys), *keys, *args)
