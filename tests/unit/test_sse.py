"""Events become exactly the bytes that clients of a LangGraph server know, and large ones go out in parts."""

from __future__ import annotations

import pytest

from langgraph_serverless.domain.events import Event
from langgraph_serverless.streaming import sse


def text(*events: Event, with_ids: bool = True) -> bytes:
    return b"".join(sse.pieces(events, with_ids=with_ids))


def test_a_frame_has_event_data_id_in_this_order_with_crlf() -> None:
    event = Event("metadata", b'{"run_id":"r","attempt":1}', "1795328168774-0")
    assert text(event) == (b'event: metadata\r\ndata: {"run_id":"r","attempt":1}\r\nid: 1795328168774-0\r\n\r\n')


def test_the_id_is_left_out_unless_asked_for() -> None:
    assert text(Event("values", b"{}", "1-0"), with_ids=False) == b"event: values\r\ndata: {}\r\n\r\n"


def test_an_event_that_is_in_no_log_has_no_id() -> None:
    assert text(Event("values", b"{}")) == b"event: values\r\ndata: {}\r\n\r\n"


def test_data_is_passed_on_as_it_is() -> None:
    data = '{"text":"zwölf \\n Boxkämpfer"}'.encode()
    assert (
        text(Event("values|child:1", data), with_ids=False) == b"event: values|child:1\r\ndata: " + data + b"\r\n\r\n"
    )


def test_small_events_go_out_together() -> None:
    events = [Event("a", b"1", "1-0"), Event("b", b"2", "2-0")]
    assert list(sse.pieces(events, with_ids=True)) == [text(events[0]) + text(events[1])]


@pytest.mark.parametrize("length", [-1, 0, 1, sse.PIECE_BYTES - 1, sse.PIECE_BYTES, sse.PIECE_BYTES + 1, 10**6])
def test_large_events_go_out_in_parts(length: int) -> None:
    large = Event("values", bytes(65 + at % 26 for at in range(sse.PIECE_BYTES + length)), "2-0")
    events = [Event("a", b"1", "1-0"), large, Event("b", b"2", "3-0")]
    pieces = list(sse.pieces(events, with_ids=True))
    assert b"".join(pieces) == (
        b"event: a\r\ndata: 1\r\nid: 1-0\r\n\r\n"
        b"event: values\r\ndata: " + large.data + b"\r\nid: 2-0\r\n\r\n"
        b"event: b\r\ndata: 2\r\nid: 3-0\r\n\r\n"
    )
    assert max(map(len, pieces)) < sse.PIECE_BYTES + 200


def test_a_heartbeat_is_a_comment() -> None:
    assert sse.HEARTBEAT == b": heartbeat\r\n\r\n"
