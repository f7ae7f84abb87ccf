"""Frames, byte for byte as in the wire contract."""

from __future__ import annotations

from langgraph_serverless.domain.events import Event
from langgraph_serverless.streaming import sse


def test_frame_has_event_data_id_in_this_order_with_crlf() -> None:
    event = Event("metadata", b'{"run_id":"01a2","attempt":1}', "1795328168774-0")
    assert sse.frame(event, with_id=True) == (
        b'event: metadata\r\ndata: {"run_id":"01a2","attempt":1}\r\nid: 1795328168774-0\r\n\r\n'
    )


def test_id_is_left_out_unless_asked_for() -> None:
    assert sse.frame(Event("values", b"{}", "1-0"), with_id=False) == b"event: values\r\ndata: {}\r\n\r\n"


def test_an_event_that_is_in_no_log_has_no_id() -> None:
    assert sse.frame(Event("values", b"{}"), with_id=True) == b"event: values\r\ndata: {}\r\n\r\n"


def test_data_is_passed_on_as_it_is() -> None:
    data = '{"text":"zwölf \\n Boxkämpfer"}'.encode()
    assert (
        sse.frame(Event("values|child:1", data), with_id=False)
        == b"event: values|child:1\r\ndata: " + data + b"\r\n\r\n"
    )


def test_frames_are_joined() -> None:
    events = [Event("a", b"1", "1-0"), Event("b", b"2", "2-0")]
    assert sse.frames(events, with_ids=True) == b"".join(sse.frame(event, with_id=True) for event in events)


def test_heartbeat_is_a_comment() -> None:
    assert sse.HEARTBEAT == b": heartbeat\r\n\r\n"
