"""A model that writes faster than it waits gives way now and then, so that what it has written goes out while it writes on.

Between two tokens asyncio has a turn only if the model waits for something, and one that is local, or has its answer in memory,
never does: LangGraph's stream, the event sink and Redis would have nothing to do before it has ended, and clients would see all
tokens at once, at the end. A callback of LangGraph's, called in place at each token: at the second one of a run it waits until what there
is has been appended to the log and a moment longer, in which the server's other thread can send it on; then every ``EVERY`` it does so again,
without that moment. By time and not by token: most tokens cost one look at the clock.

Only tokens that are written by a coroutine can wait. Models that are called synchronously in a thread leave the event loop free; of one that
blocks the loop itself, and of what a node writes with ``get_stream_writer()`` without waiting for anything, nothing goes out before that ends.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from langgraph_serverless.execution.sink import EventSink

#: Between two such waits (seconds).
EVERY = 0.008
#: How long one of them takes at most (seconds), if Redis is slow; and how many turns of the loop it takes for a token to reach the sink.
PATIENCE, TURNS = 0.05, 8
#: What the first one takes longer (seconds): readers in the same process need the interpreter to send the first token on.
MOMENT = 0.003


class GivingWay(BaseCallbackHandler):
    """That of one execution; made on its event loop."""

    run_inline = True
    # of all that is called back, only tokens; see also below
    ignore_chain = ignore_chat_model = ignore_agent = ignore_retriever = ignore_retry = ignore_custom_event = True

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._tokens = 0

    def in_config(self, config: RunnableConfig) -> RunnableConfig:
        """The config with this callback."""
        callbacks = config.get("callbacks")
        return {**config, "callbacks": [*(callbacks if isinstance(callbacks, list) else ()), self]}

    @property
    def ignore_llm(self) -> bool:
        """Asked before each call: not now, or not by somebody who can wait."""
        if time.monotonic() < self._due:
            return True
        # LangChain would run a coroutine that it cannot await in a thread and a loop of its own, for each token
        return not sys._getframe(1).f_code.co_flags & inspect.CO_COROUTINE

    async def on_llm_new_token(self, *args: Any, **kwargs: Any) -> None:
        await self._give_way()

    async def on_stream_event(self, *args: Any, **kwargs: Any) -> None:
        await self._give_way()

    async def _give_way(self) -> None:
        self._tokens += 1
        # those who stream come after this callback, so the first one has something to send with the second token
        if self._tokens == 1 or asyncio.get_running_loop() is not self._loop:
            return
        self._due = float("inf")  # others who write at the same time go on
        try:
            emitted = self._sink.emitted
            for _ in range(TURNS):
                await asyncio.sleep(0)
                if self._sink.emitted > emitted:
                    break
            await self._sink.told(PATIENCE)
            if self._tokens == 2:
                await asyncio.sleep(MOMENT)
        finally:
            self._due = time.monotonic() + EVERY
