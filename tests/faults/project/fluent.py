"""A model that writes without ever waiting for anything, until it is told that somebody has read its first words.

It is told by a file that appears, named ``name`` in the input, as nothing else reaches it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

from graphs import State
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, StateGraph

#: So long it writes if nobody reads (seconds), with a pause that holds the event loop after each word.
PATIENCE, PAUSE = 10.0, 0.002


class Fluent(BaseChatModel):
    """Says in the end whether it was heard."""

    file: str

    @property
    def _llm_type(self) -> str:
        return "fluent"

    def _generate(self, messages: Sequence[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        words = [str(chunk.text) for chunk in self._stream(messages)]
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="".join(words)))])

    def _stream(self, messages: Sequence[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        for word in self._words():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    async def _astream(
        self, messages: Sequence[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in self._words():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))

    def _words(self) -> Iterator[str]:
        until, heard = time.monotonic() + PATIENCE, Path(self.file)
        yield "hello "
        while not heard.exists() and time.monotonic() < until:
            time.sleep(PAUSE)
            yield "word "
        yield "heard" if heard.exists() else "alone"


async def write(state: State) -> State:
    message = await Fluent(file=state["name"]).ainvoke("speak")
    return {"log": [str(message.content).rsplit(" ", 1)[-1]]}


async def write_in_blocks(state: State) -> State:
    """By calling it synchronously: it holds the loop until its end, and nothing is to be waited for in between."""
    message = Fluent(file=state["name"]).invoke("speak")
    return {"log": [str(message.content).rsplit(" ", 1)[-1]]}


builder = StateGraph(State)
builder.add_node(write)
builder.add_edge(START, "write")
fluent = builder.compile()

builder = StateGraph(State)
builder.add_node(write_in_blocks)
builder.add_edge(START, "write_in_blocks")
fluent_in_blocks = builder.compile()
