"""Runs that were not started by protocol v2, told in its events: translated from the modes that they stream.

Values, updates, custom data, tasks and checkpoints are written again in the protocol's form; chunks of models become content
blocks; what was interrupted asks for input, once. Subgraphs begin with their first event, and end with their task or the run.
Modes that say the same once more (``debug``, ``events``, ``messages/partial``) become nothing.

It reads a run from its beginning. Where entries are missing for this reader alone (``joined_late``) nothing is said that
another reader would know better: no content blocks, no subgraphs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.protocol_messages import CHUNK, StreamedMessage
from langgraph_serverless.domain.protocol_records import record, slim

#: An entry, and its id if that is not the place in the log. None: nothing, for this reader, where another one may have something.
Made = tuple[Event, str | None] | None
Namespace = tuple[str, ...]

_INTERRUPT = "__interrupt__"
#: What is told of all that a run leaves open, at most: numbers at its end are few.
_MOST_CLOSED = 12


class LegacyRun:
    """What one reader has seen of a run."""

    def __init__(self, run_id: uuid.UUID) -> None:
        self._run_id = run_id
        self._asked: set[str] = set()
        #: Subgraphs that have begun, and whether they still go on.
        self._subgraphs: dict[Namespace, bool] = {}
        self._messages: dict[tuple[Namespace, str], StreamedMessage] = {}
        self._late = False

    def joined_late(self) -> None:
        """This reader has missed what others have."""
        self.forget()
        self._late = True

    def forget(self) -> None:
        """All readers have missed something: what was open is not gone on with."""
        self._late = False
        self._messages.clear()
        self._subgraphs.clear()

    def records(self, event: Event, timestamp: int) -> Iterator[Made]:
        """What an entry becomes. The places in between are the same for all readers."""
        mode, *segments = event.name.split("|")
        translate = _TRANSLATIONS.get(mode)
        if translate is None:
            return
        namespace = tuple(segments)
        yield from self._begun(namespace, timestamp)
        yield from translate(self, orjson.loads(event.data), namespace, timestamp)

    def closing(self, status: str, timestamp: int) -> Iterator[Event]:
        """What the run leaves open, when it ends like this."""
        made: list[Event] = []
        for (namespace, _), message in self._messages.items():
            made += [record("messages", namespace, timestamp, data) for data in message.finish()]
        for namespace in sorted((ns for ns, lives in self._subgraphs.items() if lives), key=len, reverse=True):
            made.append(_lifecycle(namespace, timestamp, status))
        self.forget()
        yield from made[:_MOST_CLOSED]

    def _begun(self, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        for depth in range(1, len(namespace) + 1):
            subgraph = namespace[:depth]
            if subgraph in self._subgraphs or self._late:
                yield None
                continue
            self._subgraphs[subgraph] = True
            name, _, task = subgraph[-1].partition(":")
            data = {"event": "started", "namespace": subgraph, "graph_name": name, "trigger_call_id": task}
            yield record("lifecycle", subgraph, timestamp, data), None

    def _values(self, data: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        if isinstance(data, dict):
            yield from self._requests(data.pop(_INTERRUPT, None), namespace, timestamp)
        yield record("values", namespace, timestamp, slim(data)), None

    def _updates(self, data: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        if not isinstance(data, dict):
            return
        yield from self._requests(data.pop(_INTERRUPT, None), namespace, timestamp)
        for node, written in data.items():
            if not node.startswith("__"):
                yield record("updates", namespace, timestamp, slim(written), node=node), None

    def _requests(self, asked: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        for interrupt in asked if isinstance(asked, list) else ():
            known_as = interrupt.get("id") if isinstance(interrupt, dict) else None
            if not isinstance(known_as, str) or known_as in self._asked:
                yield None
                continue
            self._asked.add(known_as)
            data = {"interrupt_id": known_as, "payload": interrupt.get("value")}
            event_id = f"synth:{self._run_id}:input|{'|'.join(namespace)}|{known_as}"
            yield record("input.requested", namespace, timestamp, data), event_id

    def _custom(self, data: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        yield record("custom", namespace, timestamp, {"payload": data}), None

    def _tasks(self, data: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        yield record("tasks", namespace, timestamp, slim(data)), None
        if isinstance(data, dict) and "result" in data:
            for subgraph, lives in self._subgraphs.items():
                if lives and subgraph[:-1] == namespace and subgraph[-1].partition(":")[2] == data.get("id"):
                    self._subgraphs[subgraph] = False
                    status = "failed" if data.get("error") else "interrupted" if data.get("interrupts") else "completed"
                    yield _lifecycle(subgraph, timestamp, status), None

    def _checkpoints(self, data: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        if not isinstance(data, dict):
            return
        parent = _checkpoint_id(data.get("parent_config"))
        metadata = data.get("metadata") or {}
        yield (
            record(
                "checkpoints",
                namespace,
                timestamp,
                {
                    "id": _checkpoint_id(data.get("config")),
                    **({"parent_id": parent} if parent else {}),
                    "step": metadata.get("step"),
                    "source": metadata.get("source"),
                },
            ),
            None,
        )

    def _chunk(self, data: Any, namespace: Namespace, timestamp: int) -> Iterator[Made]:
        if self._late or not isinstance(data, list) or len(data) != 2:
            return
        chunk, metadata = data
        if not isinstance(chunk, dict) or chunk.get("type") != CHUNK or not isinstance(chunk.get("id"), str):
            return
        key = (namespace, chunk["id"])
        message = self._messages.setdefault(key, StreamedMessage(chunk["id"]))
        for event in message.take(chunk, metadata if isinstance(metadata, dict) else {}):
            yield record("messages", namespace, timestamp, event), None
        if chunk.get("chunk_position") == "last":
            del self._messages[key]


def _lifecycle(namespace: Namespace, timestamp: int, status: str) -> Event:
    return record("lifecycle", namespace, timestamp, {"event": status, "graph_name": namespace[-1].partition(":")[0]})


def _checkpoint_id(config: Any) -> Any:
    configurable = config.get("configurable") if isinstance(config, Mapping) else None
    return configurable.get("checkpoint_id") if isinstance(configurable, Mapping) else None


_TRANSLATIONS = {
    "values": LegacyRun._values,
    "updates": LegacyRun._updates,
    "custom": LegacyRun._custom,
    "tasks": LegacyRun._tasks,
    "checkpoints": LegacyRun._checkpoints,
    "messages": LegacyRun._chunk,
}
