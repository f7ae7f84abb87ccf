"""Parameters of the thread protocol's commands on the wire, and its answers.

What comes first is in the official server's words; the rest is checked as it is where runs are created, and refused with the
name of the field.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.domain.protocol_commands import INVALID_ARGUMENT
from langgraph_serverless.domain.runs import RunRequest
from langgraph_serverless.errors import CommandError, InvalidInputError
from langgraph_serverless.http.schemas.runs import RunCreate
from langgraph_serverless.http.schemas.shared import JsonObject, RequestModel, ResponseModel, Whole
from langgraph_serverless.http.validation import invalid_input, refuse_nul

#: Checkpoints that are listed if the client does not say how many.
_LISTED = 10
#: What says in a config where on its thread a run starts.
_CHECKPOINT = "checkpoint_id"

Model = TypeVar("Model", bound=BaseModel)


class CommandRequest(RequestModel):
    """A command of the thread protocol."""

    id: int
    method: str
    params: JsonObject = Field(default_factory=dict)


class CommandMeta(ResponseModel):
    """What the client's session has seen."""

    applied_through_seq: int


class CommandAnswer(ResponseModel):
    """The answer to a command: ``result`` and ``meta`` of one that was carried out, ``error`` and ``message`` of one that was not."""

    type: Literal["success", "error"]
    id: Any
    result: JsonObject | None = None
    meta: CommandMeta | None = None
    error: str | None = None
    message: str | None = None


class StateGetParams(RequestModel):
    namespace: list[str] = Field(default_factory=list)
    keys: list[str] | None = None


class ListCheckpointsParams(RequestModel):
    namespace: list[str] = Field(default_factory=list)
    limit: Annotated[int, Field(ge=1, le=1000), Whole] = _LISTED
    before: str | None = None

    def before_id(self) -> str | None:
        return str(parse_id(self.before, "checkpoint")) if self.before is not None else None


def read_params(model: type[Model], method: str, params: Mapping[str, Any]) -> Model:
    """The parameters of a command.

    Raises:
        CommandError: names the field.
    """
    try:
        read = model.model_validate(params)
        refuse_nul(read)
    except ValidationError as error:
        raise _refused(method, invalid_input(error.errors(include_url=False), params)) from None
    except InvalidInputError as error:
        raise _refused(method, error) from None
    return read


def run_start(params: Mapping[str, Any], request_id: str) -> RunRequest:
    """What ``run.start`` wants. Other fields of a run's creation are passed over: the protocol does not have them."""
    if not isinstance(assistant_id := params.get("assistant_id"), str) or not assistant_id:
        raise CommandError(INVALID_ARGUMENT, "run.start requires an assistant_id.")
    fields = ("assistant_id", "input", "config", "metadata")
    return _request("run.start", {**_named(params, *fields), **_tracer(params)}, request_id)


def input_respond(params: Mapping[str, Any], request_id: str) -> tuple[Sequence[str], RunRequest]:
    """The interrupts that ``input.respond`` answers, and the run that does it, without its assistant."""
    answers = _answers(params)
    command = {"resume": answers, **_named(params, "update", "goto")}
    given = _named(params, "config", "metadata")
    return list(answers), _request("input.respond", {"assistant_id": "", "command": command, **given}, request_id)


def state_fork(params: Mapping[str, Any], request_id: str) -> tuple[uuid.UUID, RunRequest]:
    """The checkpoint that ``state.fork`` starts from, and the run, without its assistant."""
    if not isinstance(found := params.get("checkpoint_id"), str):
        raise CommandError(INVALID_ARGUMENT, "state.fork requires a checkpoint_id.")
    given = _named(params, "input", "config")
    return _checkpoint_id(found, "checkpoint_id"), _request("state.fork", {"assistant_id": "", **given}, request_id)


def _answers(params: Mapping[str, Any]) -> dict[str, Any]:
    several = params.get("responses")
    if not isinstance(several, list):
        return dict([_answer(params, "input.respond requires")])
    if not several:
        raise CommandError(INVALID_ARGUMENT, "input.respond requires at least one response.")
    if not all(isinstance(entry, dict) for entry in several):
        raise CommandError(INVALID_ARGUMENT, "input.respond responses entries must be objects.")
    return dict(_answer(entry, "input.respond responses entries require") for entry in several)


def _answer(entry: Mapping[str, Any], who: str) -> tuple[str, Any]:
    interrupt_id, namespace = entry.get("interrupt_id"), entry.get("namespace")
    if not isinstance(interrupt_id, str):
        raise CommandError(INVALID_ARGUMENT, f"{who} an interrupt_id.")
    if namespace is not None and not (
        isinstance(namespace, list) and all(isinstance(segment, str) for segment in namespace)
    ):
        raise CommandError(INVALID_ARGUMENT, f"{who} namespace to be a list of strings.")
    return interrupt_id, entry.get("response")


def _request(method: str, fields: Mapping[str, Any], request_id: str) -> RunRequest:
    request = read_params(RunCreate, method, fields).to_domain(request_id)
    checkpoint_id = (request.config.get("configurable") or {}).get(_CHECKPOINT)
    if checkpoint_id is not None:
        _checkpoint_id(checkpoint_id, f"config.configurable.{_CHECKPOINT}")
    return request


def _checkpoint_id(text: str, field: str) -> uuid.UUID:
    try:
        return parse_id(text, "checkpoint")
    except InvalidInputError:
        raise CommandError(INVALID_ARGUMENT, f"Invalid {field}: '{text[:200]}'.") from None


def _tracer(params: Mapping[str, Any]) -> JsonObject:
    tracer = params.get("langsmith_tracer")
    if tracer is None:
        return {}
    if not isinstance(tracer, dict):
        raise CommandError(INVALID_ARGUMENT, "langsmith_tracer must be an object.")
    for name in ("project_name", "example_id"):
        if not isinstance(tracer.get(name), str | None):
            raise CommandError(INVALID_ARGUMENT, f"langsmith_tracer.{name} must be a string.")
    return {"langsmith_tracer": tracer}


def _named(params: Mapping[str, Any], *names: str) -> JsonObject:
    # null is how some clients leave a field out
    return {name: params[name] for name in names if params.get(name) is not None}


def _refused(method: str, found: InvalidInputError) -> CommandError:
    return CommandError(INVALID_ARGUMENT, f"{method}: {found.detail}")
