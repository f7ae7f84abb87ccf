"""When a stream of server-sent events has heartbeats: at silence, and when one is due while events flow."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace

import pytest

from langgraph_serverless.domain.events import Event
from langgraph_serverless.http import streaming_response
from langgraph_serverless.http.streaming_response import event_stream

EVENT = Event("custom", b"1")


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        pytest.param([(2, 1), (5, 0), (10, 0), (11, 1)], "e**e", id="silence"),
        pytest.param([(1, 1), (4, 1), (6, 1), (9, 1), (10, 1), (14, 1)], "ee*ee*ee", id="events"),
        pytest.param([(1, 1), (17, 1), (19, 1), (21, 1)], "e*ee*e", id="one for all that were missed"),
        pytest.param([(3, 1), (8, 0), (9, 1), (11, 1)], "e*e*e", id="silence, late"),
    ],
)
async def test_a_heartbeat_is_due_every_five_seconds(
    monkeypatch: pytest.MonkeyPatch, batches: list[tuple[float, int]], expected: str
) -> None:
    now = 1000.0
    monkeypatch.setattr(streaming_response, "time", SimpleNamespace(monotonic=lambda: now))

    async def ready() -> AsyncGenerator[Sequence[Event], None]:
        nonlocal now
        for at, events in batches:
            now = 1000.0 + at
            yield [EVENT] * events

    sent = b""

    async def send(message: dict[str, object]) -> None:
        nonlocal sent
        sent += bytes(message.get("body", b""))  # type: ignore[call-overload]

    response = event_stream(ready(), with_ids=False, headers={}, keepalive=5.0)
    await response._send(send)  # the rest of it listens for a disconnect
    shown = sent.replace(b": heartbeat\r\n\r\n", b"*").replace(b"event: custom\r\ndata: 1\r\n\r\n", b"e")
    assert shown.decode() == expected
