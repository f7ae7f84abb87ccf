"""The official client of the Agent-to-Agent protocol, unmodified, against the real ``dev`` command: 1.0, and 0.3 as the client speaks it to
agents that offer nothing newer."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.helpers import get_artifact_text, get_message_text
from a2a.types import (
    AgentCard,
    AuthenticationInfo,
    CancelTaskRequest,
    DeleteTaskPushNotificationConfigRequest,
    GetExtendedAgentCardRequest,
    GetTaskPushNotificationConfigRequest,
    GetTaskRequest,
    ListTaskPushNotificationConfigsRequest,
    ListTasksRequest,
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskPushNotificationConfig,
    TaskState,
)
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from agents import PATIENCE, Receiver, path_of, receiver
from dev_server import DevServer
from langgraph_sdk.client import LangGraphClient
from workload import assert_invariants

pytestmark = pytest.mark.timeout(180)

Agent = Callable[..., Any]


@pytest.fixture(params=["1.0", "0.3"])
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
async def http(agents_server: DevServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=agents_server.url, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def agent(http: httpx.AsyncClient, agents_server: DevServer, version: str) -> Agent:
    """``await agent("talks")``: a client of that graph's assistant."""

    async def connect(graph: str, *, streaming: bool = True) -> Client:
        card = await card_of(http, agents_server.url, graph)
        for interface in [each for each in card.supported_interfaces if each.protocol_version != version]:
            card.supported_interfaces.remove(interface)
        return ClientFactory(ClientConfig(httpx_client=http, streaming=streaming)).create(card)

    return connect


@pytest.fixture
def notified() -> Any:
    with receiver() as found:
        yield found


async def card_of(http: httpx.AsyncClient, url: str, graph: str) -> AgentCard:
    return await A2ACardResolver(http, url, path_of(graph)).get_agent_card()


def asking(*texts: str, **more: Any) -> SendMessageRequest:
    parts = [Part(text=text) for text in texts]
    return SendMessageRequest(message=Message(role=Role.ROLE_USER, message_id=str(uuid.uuid4()), parts=parts, **more))


async def told(events: AsyncIterator[StreamResponse]) -> list[StreamResponse]:
    return [event async for event in events]


async def task_of(client: Client, request: SendMessageRequest) -> Task:
    (answer,) = await told(client.send_message(request))
    return answer.task


async def test_the_card_is_found_where_agents_look_for_it(http: httpx.AsyncClient, agents_server: DevServer) -> None:
    at_home = await card_of(http, agents_server.url, "talks")
    assistant_id = path_of("talks").removeprefix("/a2a/")
    resolver = A2ACardResolver(http, agents_server.url)
    well_known = await resolver.get_agent_card(f".well-known/agent-card.json?assistant_id={assistant_id}")
    assert well_known == at_home
    assert at_home.name == "talks"
    assert at_home.capabilities.streaming
    assert at_home.capabilities.push_notifications
    assert [interface.url for interface in at_home.supported_interfaces] == [agents_server.url + path_of("talks")] * 2
    # the newest that both speak
    chosen = ClientFactory(ClientConfig(httpx_client=http)).create(at_home)
    assert type(chosen._transport).__name__ == "JsonRpcTransport"


async def test_an_answer_grows_word_by_word(agent: Agent) -> None:
    first, *updates, artifact, end = await told((await agent("talks")).send_message(asking("hello")))
    assert first.task.status.state == TaskState.TASK_STATE_SUBMITTED
    assert [get_message_text(message) for message in first.task.history] == ["hello"]
    texts = [get_message_text(update.status_update.status.message) for update in updates]
    assert texts
    assert texts == sorted(texts, key=len)
    assert all("one two three".startswith(text) for text in texts)
    assert get_artifact_text(artifact.artifact_update.artifact) == "one two three"
    assert end.status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert {end.status_update.task_id, artifact.artifact_update.task_id} == {first.task.id}


