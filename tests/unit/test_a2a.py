"""The Agent-to-Agent protocol's mapping: messages, tasks, what is said, notifications, cards, addresses."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph_serverless.domain.a2a import (
    Spoken,
    Task,
    TaskRef,
    TaskState,
    View,
    spoken_frame,
    state_of,
    task_document,
    update_frames,
)
from langgraph_serverless.domain.a2a_card import agent_card
from langgraph_serverless.domain.a2a_messages import Dialect, parts_of, read_message
from langgraph_serverless.domain.a2a_push import notification, read_config
from langgraph_serverless.domain.assistants import Assistant
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.errors import RpcError
from langgraph_serverless.http.public_url import public_url

REF = TaskRef(uuid.UUID(int=1), uuid.UUID(int=2))
LATER = uuid.UUID(int=3)
THEN = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MESSAGES = [
    {"type": "human", "id": "m1", "content": "hello"},
    {"type": "ai", "id": "a0", "content": "", "tool_calls": [{"name": "add"}]},
    {"type": "tool", "id": "t1", "content": "3"},
    {"type": "ai", "id": "a1", "content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "3"}]},
]


def task(**more: Any) -> Task:
    given: dict[str, Any] = {
        "ref": REF,
        "assistant_id": uuid.UUID(int=9),
        "run_id": REF.run_id,
        "state": TaskState.COMPLETED,
        "at": THEN,
        "messages": MESSAGES,
        "turns": [("m1", REF.run_id)],
    }
    return Task(**given | more)


def said(parts: list[Any], **more: Any) -> Any:
    return read_message({"message": {"role": "user", "messageId": "m1", "parts": parts, **more}})


# -- messages ------------------------------------------------------------------------------------------------------


def test_text_becomes_the_content_of_a_human_message() -> None:
    message = said([{"kind": "text", "text": "a"}, {"text": "b"}])
    assert message.input == {"messages": [{"role": "user", "content": "a\nb", "id": "m1"}]}
    assert message.answer == "a\nb"


def test_files_become_content_blocks_in_either_spelling() -> None:
    old = said(
        [
            {"kind": "text", "text": "look"},
            {"kind": "file", "file": {"uri": "https://x/y.png", "mimeType": "image/png", "name": "y"}},
            {"kind": "file", "file": {"bytes": "aGk=", "mimeType": "text/plain"}},
        ]
    )
    new = said(
        [
            {"text": "look"},
            {"url": "https://x/y.png", "mediaType": "image/png", "filename": "y"},
            {"raw": "aGk=", "mediaType": "text/plain"},
        ]
    )
    assert old.content == new.content
    assert old.content == [
        {"type": "text", "text": "look"},
        {"type": "image", "url": "https://x/y.png", "mime_type": "image/png", "extras": {"filename": "y"}},
        {"type": "file", "base64": "aGk=", "mime_type": "text/plain"},
    ]


def test_data_are_fields_of_the_input_and_answers() -> None:
    message = said([{"kind": "data", "data": {"a": 1}}, {"kind": "data", "data": {"b": 2}}])
    assert message.input == {"a": 1, "b": 2}
    assert message.answer == {"a": 1, "b": 2}
    both = said([{"kind": "data", "data": {"messages": [], "a": 1}}, {"kind": "text", "text": "t"}])
    assert both.input["messages"][0]["content"] == "t"
    assert both.answer == {"messages": [], "a": 1, "text": "t"}


@pytest.mark.parametrize(
    ("params", "number"),
    [
        ({}, -32602),
        ({"message": 3}, -32602),
        ({"message": {"parts": [{"text": "x"}]}}, -32602),
        ({"message": {"messageId": "m", "parts": []}}, -32602),
        ({"message": {"messageId": "m", "parts": "x"}}, -32602),
        ({"message": {"messageId": "m", "role": "agent", "parts": [{"text": "x"}]}}, -32602),
        ({"message": {"messageId": "m", "contextId": 3, "parts": [{"text": "x"}]}}, -32602),
        ({"message": {"messageId": "m", "taskId": [], "parts": [{"text": "x"}]}}, -32602),
        ({"message": {"messageId": "m", "parts": [3]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"kind": "zzz"}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"kind": "data", "text": "x"}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"text": 3}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"text": "x", "data": {}}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"kind": "data", "data": 3}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"kind": "file", "file": {}}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"kind": "file", "file": "x"}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"file": {"uri": "u", "bytes": "aGk="}}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"file": {"bytes": "***"}}]}}, -32005),
        ({"message": {"messageId": "m", "parts": [{"url": 3}]}}, -32005),
    ],
)
def test_what_is_no_message_is_refused(params: dict[str, Any], number: int) -> None:
    with pytest.raises(RpcError) as refused:
        read_message(params)
    assert refused.value.number == number


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["message", "messageId", "parts", "kind", "text", "file", "data", "url", "raw", "bytes", "uri"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_is_sent_is_a_message_or_refused(document: Any) -> None:
    for params in ({"message": document}, {"message": {"messageId": "m", "parts": [document]}}):
        try:
            message = read_message(params)
        except RpcError:
            continue
        json.dumps([message.input, message.answer])


@given(JSON)
def test_parts_can_be_made_of_whatever_a_model_says(content: Any) -> None:
    for dialect in Dialect:
        json.dumps(parts_of(content, dialect))


@given(JSON)
def test_whatever_is_sent_is_a_config_or_refused(document: Any) -> None:
    for dialect in Dialect:
        try:
            read_config({"url": "https://example.com", "authentication": document, "token": document}, dialect, "x")
        except RpcError:
            continue


# -- tasks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "more", "state"),
    [
        (RunStatus.PENDING, {}, TaskState.SUBMITTED),
        (RunStatus.PENDING, {"resuming": True}, TaskState.WORKING),
        (RunStatus.RUNNING, {}, TaskState.WORKING),
        (RunStatus.SUCCESS, {}, TaskState.COMPLETED),
        (RunStatus.SUCCESS, {"waiting": True}, TaskState.INPUT_REQUIRED),
        (RunStatus.ERROR, {"waiting": True}, TaskState.FAILED),
        (RunStatus.TIMEOUT, {}, TaskState.FAILED),
        (RunStatus.INTERRUPTED, {"waiting": True}, TaskState.CANCELED),
        (RunStatus.RUNNING, {"canceled": True}, TaskState.CANCELED),
        (RunStatus.SUCCESS, {"waiting": True, "canceled": True}, TaskState.CANCELED),
    ],
)
def test_the_state_of_a_task(status: RunStatus, more: dict[str, bool], state: TaskState) -> None:
    assert state_of(status, **{"resuming": False, "waiting": False, "canceled": False} | more) is state


@pytest.mark.parametrize("text", ["", ":", "x:y", str(uuid.uuid4()), f"{uuid.uuid4()}:", f"{uuid.uuid4()}:{'0' * 31}"])
def test_other_names_are_no_tasks(text: str) -> None:
    with pytest.raises(RpcError) as refused:
        TaskRef.parse(text)
    assert refused.value.number == -32001


def test_a_task_in_both_dialects() -> None:
    old = task_document(task(), View(dialect=Dialect.V03), told=False)
    assert old == {
        "kind": "task",
        "id": str(REF),
        "contextId": str(REF.thread_id),
        "status": {"state": "completed", "timestamp": "2026-01-02T03:04:05.678901+00:00"},
        "artifacts": [
            {
                "artifactId": old["artifacts"][0]["artifactId"],
                "name": "Assistant Response",
                "description": f"Response from assistant {uuid.UUID(int=9)}",
                "parts": [{"kind": "text", "text": "It is 3"}],
            }
        ],
        "history": [
            {
                "kind": "message",
                "role": role,
                "parts": [{"kind": "text", "text": text}],
                "messageId": message_id,
                "taskId": str(REF),
                "contextId": str(REF.thread_id),
            }
            for role, text, message_id in (("user", "hello", "m1"), ("agent", "It is 3", "a1"))
        ],
    }
    new = task_document(task(), View(dialect=Dialect.V1), told=False)
    assert new["status"]["state"] == "TASK_STATE_COMPLETED"
    assert [message["role"] for message in new["history"]] == ["ROLE_USER", "ROLE_AGENT"]
    assert new["artifacts"] == old["artifacts"]


def test_the_history_of_a_task_or_of_its_context() -> None:
    more = [*MESSAGES, {"type": "human", "id": "m2", "content": "and"}, {"type": "ai", "id": "a2", "content": "4"}]
    later = task(messages=more, turns=[("m1", REF.run_id), ("m2", LATER)], ref=TaskRef(REF.thread_id, LATER))

    def history(**view: Any) -> list[tuple[str, str]]:
        document = task_document(later, View(dialect=Dialect.V03, **view))
        return [(message["messageId"], message["taskId"][-1]) for message in document.get("history", [])]

    assert history() == [("m1", "2"), ("a1", "2"), ("m2", "3"), ("a2", "3")]
    assert history(task_only=True) == [("m2", "3"), ("a2", "3")]
    assert history(history_length=1) == [("a2", "3")]
    assert history(history_length=0) == []
    assert "history" not in task_document(later, View(dialect=Dialect.V03, history_length=0))


def test_what_a_graph_without_messages_has_made_are_data() -> None:
    (artifact,) = task_document(task(messages=(), output={"count": 2}), View(dialect=Dialect.V03))["artifacts"]
    assert artifact["parts"] == [{"kind": "data", "data": {"count": 2}}]
    silent = task_document(task(messages=MESSAGES[:1], output={"messages": MESSAGES[:1]}), View(dialect=Dialect.V03))
    assert silent["artifacts"] == []


def test_a_question() -> None:
    asked = task(state=TaskState.INPUT_REQUIRED, interrupts=[{"id": "i1", "value": "Which city?"}])
    document = task_document(asked, View(dialect=Dialect.V1))
    assert document["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert document["status"]["message"]["parts"] == [{"kind": "text", "text": "Which city?"}]
    assert document["artifacts"][0]["parts"] == [{"kind": "data", "data": {"id": "i1", "value": "Which city?"}}]


def test_updates_of_1_0_are_bare_and_wrapped() -> None:
    *_, end = update_frames(task(), Dialect.V1)
    assert end["kind"] == "status-update"
    assert end["final"] is True
    assert end["statusUpdate"]["status"] == end["status"]
    said_so_far = spoken_frame(REF, "a1", "It", THEN, Dialect.V03)
    assert "statusUpdate" not in said_so_far
    assert said_so_far["status"]["message"]["parts"] == [{"kind": "text", "text": "It"}]


# -- what is said --------------------------------------------------------------------------------------------------


def chunk(text: Any, message_id: str = "a1", kind: str = "AIMessageChunk") -> list[Any]:
    return [{"type": kind, "id": message_id, "content": text}, {}]


def test_what_is_said_grows() -> None:
    spoken = Spoken()
    assert [spoken.hear(chunk(text)) for text in ("one ", "", [{"type": "text", "text": "two"}])] == [True, False, True]
    assert (spoken.message_id, spoken.text) == ("a1", "one two")
    # the same message once more, whole
    assert not spoken.hear(chunk("one two", kind="ai"))
    assert spoken.hear(chunk("three", "a2", kind="ai"))
    assert spoken.text == "three"
    for nothing in (chunk("3", "t1", kind="tool"), chunk("hello", "m1", kind="human"), {}, [], [3], None):
        assert not spoken.hear(nothing)


def test_after_a_gap_nothing_half_is_told() -> None:
    spoken = Spoken()
    spoken.hear(chunk("one "))
    spoken.miss()
    assert not spoken.hear(chunk("three"))
    assert not spoken.hear(chunk("four"))
    assert spoken.hear(chunk("new", "a2"))
    assert spoken.text == "new"


# -- notifications -------------------------------------------------------------------------------------------------


def payload(**more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "run_id": str(LATER),
        "thread_id": str(REF.thread_id),
        "assistant_id": str(uuid.UUID(int=9)),
        "status": "success",
        "run_ended_at": "2026-01-02T03:04:05.678901+00:00",
        "values": {"messages": MESSAGES},
        "interrupts": {},
        "shown": {"token": "secret", "scheme": "Bearer", "credentials": "abc"},
        "a2a": {
            "task_id": str(REF.run_id),
            "config_id": "c",
            "dialect": "0.3",
            "waiting": False,
            "canceled": False,
            "turns": [["m1", str(REF.run_id)]],
        },
    }
    return given | more


def test_a_notification_is_the_task() -> None:
    body, headers = notification(payload())
    document = json.loads(body)
    assert document["id"] == str(REF)
    assert document["status"]["state"] == "completed"
    assert document["artifacts"][0]["parts"] == [{"kind": "text", "text": "It is 3"}]
    assert headers == {"X-A2A-Notification-Token": "secret", "Authorization": "Bearer abc"}
    new = payload()["a2a"] | {"dialect": "1.0", "waiting": True}
    asked = {"task": [{"id": "i1", "value": "Why?"}]}
    body, headers = notification(payload(a2a=new, interrupts=asked, shown={}))
    assert json.loads(body)["task"]["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
    assert headers == {}


@pytest.mark.parametrize("bad", ["a\r\nb: c", "", " a", "a\x00", "ü", 3, "x" * 5000])
def test_nothing_gets_into_a_header_unchecked(bad: Any) -> None:
    for config in (
        {"token": bad},
        {"authentication": {"scheme": "Bearer", "credentials": bad}},
        {"authentication": {"schemes": [bad], "credentials": "x"}},
    ):
        if bad == "":  # as good as none
            read_config({"url": "https://example.com", **config}, Dialect.V03, "x")
            continue
        with pytest.raises(RpcError):
            read_config({"url": "https://example.com", **config}, Dialect.V03, "x")


# -- cards and addresses -------------------------------------------------------------------------------------------


def test_a_card_says_how_to_authenticate() -> None:
    assistant = Assistant(
        assistant_id=uuid.UUID(int=9),
        graph_id="chat",
        name="chat",
        description=None,
        config={},
        context={},
        metadata={},
        version=1,
        created_at=THEN,
        updated_at=THEN,
    )
    schema = {"properties": {"messages": {}, "order": {}}, "required": ["messages"]}
    plain = agent_card(assistant, url="https://x/a2a/9", schema=schema, push=False)
    assert plain["description"] == "chat assistant"
    assert plain["capabilities"]["pushNotifications"] is False
    assert plain["skills"][0]["metadata"]["inputSchema"] == {
        "required": ["messages"],
        "properties": ["messages", "order"],
        "supportsA2A": True,
    }
    assert "securitySchemes" not in plain
    given = {
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        "security": [{"key": []}],
    }
    card = agent_card(assistant, url="https://x/a2a/9", schema=None, push=True, authentication=given)
    assert card["securitySchemes"] == given["securitySchemes"]
    assert card["security"] == given["security"]


@pytest.mark.parametrize(
    ("headers", "more", "url"),
    [
        ({"host": "api.example.com"}, {}, "http://api.example.com"),
        (
            {"host": "10.0.0.1:8000", "x-forwarded-proto": "https", "x-forwarded-host": "api.example.com"},
            {},
            "https://api.example.com",
        ),
        ({"host": "a", "x-forwarded-host": "b, c", "x-forwarded-prefix": "/agents/"}, {}, "http://b/agents"),
        ({"host": "a"}, {"root_path": "/api"}, "http://a/api"),
        ({"host": "a", "x-forwarded-prefix": "/api"}, {"root_path": "/api"}, "http://a/api"),
        ({"host": "a", "x-forwarded-prefix": "/v1"}, {"root_path": "/api"}, "http://a/v1/api"),
        ({"host": "a", "x-forwarded-host": 'evil/" onclick', "x-forwarded-prefix": "//evil"}, {}, "http://a"),
        ({"host": "a", "x-forwarded-proto": "javascript"}, {}, "http://a"),
        ({}, {"server": ("127.0.0.1", 8000)}, "http://127.0.0.1:8000"),
        ({"host": "[::1]:8000"}, {}, "http://[::1]:8000"),
        (
            {"host": "x.execute-api.eu-central-1.amazonaws.com", "x-forwarded-proto": "https"},
            {"aws.event": {"path": "/a2a/9", "requestContext": {"path": "/Prod/a2a/9"}}},
            "https://x.execute-api.eu-central-1.amazonaws.com/Prod",
        ),
    ],
)
def test_the_address_that_a_client_has_used(headers: dict[str, str], more: dict[str, Any], url: str) -> None:
    scope = {"type": "http", "scheme": "http", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    assert public_url(scope | more) == url
