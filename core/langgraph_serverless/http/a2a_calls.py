"""Calls of the Agent-to-Agent protocol: what each method takes, and the service behind it. Both dialects, told apart by their names.

An answer is a document; or, where the agent has to be waited for or listened to, pieces of one as they come.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain import a2a
from langgraph_serverless.domain.a2a import Task, first_frame, spoken_frame, task_document, update_frames
from langgraph_serverless.domain.a2a_card import agent_card
from langgraph_serverless.domain.a2a_messages import Dialect, Incoming, read_message
from langgraph_serverless.domain.a2a_push import PushConfig, read_config
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.ids import random_id
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import RpcError
from langgraph_serverless.http.responses import dump
from langgraph_serverless.http.schemas import a2a as wire
from langgraph_serverless.services.a2a import SendRequest
from langgraph_serverless.services.a2a_tasks import Updates
from langgraph_serverless.telemetry import logger

Document = dict[str, Any]
Frames = AsyncGenerator[Sequence[Event], None]
_FAULT = "Internal server error"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a method has led to, for whoever writes it: a result; a task to be waited for, or to be followed."""

    result: Any = None
    waiting: Callable[[], AsyncGenerator[bytes, None]] | None = None
    frames: Callable[[], Frames] | None = None


class Calls:
    """The calls of one request."""

    def __init__(
        self,
        container: ApiContainer,
        caller: Principal,
        assistant_id: str,
        *,
        url: str,
        request_id: str,
        history_scope: str,
    ) -> None:
        self._container = container
        self._caller = caller
        self._assistant_id = assistant_id
        self._url = url
        self._request_id = request_id
        self._history_scope = history_scope

    async def answer(self, method: str, call_id: Any, params: Mapping[str, Any]) -> Answer:
        """Carry out a call.

        Raises:
            RpcError, and what the services raise that has no number.
        """
        name, dialect = METHODS[method]
        call: Callable[..., Awaitable[Answer]] = getattr(self, name)
        return await call(_Call(call_id, dialect, params))

    # -- the agent -----------------------------------------------------------------------------------------------

    async def card(self) -> Document:
        """The assistant's card."""
        container = self._container
        assistant, schema = await container.a2a_tasks.agent(self._caller, self._assistant_id)
        auth = container.catalog.manifest.auth
        return agent_card(
            assistant,
            url=f"{self._url}/a2a/{assistant.assistant_id}",
            schema=schema,
            push=container.a2a_push.sends,
            authentication=auth.openapi if auth is not None else None,
        )

    async def extended_card(self, call: _Call) -> Answer:
        return Answer(await self.card())

    # -- messages ------------------------------------------------------------------------------------------------

    async def send(self, call: _Call) -> Answer:
        _, configuration, task = await self._send(call)
        view = wire.read_view(call.params, call.dialect, self._history_scope)
        service = self._container.a2a_tasks
        if configuration.get("blocking") is False or configuration.get("returnImmediately") is True:
            now = await service.left_by(self._caller, task)
            return Answer(first_frame(task_document(now, view, told=False, artifacts=None), call.dialect))

        def finished(task: Task) -> Document:
            return first_frame(task_document(task, view, told=False), call.dialect)

        return Answer(waiting=lambda: call.waited(service.wait(self._caller, task), finished))

    async def stream(self, call: _Call) -> Answer:
        message, _, task = await self._send(call)
        first = {
            "kind": "task",
            "id": str(task.ref),
            "contextId": str(task.ref.thread_id),
            "history": [_sent(message, task, call.dialect)],
            "status": a2a.status_document(task, call.dialect),
        }
        return self._followed(call, task, first)

    async def _send(self, call: _Call) -> tuple[Incoming, Mapping[str, Any], Task]:
        message = read_message(call.params)
        wire.read_view(call.params, call.dialect, self._history_scope)  # refused before anything is made
        configuration = wire.read_object(call.params, "configuration") or {}
        # as 0.3 calls it, 1.0, and drafts of it
        wanted = next(
            (
                configuration[name]
                for name in ("pushNotificationConfig", "taskPushNotificationConfig", "pushNotification")
                if configuration.get(name) is not None
            ),
            None,
        )
        push = read_config(wanted, call.dialect, str(random_id())) if wanted is not None else None
        request = SendRequest(
            message=message,
            context=wire.read_object(call.params, "context"),
            metadata=wire.read_object(call.params, "metadata"),
            push=push,
            request_id=self._request_id,
        )
        return message, configuration, await self._container.a2a.send(self._caller, self._assistant_id, request)

    # -- tasks ---------------------------------------------------------------------------------------------------

    async def get(self, call: _Call) -> Answer:
        view = wire.read_view(call.params, call.dialect, self._history_scope)
        task = await self._container.a2a_tasks.get(self._caller, self._assistant_id, call.params.get("id"))
        return Answer(task_document(task, view, artifacts=None if task.state.is_live else True))

    async def list(self, call: _Call) -> Answer:
        params = call.params
        view = wire.read_view(params, call.dialect, self._history_scope)
        sentence = f"pageSize must be an integer between 1 and {wire.LARGEST_PAGE}."
        limit = wire.read_number(params, "pageSize", least=1, most=wire.LARGEST_PAGE, sentence=sentence)
        offset = wire.read_offset(params)
        tasks, total = await self._container.a2a_tasks.list(
            self._caller,
            self._assistant_id,
            context_id=wire.read_text(params, "contextId"),
            state=wire.read_state(params),
            after=wire.read_time(params, "statusTimestampAfter"),
            limit=limit or wire.PAGE,
            offset=offset,
        )
        artifacts = params.get("includeArtifacts") is True
        end = offset + len(tasks)
        return Answer(
            {
                "tasks": [task_document(task, view, told=False, artifacts=artifacts) for task in tasks],
                "totalSize": total,
                "pageSize": len(tasks),
                "nextPageToken": str(end) if tasks and end < total else "",
            }
        )

    async def cancel(self, call: _Call) -> Answer:
        view = wire.read_view(call.params, call.dialect, self._history_scope)
        task = await self._container.a2a.cancel(self._caller, self._assistant_id, call.params.get("id"))
        return Answer(task_document(task, view, artifacts=None))

    async def subscribe(self, call: _Call) -> Answer:
        view = wire.read_view(call.params, call.dialect, self._history_scope)
        task = await self._container.a2a_tasks.subscribe(self._caller, self._assistant_id, call.params.get("id"))
        return self._followed(call, task, task_document(task, view, told=False))

    def _followed(self, call: _Call, task: Task, first: Document) -> Answer:
        updates = self._container.a2a_tasks.updates

        async def frames() -> Frames:
            yield [call.event(first_frame(first, call.dialect))]
            if not task.state.is_live:
                return  # it waits for its client
            async with aclosing(updates(self._caller, task)) as told:
                async for batch in told:
                    yield [call.event(frame) for each in batch for frame in call.frames(task, each)]

        return Answer(frames=lambda: call.told(frames()))

    # -- notifications -------------------------------------------------------------------------------------------

    async def set_push(self, call: _Call) -> Answer:
        given = call.params if call.dialect is Dialect.V1 else call.params.get("pushNotificationConfig")
        if isinstance(nested := call.params.get("config"), dict):  # as drafts of 1.0 have it
            given = nested
        config = read_config(given, call.dialect, str(random_id()))
        ref = await self._container.a2a_push.set(self._caller, self._assistant_id, call.params.get("taskId"), config)
        return Answer(config.document(ref))

    async def get_push(self, call: _Call) -> Answer:
        config_id = wire.read_text(call.params, "id" if call.dialect is Dialect.V1 else "pushNotificationConfigId")
        ref, config = await self._container.a2a_push.get(self._caller, self._assistant_id, call.named_task, config_id)
        return Answer(call.spelled(config).document(ref))

    async def list_pushes(self, call: _Call) -> Answer:
        ref, configs = await self._container.a2a_push.list(self._caller, self._assistant_id, call.named_task)
        documents = [call.spelled(config).document(ref) for config in configs]
        return Answer(documents if call.dialect is Dialect.V03 else {"configs": documents, "nextPageToken": ""})

    async def delete_push(self, call: _Call) -> Answer:
        name = "id" if call.dialect is Dialect.V1 else "pushNotificationConfigId"
        config_id = wire.read_text(call.params, name)
        if config_id is None:
            raise RpcError(a2a.INVALID_PARAMS, f"Missing required parameter: {name}")
        await self._container.a2a_push.delete(self._caller, self._assistant_id, call.named_task, config_id)
        return Answer(None if call.dialect is Dialect.V03 else {})


