"""From the entries of a thread's runs to the events of protocol v2.

What an event is, its id and its number follow from the log alone. So every connection, whenever it was opened and whatever it
asks for, has the same event under the same number, and may go on after any of them:

* an entry of a protocol run is one event, whose number is the run's base, the entry's number and one;
* an entry of another run may be several (``protocol_legacy.py``), so each of those has room for ``STRIDE``;
* the root's lifecycle is made of the entry that begins an attempt and of the run's end;
* if entries may be missing, the state comes before the end, with the number of the gap marker that the log has there.

Numbers grow along a thread, and some are nobody's. What a run says is not parsed unless it has to be translated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from langgraph_serverless.domain.events import END, METADATA, Event, is_gap, output_of, state_in
from langgraph_serverless.domain.protocol_legacy import LegacyRun
from langgraph_serverless.domain.protocol_records import record, slim
from langgraph_serverless.domain.thread_events import PROTOCOL_STRIDE, STRIDE, ThreadEvent, ThreadRun

INTERRUPT_KEY = "__interrupt__"

_HEAD = b'{"type":"event",'
_METHODS = frozenset(
    {"values", "updates", "messages", "tools", "lifecycle", "input.requested", "tasks", "custom", "checkpoints"}
)
_FAILURES = ("error", "timeout")
_INTERRUPTED = ("interrupted", "rollback")


@dataclass(frozen=True, slots=True)
class ProtocolEvent:
    """One event, not yet in the form in which it is sent."""

    seq: int
    event_id: str
    method: str
    namespace: tuple[str, ...]
    #: Everything but number and id.
    record: bytes

    @property
    def data(self) -> bytes:
        """JSON text: what a client gets."""
        return (
            b'{"type":"event","event_id":%b,"seq":%d,%b'
            % (
                orjson.dumps(self.event_id),  # may have the name of a node in it
                self.seq,
                self.record[len(_HEAD) :],
            )
        )

    @property
    def custom_name(self) -> str | None:
        """The name of a custom event, if it has one."""
        data = orjson.loads(self.record)["params"]["data"]
        name = data.get("name") if isinstance(data, dict) else None
        return name if isinstance(name, str) else None


class ThreadTranslator:
    """One reader's way through a thread, from the beginning of each run."""

    def __init__(self) -> None:
        self._run: _RunTranslator | None = None

    def events(self, item: ThreadEvent) -> Iterator[ProtocolEvent]:
        """What this entry becomes; nothing, if it is no run's."""
        if item.run is None:
            return
        if self._run is None or self._run.run.run_id != item.run.run_id:
            self._run = _RunTranslator(item.run)
        # its base is another one once its log was lost and has begun anew
        self._run.run = item.run
        yield from self._run.events(item.event)


class _RunTranslator:
    def __init__(self, run: ThreadRun) -> None:
        self.run = run
        self._stride = PROTOCOL_STRIDE if run.protocol else STRIDE
        self._legacy = None if run.protocol else LegacyRun(run.run_id)
        #: Entries may be missing.
        self._gap = False
        self._before: Event | None = None

    def events(self, event: Event) -> Iterator[ProtocolEvent]:
        if is_gap(event):
            self._gap = True
            if self._legacy is not None and event.id:
                self._legacy.forget()
            elif self._legacy is not None:
                self._legacy.joined_late()  # put there by the reader, who alone has missed something
        elif event.name == END:
            yield from self._end(event)
        elif event.name == METADATA:
            yield from self._begin(event)
        elif self._legacy is not None:
            yield from self._translated(event, self._legacy)
        elif event.name.partition("|")[0] in _METHODS and event.data.startswith(_HEAD):
            yield self._event(event, 0, event.id, event.name, event.data)
        self._before = event

    def _translated(self, event: Event, legacy: LegacyRun) -> Iterator[ProtocolEvent]:
        if self._before is None and event.number > 0:
            legacy.joined_late()
        for slot, made in enumerate(legacy.records(event, _milliseconds(event, self.run))):
            if made is not None:
                told, known_as = made
                event_id = known_as or (f"{event.id}.{slot}" if slot else event.id)
                yield self._event(event, slot, event_id, told.name, told.data)

    def _begin(self, event: Event) -> Iterator[ProtocolEvent]:
        attempt = orjson.loads(event.data).get("attempt", 1)
        # a run that lost its worker runs once more
        event_id = self._lifecycle_id("running") if attempt == 1 else event.id
        yield self._lifecycle(event, 0, event_id, {"event": "running"})

    def _end(self, end: Event) -> Iterator[ProtocolEvent]:
        ending = _ending(end)
        if self._legacy is not None:
            for slot, made in enumerate(self._legacy.closing(ending["event"], _milliseconds(end, self.run))):
                yield self._event(end, slot, f"{end.id}.{slot}", made.name, made.data)
        if self._gap and (state := state_in(end)) is not None:
            yield self._state(state, end)
        # in the last place, however much there is to close
        yield self._lifecycle(end, self._stride - 1, self._lifecycle_id(ending["event"]), ending)

    def _state(self, state: bytes, end: Event) -> ProtocolEvent:
        values = orjson.loads(state)
        if isinstance(values, dict):
            values.pop(INTERRUPT_KEY, None)
        at = self._before if self._before is not None and is_gap(self._before) and self._before.id else None
        made = record("values", (), _milliseconds(at or end, self.run), slim(values))
        if at is not None:
            return self._event(at, 0, at.id, made.name, made.data)
        seq = self._seq(end.number, 0) - 1
        return ProtocolEvent(seq, f"synth:{self.run.run_id}:values", "values", (), made.data)

    def _lifecycle(self, event: Event, slot: int, event_id: str, said: dict[str, Any]) -> ProtocolEvent:
        error = {"error": said["error"]} if "error" in said else {}
        data = {"event": said["event"], "graph_name": self.run.graph_id, **error}
        made = record("lifecycle", (), _milliseconds(event, self.run), data)
        return self._event(event, slot, event_id, made.name, made.data)

    def _lifecycle_id(self, status: str) -> str:
        return f"synth:{self.run.run_id}:lc||{status}"

    def _event(self, event: Event, slot: int, event_id: str, name: str, data: bytes) -> ProtocolEvent:
        method, *namespace = name.split("|")
        return ProtocolEvent(self._seq(event.number, slot), event_id, method, tuple(namespace), data)

    def _seq(self, number: int, slot: int) -> int:
        return self.run.base + number * self._stride + min(slot, self._stride - 1) + 1


def _ending(end: Event) -> dict[str, Any]:
    """How the run ended, in the protocol's words."""
    status = orjson.loads(end.data[len(b'{"status":') : end.data.index(b',"output":')])
    if status in _INTERRUPTED:
        return {"event": "interrupted"}
    if status in _FAILURES:
        output = orjson.loads(output_of(end))
        error = output.get("__error__") if isinstance(output, dict) else None
        message = error.get("message") if isinstance(error, dict) else None
        return {"event": "failed", "error": message or "An internal error occurred"}
    if b'"__interrupt__"' in end.data:
        output = orjson.loads(output_of(end))
        if isinstance(output, dict) and output.get(INTERRUPT_KEY) is not None:
            return {"event": "interrupted"}
    return {"event": "completed"}


def _milliseconds(event: Event, run: ThreadRun) -> int:
    """When an entry was written; for those that are in no log, when the run was created, as its id says."""
    return int(event.id.partition("-")[0]) if event.id else run.run_id.int >> 80
