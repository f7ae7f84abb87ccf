"""The Agent-to-Agent protocol's tasks, and what they are here: a run, named by its thread and itself, on a thread that is the context.

Both dialects of the wire (0.3 and 1.0) are written here, out of runs, threads and LangChain's messages as plain JSON. They differ
in how roles, states and files are spelled; ``kind`` stays in both, as the official server has it. A task to which its client sends a
further message, as an answer or before it has ended, goes on with another run and keeps its name, that of its first run.

Pure: no clock, no I/O. What clients send is read in ``a2a_messages.py``, cards are in ``a2a_card.py``, notifications in ``a2a_push.py``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from langgraph_serverless.domain.a2a_messages import Dialect, parts_of, spoken_text
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.domain.runs import RunStatus
from langgraph_serverless.errors import InvalidInputError, RpcError

Document = dict[str, Any]
#: A message's id and the task that it began a run of.
Turns = Sequence[tuple[str, uuid.UUID]]

# JSON-RPC's codes, and the protocol's own
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
TASK_NOT_FOUND, NOT_CANCELABLE, NO_PUSH, UNSUPPORTED, BAD_CONTENT = -32001, -32002, -32003, -32004, -32005

#: For ids that are always the same for the same thing, whoever asks and however often.
_NAMES = uuid.UUID("5b2c3f0e-6c0a-4a55-9a57-2f6c5f0c9f51")
DONE, CANCELED = "Task completed successfully", "Task was canceled"


class TaskState(StrEnum):
    SUBMITTED = "submitted"
    WORKING = "working"
    INPUT_REQUIRED = "input-required"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def is_terminal(self) -> bool:
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED)

    @property
    def is_live(self) -> bool:
        """Something is being done about it."""
        return self in (TaskState.SUBMITTED, TaskState.WORKING)


def state_of(status: RunStatus, *, resuming: bool, waiting: bool, canceled: bool) -> TaskState:
    """The state of a task by its last run.

    Args:
        waiting: its thread waits, and nothing has come after this run.
        canceled: the task has been, whatever its run does about it.
    """
    if canceled or status is RunStatus.INTERRUPTED:
        return TaskState.CANCELED
    if status is RunStatus.PENDING:
        return TaskState.WORKING if resuming else TaskState.SUBMITTED
    if status is RunStatus.RUNNING:
        return TaskState.WORKING
    if status is RunStatus.SUCCESS:
        return TaskState.INPUT_REQUIRED if waiting else TaskState.COMPLETED
    return TaskState.FAILED


@dataclass(frozen=True, slots=True)
class TaskRef:
    """A task's name: its thread, which is the context, and its first run."""

    thread_id: uuid.UUID
    run_id: uuid.UUID

    def __str__(self) -> str:
        return f"{self.thread_id}:{self.run_id}"

    @classmethod
    def parse(cls, text: str) -> TaskRef:
        """Raises: RpcError: there can be no task of this name."""
        thread_id, colon, run_id = text.partition(":")
        try:
            if colon:
                return cls(parse_id(thread_id, "thread"), parse_id(run_id, "run"))
        except InvalidInputError:
            pass
        raise not_found(text)