@dataclass(frozen=True, slots=True)
class _Call:
    """One call, and how its answers are written."""

    id: Any
    dialect: Dialect
    params: Mapping[str, Any]

    @property
    def named_task(self) -> object:
        """The task of a push notification config."""
        return self.params.get("taskId" if self.dialect is Dialect.V1 else "id")

    def spelled(self, config: PushConfig) -> PushConfig:
        """A config as this client reads them."""
        return PushConfig(
            config_id=config.config_id, url=config.url, dialect=self.dialect, token=config.token, scheme=config.scheme
        )

    def event(self, result: Document) -> Event:
        return Event("message", dump(answered(self.id, result)))

    def frames(self, task: Task, told: Any) -> Sequence[Document]:
        if isinstance(told, Task):
            return list(update_frames(told, self.dialect))
        return [spoken_frame(task.ref, told.message_id, told.text, told.at, self.dialect)]

    async def waited(self, updates: Updates, finished: Callable[[Task], Document]) -> AsyncGenerator[bytes, None]:
        """Newlines, and then the answer."""
        try:
            async with aclosing(updates):
                async for batch in updates:
                    if not batch:
                        yield b"\n"
                    for task in batch:
                        yield dump(answered(self.id, finished(cast(Task, task))))
        except Exception:
            logger.exception("A wait for a task failed", extra={"action": "a2a_wait"})
            yield dump(refused(self.id, a2a.INTERNAL_ERROR, _FAULT))

    async def told(self, frames: Frames) -> Frames:
        """Turns a failure into the stream's last frame: the response has begun."""
        async with aclosing(frames):
            try:
                async for batch in frames:
                    yield batch
            except Exception:
                logger.exception("A stream of a task failed", extra={"action": "a2a_stream"})
                yield [Event("message", dump(refused(self.id, a2a.INTERNAL_ERROR, _FAULT)))]


