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

from langgraph_serverless.redis_line import RedisLine

#: A Redis that has not answered by then (seconds) is out of reach.
PATIENCE = 3.0


class Script:
    """One script, on the line of one client; so it may run twice, if the answer to the first time was lost."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._line = RedisLine.of(redis)
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, *, keys: Sequence[str], args: Sequence[Any] = (), patience: float = PATIENCE) -> Any:
        """What the script returns.

        Raises:
            TimeoutError: no answer within ``patience`` (seconds).
            RedisError, OSError: as the client would.
        """
        try:
            return await self._line.ask("EVALSHA", self._digest, len(keys), *keys, *args, patience=patience)
        except NoScriptError:
            return await self._line.ask("EVAL", self._text, len(keys), *keys, *args, patience=patience)
