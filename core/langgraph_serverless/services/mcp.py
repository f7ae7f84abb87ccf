"""Assistants as tools of the Model Context Protocol: which there are, and calling one.

A call is a stateless run on a thread of its own, made and followed by the services that everybody else uses, who also ask whether the
caller may. Nobody can come back to it: so a run whose caller leaves, or whose process ends, before there is an answer is cancelled.

Relies on ``AssistantService.search``, ``RunService.create`` and the follower of runs. Never sees a message of the protocol.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from langgraph_serverless.domain.assistants import AssistantField
from langgraph_serverless.domain.cursors import FROM_THE_START
from langgraph_serverless.domain.events import Event, output_of
from langgraph_serverless.domain.mcp import Listed, Tool, UnknownToolError, named, tool
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.run_errors import MASK
from langgraph_serverless.domain.runs import Run, RunRequest, StreamMode
from langgraph_serverless.services.assistants import AssistantService
from langgraph_serverless.services.catalog import GraphCatalog
from langgraph_serverless.services.following import RunFollower
from langgraph_serverless.services.runs import RunService
from langgraph_serverless.services.streams import StreamService

#: Assistants that are read at once, and those that are offered at most, the newest.
AT_ONCE, MOST = 1000, 10_000
#: Characters of a name that is not known that its client gets to read again.
LONGEST_SHOWN = 200
#: Tools of one answer; clients come back for more.
PAGE = 100
_FIELDS = (AssistantField.ASSISTANT_ID, AssistantField.GRAPH_ID, AssistantField.NAME, AssistantField.DESCRIPTION)


@dataclass(frozen=True, slots=True)
class Step:
    """A node of the graph has come to its end."""

    node: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call has come to."""

    #: JSON text of the run's output, or words about its failure.
    text: str
    failed: bool

    @property
    def is_object(self) -> bool:
        return not self.failed and self.text.startswith("{")


#: None: it goes on, and the client should be told that the connection is alive.
Call = AsyncGenerator[Step | Outcome | None, None]


class McpService:
    """Use cases of ``/mcp``."""

    def __init__(
        self,
        assistants: AssistantService,
        runs: RunService,
        streams: StreamService,
        follower: RunFollower,
        catalog: GraphCatalog,
    ) -> None:
        self._assistants = assistants
        self._runs = runs
        self._streams = streams
        self._follower = follower
        self._catalog = catalog

    async def list_tools(self, caller: Principal, *, offset: int = 0) -> Page[Tool]:
        """Tools of the caller, newest first."""
        offered = await self._offered(caller)
        return Page.of([self._tool(*each) for each in offered[offset : offset + PAGE + 1]], offset=offset, limit=PAGE)

    async def call(
        self,
        caller: Principal,
        name: str,
        arguments: Mapping[str, Any],
        *,
        request_id: str | None = None,
        with_steps: bool = False,
    ) -> Call:
        """Run a tool. Whoever iterates over what is returned must do so to the end or close it.

        Args:
            with_steps: tell each node that has ended.

        Raises:
            UnknownToolError: there is none of this name.
        """
        wanted = await self._find(caller, name)
        request = RunRequest(
            assistant_id=str(wanted.assistant_id),
            input=wanted.input_of(arguments),
            stream_mode=(StreamMode.UPDATES if with_steps else StreamMode.VALUES,),
            on_disconnect="cancel",
            request_id=request_id,
        )
        run = await self._runs.create(caller, request, thread_id=None)
        return self._followed(caller, run, with_steps=with_steps)

    async def _followed(self, caller: Principal, run: Run, *, with_steps: bool) -> Call:
        over = False
        events = self._follower.follow(run.run_id, FROM_THE_START) if with_steps else self._follower.end(run.run_id)
        try:
            async with aclosing(events) as batches:
                async for batch in batches:
                    if not batch:
                        yield None
                    for event in batch:
                        if event.is_end:
                            over = True
                            yield _outcome(event)
                        elif event.name == StreamMode.UPDATES.value:
                            for node in _nodes(event):
                                yield Step(node)
        finally:
            if not over:
                await asyncio.shield(self._streams.cancel_abandoned(caller, run.thread_id, run.run_id))

    async def _find(self, caller: Principal, name: str) -> Tool:
        for each, assistant in await self._offered(caller):
            if name in (each, str(assistant.assistant_id)):
                return self._tool(each, assistant)
        raise UnknownToolError(f"Unknown tool: {name[:LONGEST_SHOWN]}")

    def _tool(self, name: str, assistant: Listed) -> Tool:
        return tool(name, assistant, self._catalog.require(assistant.graph_id))

    async def _offered(self, caller: Principal) -> Sequence[tuple[str, Listed]]:
        """Assistants with their names, newest first: of all of them, as names are unique among all."""
        found: list[Listed] = []
        offset: int | None = 0
        while offset is not None and offset < MOST:
            page = await self._assistants.search(
                caller, metadata={}, graph_id=None, name=None, select=_FIELDS, limit=AT_ONCE, offset=offset
            )
            found += [Listed(**row) for row in page.items]
            offset = page.next_offset
        # an assistant may be left of a graph that the project had
        return named(each for each in found if each.graph_id in self._catalog.graphs)


def _outcome(end: Event) -> Outcome:
    output = output_of(end)
    # not parsed: it may be large
    if end.data.startswith(b'{"status":"success"'):
        return Outcome(output.decode(), failed=False)
    if end.data.startswith(b'{"status":"interrupted"'):
        return Outcome("The run was cancelled", failed=True)
    return Outcome(_words(orjson.loads(output)), failed=True)


def _words(output: Any) -> str:
    """The class of the error, and what it says, as far as clients are shown that."""
    error = (output.get("__error__") if isinstance(output, Mapping) else None) or {}
    said = [
        error.get("error") or "Error",
        *([error["message"]] if error.get("message") not in (None, "", MASK) else []),
    ]
    return ": ".join(said)


def _nodes(event: Event) -> Sequence[str]:
    update = orjson.loads(event.data)
    return [str(name) for name in update] if isinstance(update, Mapping) else []
