"""A chat model that follows a script: no key, no network, the same answers every time.

It behaves like a real one where that matters to the example: it streams word by word and it calls tools.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessageChunk, BaseMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

NUMBER = r"(-?\d+(?:\.\d+)?)"


class ScriptedChatModel(BaseChatModel):
    """Answers by a few patterns in the last message."""

    #: seconds between two words
    delay: float = 0.02

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        return self  # the script knows its tools

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._stream(messages):
            yield chunk
            await asyncio.sleep(self.delay)

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        reply = follow_script(messages)
        if isinstance(reply, str):
            for word in re.findall(r"\S+\s*", reply):
                yield ChatGenerationChunk(message=AIMessageChunk(word))
        else:
            yield ChatGenerationChunk(message=reply)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages))


def follow_script(messages: list[BaseMessage]) -> str | AIMessageChunk:
    """A text, or a message that calls a tool."""
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return f"{last.text} Anything else?"
    said = last.text
    if match := re.search(r"\bmy name is (\w+)", said, re.IGNORECASE):
        return call("remember", f'{{"key": "name", "value": "{match[1]}"}}', len(messages))
    if match := re.search(r"\bweather\b.*\bin ([\w -]*\w)", said, re.IGNORECASE):
        return call("get_weather", f'{{"city": "{match[1]}"}}', len(messages))
    if match := re.search(rf"{NUMBER}\s*(?:\+|plus|and)\s*{NUMBER}", said, re.IGNORECASE):
        return call("add", f'{{"a": {match[1]}, "b": {match[2]}}}', len(messages))
    if re.search(r"\b(my name|who am i)\b", said, re.IGNORECASE):
        prompt = next((message.text for message in messages if isinstance(message, SystemMessage)), "")
        known = re.search(r"\bname: (\w+)", prompt)
        return f"Your name is {known[1]}." if known else "I do not know your name yet. Tell me: my name is ..."
    return f"You said: {said} I can tell you the weather in a city, add two numbers, and remember your name."


def call(name: str, arguments: str, position: int) -> AIMessageChunk:
    """A message that asks for a tool. The id must differ between the calls of one conversation."""
    return AIMessageChunk("", tool_call_chunks=[tool_call_chunk(name=name, args=arguments, id=f"call_{position}")])