async def test_an_answer_at_once_and_a_conversation(agent: Agent, version: str) -> None:
    client = await agent("echoes", streaming=False)
    first = await task_of(client, asking("one"))
    second = await task_of(client, asking("two", context_id=first.context_id))
    assert second.context_id == first.context_id
    assert second.id != first.id
    assert second.status.state == TaskState.TASK_STATE_COMPLETED
    assert len(second.history) == 4
    assert [message.task_id for message in second.history] == [first.id, first.id, second.id, second.id]
    again = await client.get_task(GetTaskRequest(id=first.id))
    assert len(again.history) == 2
    assert get_artifact_text(again.artifacts[0]) == get_artifact_text(first.artifacts[0])
    short = await client.get_task(GetTaskRequest(id=second.id, history_length=1))
    assert len(short.history) == 1
    if version == "1.0":  # the client of 0.3 has no such call
        listed = await client.list_tasks(ListTasksRequest(context_id=first.context_id, page_size=1))
        assert ([task.id for task in listed.tasks], listed.total_size) == ([second.id], 2)
        rest = await client.list_tasks(
            ListTasksRequest(context_id=first.context_id, page_size=1, page_token=listed.next_page_token)
        )
        assert ([task.id for task in rest.tasks], rest.next_page_token) == ([first.id], "")


async def test_files_and_data(agent: Agent) -> None:
    client = await agent("echoes", streaming=False)
    request = asking("look")
    picture = Part(url="https://example.com/cat.png", media_type="image/png", filename="cat.png")
    request.message.parts.append(picture)
    request.message.parts.append(Part(raw=b"hi", media_type="application/pdf"))
    data = Part()
    data.data.struct_value.update({"order": {"size": "large"}})
    request.message.parts.append(data)
    task = await task_of(client, request)
    said = get_artifact_text(task.artifacts[0])
    assert '"order": {"size": "large"}' in said
    assert '"type": "image"' in said
    assert '"base64": "aGk="' in said
    _text, picture_again, document = task.history[0].parts
    assert picture_again.url == "https://example.com/cat.png"
    assert picture_again.filename == "cat.png"
    assert document.raw == b"hi"


async def test_a_question_and_its_answer_are_one_task(agent: Agent) -> None:
    client = await agent("asks")
    *_, question, end = await told(client.send_message(asking("book")))
    assert end.status_update.status.state == TaskState.TASK_STATE_INPUT_REQUIRED
    asked = question.artifact_update.artifact.parts[0].data.struct_value
    assert asked["value"]["question"] == "Which city?"
    task_id, context_id = end.status_update.task_id, end.status_update.context_id
    *_, artifact, end = await told(client.send_message(asking("Rome", task_id=task_id, context_id=context_id)))
    assert end.status_update.task_id == task_id
    assert end.status_update.status.state == TaskState.TASK_STATE_COMPLETED
    assert get_artifact_text(artifact.artifact_update.artifact) == "Flying to Rome"
    with pytest.raises(UnsupportedOperationError):
        await told(client.send_message(asking("Paris", task_id=task_id)))


async def test_a_stream_is_taken_up_again(agent: Agent, tmp_path: Path) -> None:
    client = await agent("waits")
    stream = client.send_message(asking(str(tmp_path / "go")))
    task_id = ""
    async for event in stream:
        task_id = task_id or event.task.id
        if event.HasField("status_update"):
            break
    await stream.aclose()
    again = client.subscribe(SubscribeToTaskRequest(id=task_id))
    first = await anext(again)
    assert first.task.id == task_id
    assert first.task.status.state == TaskState.TASK_STATE_WORKING
    (tmp_path / "go").touch()
    *updates, artifact, end = await told(again)
    # what was said before counts too; how much of it is told at once depends on when it came
    said = [get_message_text(update.status_update.status.message) for update in updates]
    assert said[0].startswith("one")
    assert all("one two three".startswith(text.rstrip()) for text in said if text != "waited")
    assert get_artifact_text(artifact.artifact_update.artifact) == "waited"
    assert end.status_update.status.state == TaskState.TASK_STATE_COMPLETED
    with pytest.raises(UnsupportedOperationError):
        await told(client.subscribe(SubscribeToTaskRequest(id=task_id)))