def not_found(task_id: str) -> RpcError:
    return RpcError(TASK_NOT_FOUND, f"Task not found: {task_id[:200]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task at one moment."""

    ref: TaskRef
    assistant_id: uuid.UUID
    #: The last of its runs.
    run_id: uuid.UUID
    state: TaskState
    at: datetime
    #: Of the thread, as LangChain's JSON: all up to the end of this task.
    messages: Sequence[Mapping[str, Any]] = ()
    #: The values that the run has left.
    output: Any = None
    #: What it asks.
    interrupts: Sequence[Mapping[str, Any]] = ()
    error: Mapping[str, Any] | None = None
    turns: Turns = ()

    def history(self, *, task_only: bool = False, length: int | None = None) -> list[tuple[Mapping[str, Any], TaskRef]]:
        """What was said, and in which task; of the task alone or of the whole context, and only the last ``length`` of it."""
        owners, owner = dict(self.turns), self.ref.run_id
        said = []
        for message in self.messages:
            owner = owners.get(str(message.get("id")), owner)
            if message.get("type") in ("human", "ai") and not (task_only and owner != self.ref.run_id):
                said.append((message, TaskRef(self.ref.thread_id, owner)))
        return said if length is None else said[-length:] if length else []

    def answer(self) -> Mapping[str, Any] | None:
        """The last thing that the agent has said in this run."""
        message: Mapping[str, Any]
        for message in reversed(self.messages):
            if message.get("type") == "ai" and parts_of(message.get("content"), Dialect.V03):
                return message
            if message.get("type") == "human":
                break
        return None

    def status_text(self) -> str | None:
        if self.state is TaskState.FAILED:
            about = self.error or {}
            return f"Error executing assistant: {about.get('error') or 'Error'}" + (
                f": {about['message']}" if about.get("message") else ""
            )
        return {TaskState.COMPLETED: DONE, TaskState.CANCELED: CANCELED}.get(self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a client wants to have tasks."""

    dialect: Dialect
    task_only: bool = False
    history_length: int | None = None


# -- documents -----------------------------------------------------------------------------------------------------


def task_document(task: Task, view: View, *, told: bool = True, artifacts: bool | None = True) -> Document:
    """A task on the wire.

    Args:
        told: with a message that says how it stands, also if there is nothing to be said about it.
        artifacts: with what it has made; without, as an empty list; None: not at all.
    """
    document: Document = {"kind": "task", "id": str(task.ref), "contextId": str(task.ref.thread_id)}
    document["status"] = status_document(task, view.dialect, told=told)
    if artifacts is not None:
        document["artifacts"] = list(artifact_documents(task, view.dialect)) if artifacts else []
    if view.history_length != 0:
        said = task.history(task_only=view.task_only, length=view.history_length)
        found = (message_document(message, ref, view.dialect) for message, ref in said)
        document["history"] = [each for each in found if each["parts"]]
    return document


def status_document(task: Task, dialect: Dialect, *, told: bool = True) -> Document:
    document: Document = {"state": dialect.state(task.state), "timestamp": wire_time(task.at)}
    parts = [part for each in task.interrupts for part in _question(each.get("value"), dialect)]
    if task.state is not TaskState.INPUT_REQUIRED:
        text = task.status_text()
        parts = [{"kind": "text", "text": text}] if text and (told or task.state is TaskState.FAILED) else []
    if parts:
        document["message"] = {
            "kind": "message",
            "role": dialect.role("agent"),
            "parts": parts,
            "messageId": made_id(task.run_id, "status", task.state),
            "taskId": str(task.ref),
            "contextId": str(task.ref.thread_id),
        }
    return document


def _question(value: Any, dialect: Dialect) -> list[Document]:
    return [{"kind": "text", "text": value}] if isinstance(value, str) else [_data_part(value)]


def _data_part(value: Any) -> Document:
    return {"kind": "data", "data": value if isinstance(value, dict) else {"value": value}}


def artifact_documents(task: Task, dialect: Dialect) -> Iterator[Document]:
    """What a task has made: its answer, or what it asks."""
    for interrupt in task.interrupts if task.state is TaskState.INPUT_REQUIRED else ():
        yield {
            "artifactId": made_id(task.run_id, "interrupt", str(interrupt.get("id"))),
            "name": "Interrupt",
            "description": "Agent requires input to continue",
            "parts": [{"kind": "data", "data": {"id": interrupt.get("id"), "value": interrupt.get("value")}}],
        }
    if task.state is not TaskState.COMPLETED:
        return
    answer = task.answer()
    if answer is not None:
        parts = parts_of(answer.get("content"), dialect)
    elif isinstance(task.output, dict) and "messages" in task.output:
        return
    else:
        parts = [_data_part(task.output)]
    yield {
        "artifactId": made_id(task.run_id, "response"),
        "name": "Assistant Response",
        "description": f"Response from assistant {task.assistant_id}",
        "parts": parts,
    }


def message_document(message: Mapping[str, Any], ref: TaskRef, dialect: Dialect) -> Document:
    """One of LangChain's messages, human or the agent's."""
    text = str(message.get("id") or "")
    return {
        "kind": "message",
        "role": dialect.role("user" if message.get("type") == "human" else "agent"),
        "parts": parts_of(message.get("content"), dialect),
        "messageId": text or made_id(ref.run_id, "message", spoken_text(message.get("content"))),
        "taskId": str(ref),
        "contextId": str(ref.thread_id),
    }


# -- streams -------------------------------------------------------------------------------------------------------


def first_frame(document: Document, dialect: Dialect) -> Document:
    """A task as a stream begins with it, and as the answer to a message: 1.0 says what it is."""
    return {"task": document} if dialect is Dialect.V1 else document


def update_frames(task: Task, dialect: Dialect) -> Iterator[Document]:
    """What a stream ends with: what was made, and how the task stands."""
    for artifact in artifact_documents(task, dialect):
        update = {**_about(task.ref), "artifact": artifact, "append": False, "lastChunk": True}
        yield _update("artifact-update", update, dialect)
    yield status_frame(task.ref, status_document(task, dialect, told=False), dialect, final=True)


def spoken_frame(ref: TaskRef, message_id: str, text: str, at: datetime, dialect: Dialect) -> Document:
    """What the agent has said so far of the message that it is about to say."""
    message = {
        "kind": "message",
        "role": dialect.role("agent"),
        "parts": [{"kind": "text", "text": text}],
        "messageId": message_id or made_id(ref.run_id, "spoken"),
        **_about(ref),
    }
    status = {"state": dialect.state(TaskState.WORKING), "message": message, "timestamp": wire_time(at)}
    return status_frame(ref, status, dialect, final=False)


def status_frame(ref: TaskRef, status: Document, dialect: Dialect, *, final: bool) -> Document:
    frame = _update("status-update", {**_about(ref), "status": status}, dialect)
    return {**frame, "final": final}


def _about(ref: TaskRef) -> Document:
    return {"taskId": str(ref), "contextId": str(ref.thread_id)}


def _update(kind: str, update: Document, dialect: Dialect) -> Document:
    # The official server has updates bare in 1.0 too; the protocol, and its own clients, want them wrapped. Both are there.
    name = {"status-update": "statusUpdate", "artifact-update": "artifactUpdate"}[kind]
    return {**update, "kind": kind} | ({name: update} if dialect is Dialect.V1 else {})


# -- what the agent says -------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Spoken:
    """What an agent has said so far, out of the run's ``messages-tuple`` events."""

    message_id: str = ""
    text: str = ""
    _known: set[str] = field(default_factory=set)
    #: Something may be missing, and nobody knows of which message yet.
    _missed: bool = False
    _broken: str | None = None

    def miss(self) -> None:
        """Events may have been lost: of the message that is going on, nothing more is told until it is whole."""
        self._missed = True

    def hear(self, event: Any) -> bool:
        """Whether there is more now."""
        message = event[0] if isinstance(event, list) and event else None
        if not isinstance(message, dict) or message.get("type") not in ("AIMessageChunk", "ai"):
            return False
        message_id, text = str(message.get("id") or ""), spoken_text(message.get("content"))
        if self._missed:
            self._missed, self._broken = False, message_id
        if message_id == self._broken and message["type"] != "ai":
            return False
        if message["type"] == "ai":  # said at once
            if not text or message_id in self._known:
                return False
            self.message_id, self.text = message_id, text
        elif not text:
            return False
        elif message_id == self.message_id:
            self.text += text
        else:
            self.message_id, self.text = message_id, text
        self._known.add(message_id)
        return True


def made_id(run_id: uuid.UUID, *about: str) -> str:
    """An id for something of a run that has none of its own."""
    return str(uuid.uuid5(_NAMES, ":".join((str(run_id), *about))))


def wire_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
