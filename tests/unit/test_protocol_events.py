"""Protocol v2 out of logs: what each entry becomes, and that every reader makes the same of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from thread_logs import RunLog

from langgraph_serverless.domain.events import GAP, Event
from langgraph_serverless.domain.protocol_events import ProtocolEvent, ThreadTranslator
from langgraph_serverless.domain.thread_events import ThreadEvent

CHILD = "child:25580dc6-e8b9-ade5-7877-066739353c94"
SLOTS = 16


def translated(entries: Sequence[ThreadEvent]) -> list[ProtocolEvent]:
    translator = ThreadTranslator()
    return [event for entry in entries for event in translator.events(entry)]


def documents(entries: Sequence[ThreadEvent]) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in translated(entries)]


def told(entries: Sequence[ThreadEvent]) -> list[tuple[Any, ...]]:
    """Number, method, namespace and data."""
    return [
        (found["seq"], found["method"], tuple(found["params"]["namespace"]), found["params"]["data"])
        for found in documents(entries)
    ]


def test_what_nodes_are_called_breaks_no_event() -> None:
    asked = {"value": "ok?", "id": "5c5f"}
    log = RunLog(protocol=False).begin().emit('values|a"b\\c:1', {"__interrupt__": [asked]})
    ids = [found["event_id"] for found in documents(log.entries) if found["method"] == "input.requested"]
    assert ids == [f'synth:{log.run.run_id}:input|a"b\\c:1|5c5f']


def test_a_protocol_run() -> None:
    log = RunLog(base=40).begin().say("values", {"a": 1}).say("values", {"b": 2}, [CHILD])
    log.say("updates", {"b": 2}, node="one").say("custom", {"name": "n", "payload": 1}).end()
    events = documents(log.entries)
    name = f"synth:{log.run.run_id}:lc||"
    assert events == [
        {
            "type": "event",
            "event_id": f"{name}running",
            "seq": 41,
            "method": "lifecycle",
            "params": {"namespace": [], "timestamp": 1001, "data": {"event": "running", "graph_name": "graph"}},
        },
        {
            "type": "event",
            "event_id": "1002-0",
            "seq": 42,
            "method": "values",
            "params": {"namespace": [], "timestamp": 1001, "data": {"a": 1}},
        },
        {
            "type": "event",
            "event_id": "1003-0",
            "seq": 43,
            "method": "values",
            "params": {"namespace": [CHILD], "timestamp": 1002, "data": {"b": 2}},
        },
        {
            "type": "event",
            "event_id": "1004-0",
            "seq": 44,
            "method": "updates",
            "params": {"namespace": [], "timestamp": 1003, "data": {"b": 2}, "node": "one"},
        },
        {
            "type": "event",
            "event_id": "1005-0",
            "seq": 45,
            "method": "custom",
            "params": {"namespace": [], "timestamp": 1004, "data": {"name": "n", "payload": 1}},
        },
        {
            "type": "event",
            "event_id": f"{name}completed",
            "seq": 46,
            "method": "lifecycle",
            "params": {"namespace": [], "timestamp": 1006, "data": {"event": "completed", "graph_name": "graph"}},
        },
    ]
    assert log.after == 46
    assert [event.namespace for event in translated(log.entries)][2] == (CHILD,)
    assert translated(log.entries)[4].custom_name == "n"


def test_how_a_run_ends() -> None:
    def ending(status: str, output: Any) -> Any:
        return told(RunLog().begin().end(status, output).entries)[-1][-1]

    graph = {"graph_name": "graph"}
    assert ending("success", {"a": {"__interrupt__": 1}}) == {"event": "completed", **graph}
    assert ending("success", {"__interrupt__": []}) == {"event": "interrupted", **graph}
    assert ending("interrupted", None) == {"event": "interrupted", **graph}
    assert ending("rollback", None) == {"event": "interrupted", **graph}
    error = {"__error__": {"error": "Boom", "message": "An internal error occurred"}}
    failed = {"event": "failed", **graph, "error": "An internal error occurred"}
    assert ending("error", error) == failed
    assert ending("timeout", None) == failed


def test_what_is_no_event_of_the_protocol_is_passed_over_and_counted() -> None:
    log = RunLog().begin().emit("error", {"error": "E", "message": "m"}).emit("values", {"raw": 1}).end("error")
    assert [event[:2] for event in told(log.entries)] == [(1, "lifecycle"), (4, "lifecycle")]
    assert told([ThreadEvent(None, Event("state_update", b"{}", "1-0"))]) == []


def test_a_second_attempt_runs_once_more_under_another_id() -> None:
    log = RunLog().begin().gap().begin(2).end()
    assert [(event["event_id"], event["seq"]) for event in documents(log.entries)][:2] == [
        (f"synth:{log.run.run_id}:lc||running", 1),
        ("1003-0", 3),
    ]


def test_a_gap_is_made_good_by_the_state() -> None:
    message = {
        "type": "human",
        "content": "hi",
        "additional_kwargs": {},
        "response_metadata": {},
        "name": None,
        "id": "h",
    }
    output = {"messages": [message], "__interrupt__": [{"id": "i", "value": 1}]}
    log = RunLog().begin().gap().say("values", {"a": 1}).gap().end("success", output)
    assert told(log.entries)[1:] == [
        (3, "values", (), {"a": 1}),
        (4, "values", (), {"messages": [{"type": "human", "content": "hi", "id": "h"}]}),
        (5, "lifecycle", (), {"event": "interrupted", "graph_name": "graph"}),
    ]
    # a run that has left an error says so, and no state
    assert [event[1] for event in told(RunLog().begin().gap().end("error").entries)] == ["lifecycle"] * 2


def test_a_reader_that_was_cut_off_gets_the_state_too() -> None:
    log = RunLog().begin().say("values", {"a": 1}).say("values", {"a": 2}).gap(b"cut").end("success", {"a": 2})
    (metadata, first, *rest) = log.entries
    cut = [ThreadEvent(log.run, Event(GAP, b"")), *rest]
    assert [event[:2] for event in told(cut)] == [(3, "values"), (4, "values"), (5, "lifecycle")]
    assert told([metadata, first, *rest[:-2], rest[-1]])[-2:][0][:2] == (3, "values")


def test_a_run_of_the_legacy_endpoints() -> None:
    log = RunLog(base=100, protocol=False).begin()
    log.emit("values", {"messages": [{"type": "ai", "content": "", "tool_calls": [], "id": "m"}]})
    log.emit("tasks", {"id": "25580dc6-e8b9-ade5-7877-066739353c94", "name": "child", "input": {}, "triggers": []})
    log.emit(f"updates|{CHILD}", {"one": {"a": 1}, "two": None})
    log.emit("custom", 3)
    log.emit(
        "checkpoints", {"config": {"configurable": {"checkpoint_id": "c"}}, "metadata": {"step": 1, "source": "loop"}}
    )
    log.emit("tasks", {"id": CHILD[6:], "name": "child", "error": None, "result": {"a": 1}, "interrupts": []})
    asked = {"value": "ok?", "id": "5c5f", "response_schema": None}
    log.emit("updates", {"__interrupt__": [asked]})
    log.emit("values", {"a": 1, "__interrupt__": [asked]}).emit("debug", {}).emit("events", {})
    log.end("success", {"a": 1, "__interrupt__": [asked]})
    found = told(log.entries)
    assert [(seq - 101, method, namespace) for seq, method, namespace, _ in found] == [
        (0, "lifecycle", ()),
        (SLOTS, "values", ()),
        (2 * SLOTS, "tasks", ()),
        (3 * SLOTS, "lifecycle", (CHILD,)),
        (3 * SLOTS + 1, "updates", (CHILD,)),
        (3 * SLOTS + 2, "updates", (CHILD,)),
        (4 * SLOTS, "custom", ()),
        (5 * SLOTS, "checkpoints", ()),
        (6 * SLOTS, "tasks", ()),
        (6 * SLOTS + 1, "lifecycle", (CHILD,)),
        (7 * SLOTS, "input.requested", ()),
        (8 * SLOTS + 1, "values", ()),
        (11 * SLOTS + SLOTS - 1, "lifecycle", ()),
    ]
    data = [event[-1] for event in found]
    assert data[1] == {"messages": [{"type": "ai", "content": "", "id": "m"}]}
    assert data[3] == {"event": "started", "namespace": [CHILD], "graph_name": "child", "trigger_call_id": CHILD[6:]}
    assert (data[4], data[5]) == ({"a": 1}, None)
    assert documents(log.entries)[4]["params"]["node"] == "one"
    assert data[6:8] == [{"payload": 3}, {"id": "c", "step": 1, "source": "loop"}]
    assert data[9:12] == [
        {"event": "completed", "graph_name": "child"},
        {"interrupt_id": "5c5f", "payload": "ok?"},
        {"a": 1},
    ]
    identity = [event["event_id"] for event in documents(log.entries)]
    assert identity[4:6] == ["1004-0.1", "1004-0.2"]
    assert identity[10] == f"synth:{log.run.run_id}:input||5c5f"


def chunk(message_id: str, **fields: Any) -> list[Any]:
    empty = {"content": "", "type": "AIMessageChunk", "id": message_id, "tool_call_chunks": [], "response_metadata": {}}
    return [{**empty, **fields}, {"langgraph_node": "model"}]


def test_chunks_of_models_become_content_blocks() -> None:
    log = RunLog(protocol=False).begin()
    log.emit("messages", chunk("m", response_metadata={"model_provider": "fake"}))
    log.emit("messages", chunk("m", content=[{"type": "thinking", "thinking": "hm", "index": 0}]))
    log.emit("messages", [{"type": "human", "content": "hi", "id": "h"}, {}])
    log.emit("messages", chunk("m", content=[{"type": "text", "text": "he", "index": 1}]))
    log.emit(f"messages|{CHILD}", chunk("n", content="other"))
    log.emit("messages", chunk("m", content=[{"type": "text", "text": "llo", "index": 1}]))
    call = {"type": "tool_call_chunk", "id": "c1", "name": "add", "args": '{"a":', "index": 2}
    log.emit("messages", chunk("m", tool_call_chunks=[call]))
    call = {"type": "tool_call_chunk", "id": None, "name": None, "args": " 1}", "index": 2}
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    log.emit("messages", chunk("m", tool_call_chunks=[call], usage_metadata=usage, chunk_position="last"))
    log.end()
    found = [data for _, method, namespace, data in told(log.entries) if method == "messages" and not namespace]
    assert found == [
        {
            "event": "message-start",
            "role": "ai",
            "id": "m",
            "metadata": {"provider": "fake", "langgraph_node": "model"},
        },
        {"event": "content-block-start", "index": 0, "content": {"type": "reasoning", "reasoning": ""}},
        {"event": "content-block-delta", "index": 0, "delta": {"type": "reasoning-delta", "reasoning": "hm"}},
        {"event": "content-block-start", "index": 1, "content": {"type": "text", "text": ""}},
        {"event": "content-block-delta", "index": 1, "delta": {"type": "text-delta", "text": "he"}},
        {"event": "content-block-delta", "index": 1, "delta": {"type": "text-delta", "text": "llo"}},
        {
            "event": "content-block-start",
            "index": 2,
            "content": {"type": "tool_call_chunk", "id": "c1", "name": "add", "args": "", "index": 2},
        },
        {"event": "content-block-delta", "index": 2, "delta": {"type": "tool-call-delta", "args": '{"a":'}},
        {"event": "content-block-delta", "index": 2, "delta": {"type": "tool-call-delta", "args": " 1}"}},
        {"event": "content-block-finish", "index": 0, "content": {"type": "reasoning", "reasoning": "hm"}},
        {"event": "content-block-finish", "index": 1, "content": {"type": "text", "text": "hello"}},
        {
            "event": "content-block-finish",
            "index": 2,
            "content": {"type": "tool_call", "id": "c1", "name": "add", "args": {"a": 1}},
        },
        {"event": "message-finish", "usage": usage, "metadata": {"model_provider": "fake"}},
    ]
    # what is left open ends with the run
    assert [data["event"] for _, method, ns, data in told(log.entries) if ns and method == "messages"][
        -1
    ] == "message-finish"


def test_arguments_that_are_no_json() -> None:
    call = {"id": "c", "name": "add", "args": '{"a":', "index": 0}
    log = RunLog(protocol=False).emit("messages", chunk("m", tool_call_chunks=[call], chunk_position="last"))
    assert told(log.entries)[-2][-1]["content"] == {
        "type": "invalid_tool_call",
        "id": "c",
        "name": "add",
        "args": '{"a":',
        "error": "Failed to parse tool call arguments as JSON",
    }


namespaces = st.sampled_from(["", f"|{CHILD}", f"|{CHILD}|inner:1", "|other:2"])
interrupts = st.lists(st.builds(lambda i: {"id": f"i{i}", "value": i}, st.integers(0, 3)), max_size=2)


def _chunks() -> st.SearchStrategy[tuple[str, Any]]:
    calls = st.lists(
        st.builds(
            lambda i, a: {"id": f"c{i}", "name": "t", "args": a, "index": i},
            st.integers(0, 2),
            st.sampled_from(["{", "}", ""]),
        ),
        max_size=2,
    )
    parts = st.one_of(
        st.text(max_size=3),
        st.lists(st.sampled_from([{"type": "text", "text": "x"}, {"type": "image", "url": "u"}, "y"]), max_size=2),
    )
    return st.builds(
        lambda i, content, c, last: ("messages", chunk(f"m{i}", content=content, tool_call_chunks=c, **last)),
        st.integers(0, 2),
        parts,
        calls,
        st.sampled_from([{}, {}, {"chunk_position": "last"}]),
    )


entries = st.one_of(
    st.builds(lambda asked: ("values", {"a": 1, **({"__interrupt__": asked} if asked else {})}), interrupts),
    st.builds(
        lambda asked: ("updates", {"n": {"a": 1}, "m": None, **({"__interrupt__": asked} if asked else {})}), interrupts
    ),
    st.just(("custom", {"x": 1})),
    st.just(("tasks", {"id": CHILD[6:], "result": {}, "interrupts": []})),
    st.just(("debug", {})),
    _chunks(),
)
runs = st.lists(
    st.tuples(st.booleans(), st.lists(st.tuples(st.one_of(entries, st.none()), namespaces), max_size=12)), max_size=3
)


def logs(wanted: Any) -> list[RunLog]:
    made: list[RunLog] = []
    for protocol, content in wanted:
        last = made[-1] if made else None
        log = RunLog(base=last.after if last else 0, protocol=protocol, began=1000 * (len(made) + 1)).begin()
        for entry, namespace in content:
            if entry is None:
                log.gap().begin(2)
            elif protocol:
                log.say(entry[0], entry[1], namespace.split("|")[1:])
            else:
                log.emit(entry[0] + namespace, entry[1])
        made.append(log.gap().end("success", {"a": 1}) if any(e is None for e, _ in content) else log.end())
    return made


@given(runs)
@settings(max_examples=150, deadline=None)
def test_numbers_grow_and_ids_are_events_own(wanted: Any) -> None:
    events = translated([entry for log in logs(wanted) for entry in log.entries])
    numbers = [event.seq for event in events]
    assert numbers == sorted(set(numbers))
    assert len({event.event_id for event in events}) == len(events)
    for event in events:
        document = json.loads(event.data)
        assert (document["seq"], document["event_id"]) == (event.seq, event.event_id)
        assert (document["method"], tuple(document["params"]["namespace"])) == (event.method, event.namespace)
        assert list(document) == ["type", "event_id", "seq", "method", "params"]


@given(runs, st.data())
@settings(max_examples=150, deadline=None)
def test_who_begins_at_a_gap_has_the_same_events(wanted: Any, data: st.DataObject) -> None:
    """A log that was lost begins anew with its gap marker; whoever has read what was lost is told the same from there on."""
    made = logs(wanted)
    whole = [entry for log in made for entry in log.entries]
    marks = [at for at, entry in enumerate(whole) if entry.event.name == GAP]
    if not marks:
        return
    rest = whole[data.draw(st.sampled_from(marks)) :]
    before = {event.seq: event for event in translated(whole)}
    for event in translated(rest):
        # what a run asks is told once; who has missed it is told when it is asked again, which is nobody's number otherwise
        assert before[event.seq] == event if event.seq in before else event.method == "input.requested"


@given(runs, st.data(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_who_has_missed_something_is_told_nothing_else(wanted: Any, data: st.DataObject, marked: bool) -> None:
    """A log may have lost its beginning, or be cut while a slow reader is in the midst of it."""
    made = logs(wanted)
    if not made:
        return
    whole, log = [entry for log in made for entry in log.entries], data.draw(st.sampled_from(made))
    at = whole.index(log.entries[0])
    missed = data.draw(st.integers(1, len(log.entries) - 1))
    read = data.draw(st.integers(0, missed)) if marked else 0
    marker = [ThreadEvent(log.run, Event(GAP, b""))] if marked else []
    before = {event.seq: event for event in translated(whole)}
    for event in translated([*whole[: at + read], *marker, *whole[at + missed :]]):
        state = f"synth:{log.run.run_id}:values"
        known = before.get(event.seq)
        assert (
            known == event
            or event.event_id == state
            or (known is None and event.method in {"input.requested", "values"})
        )