async def test_a_task_is_canceled(agent: Agent, tmp_path: Path) -> None:
    client = await agent("waits", streaming=False)
    request = asking(str(tmp_path / "never"))
    request.configuration.CopyFrom(SendMessageConfiguration(return_immediately=True))
    task = await task_of(client, request)
    assert task.status.state in (TaskState.TASK_STATE_SUBMITTED, TaskState.TASK_STATE_WORKING)
    canceled = await client.cancel_task(CancelTaskRequest(id=task.id))
    assert canceled.status.state == TaskState.TASK_STATE_CANCELED
    with pytest.raises(TaskNotCancelableError):
        await client.cancel_task(CancelTaskRequest(id=task.id))
    assert (await client.get_task(GetTaskRequest(id=task.id))).status.state == TaskState.TASK_STATE_CANCELED
    with pytest.raises(TaskNotFoundError):
        await client.get_task(GetTaskRequest(id="nothing"))


async def test_a_failed_task_says_so(agent: Agent) -> None:
    task = await task_of(await agent("fails", streaming=False), asking("x"))
    assert task.status.state == TaskState.TASK_STATE_FAILED
    assert get_message_text(task.status.message).startswith("Error executing assistant: ValueError")


async def test_notifications(agent: Agent, notified: Receiver, version: str) -> None:
    client = await agent("asks", streaming=False)
    request = asking("book")
    first = TaskPushNotificationConfig(id="first", url=notified.url, token="secret-of-mine")
    first.authentication.CopyFrom(AuthenticationInfo(scheme="Bearer", credentials="of-the-receiver"))
    request.configuration.task_push_notification_config.CopyFrom(first)
    task = await task_of(client, request)
    headers, body = notified.at_least(1)[0]
    assert headers["x-a2a-notification-token"] == "secret-of-mine"
    assert headers["authorization"] == "Bearer of-the-receiver"
    asked = body["task"] if version == "1.0" else body
    assert asked["id"] == task.id
    assert asked["status"]["state"] in ("input-required", "TASK_STATE_INPUT_REQUIRED")

    second = TaskPushNotificationConfig(task_id=task.id, id="second", url=f"{notified.url}/2")
    made = await client.create_task_push_notification_config(second)
    assert (made.task_id, made.id, made.url) == (task.id, "second", second.url)
    listed = await client.list_task_push_notification_configs(ListTaskPushNotificationConfigsRequest(task_id=task.id))
    assert [config.id for config in listed.configs] == ["first", "second"]
    assert listed.configs[0].token == "secret-of-mine"
    assert not listed.configs[0].authentication.credentials
    got = await client.get_task_push_notification_config(
        GetTaskPushNotificationConfigRequest(task_id=task.id, id="second")
    )
    assert got.url == second.url
    await client.delete_task_push_notification_config(
        DeleteTaskPushNotificationConfigRequest(task_id=task.id, id="second")
    )
    with pytest.raises(TaskNotFoundError):
        await client.get_task_push_notification_config(
            GetTaskPushNotificationConfigRequest(task_id=task.id, id="second")
        )
    await task_of(client, asking("Rome", task_id=task.id))
    _, body = notified.at_least(2)[1]
    done = body["task"] if version == "1.0" else body
    assert done["status"]["state"] in ("completed", "TASK_STATE_COMPLETED")
    assert done["artifacts"][0]["parts"] == [{"kind": "text", "text": "Flying to Rome"}]


async def test_the_extended_card(agent: Agent) -> None:
    client = await agent("talks")
    card = await client.get_extended_agent_card(GetExtendedAgentCardRequest())
    assert card.name == "talks"


async def test_nothing_is_left_behind(agents_server: DevServer) -> None:
    sdk: LangGraphClient = agents_server.client()
    async with sdk:
        found = await sdk.http.get("/ok")
    assert found["ok"]
    await assert_invariants(agents_server.database_uri, worker=True)