def answered(call_id: Any, result: Any) -> Document:
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def refused(call_id: Any, number: int, message: str) -> Document:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": number, "message": message}}


def _sent(message: Incoming, task: Task, dialect: Dialect) -> Document:
    """A client's own message, as it has sent it."""
    return {
        "kind": "message",
        "role": dialect.role("user"),
        "parts": list(message.parts),
        "messageId": message.message_id,
        "taskId": str(task.ref),
        "contextId": str(task.ref.thread_id),
    }


_V03, _V1 = Dialect.V03, Dialect.V1
#: A method's name to what carries it out, and how its client speaks.
METHODS: Mapping[str, tuple[str, Dialect]] = {
    "message/send": ("send", _V03),
    "message/stream": ("stream", _V03),
    "tasks/get": ("get", _V03),
    "tasks/list": ("list", _V03),
    "tasks/cancel": ("cancel", _V03),
    "tasks/resubscribe": ("subscribe", _V03),
    "tasks/pushNotificationConfig/set": ("set_push", _V03),
    "tasks/pushNotificationConfig/get": ("get_push", _V03),
    "tasks/pushNotificationConfig/list": ("list_pushes", _V03),
    "tasks/pushNotificationConfig/delete": ("delete_push", _V03),
    "agent/getAuthenticatedExtendedCard": ("extended_card", _V03),
    "SendMessage": ("send", _V1),
    "SendStreamingMessage": ("stream", _V1),
    "GetTask": ("get", _V1),
    "ListTasks": ("list", _V1),
    "CancelTask": ("cancel", _V1),
    "SubscribeToTask": ("subscribe", _V1),
    "CreateTaskPushNotificationConfig": ("set_push", _V1),
    "GetTaskPushNotificationConfig": ("get_push", _V1),
    "ListTaskPushNotificationConfigs": ("list_pushes", _V1),
    "DeleteTaskPushNotificationConfig": ("delete_push", _V1),
    "GetExtendedAgentCard": ("extended_card", _V1),
}
#: Whose answers are streams of events.
STREAMING = frozenset({"message/stream", "SendStreamingMessage", "tasks/resubscribe", "SubscribeToTask"})
