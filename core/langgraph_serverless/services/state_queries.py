"""What clients of the thread protocol ask about a thread's state: where the graphs are, or the function that has them.

Answers are those of the protocol, ready to be sent. A laptop and the state function look themselves (``QueriesHere``); other
functions ask the state function with one event (``QueriesInFunction``), as a request that they stream cannot be forwarded.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.protocol_commands import NO_SUCH_NAMESPACE, PERMISSION_DENIED, UNKNOWN_ERROR
from langgraph_serverless.domain.serialization import to_json
from langgraph_serverless.domain.tenants import acting_for
from langgraph_serverless.errors import BadGatewayError, CommandError, ServerError

if TYPE_CHECKING:
    from langgraph_serverless.services.priorities import FunctionCaller
    from langgraph_serverless.services.state import StateService

Document = dict[str, Any]

#: The key of an event for the state function that is no request. Clients cannot send it, as with ``priorities.ASK``.
ASK = "ask_state"

#: LangGraph's sign between the parts of a namespace.
_SEPARATOR = "|"


class StateQueries(Protocol):
    """The questions."""

    async def get(
        self, caller: Principal, thread_id: uuid.UUID, namespace: Sequence[str], keys: Sequence[str] | None
    ) -> Document:
        """The newest state: ``{"values", "checkpoint"?}``; of the values only those with these keys.

        Raises:
            NotFoundError: without the thread.
            CommandError: nothing is known of such a namespace.
        """

    async def list_checkpoints(
        self, caller: Principal, thread_id: uuid.UUID, namespace: Sequence[str], limit: int, before: str | None
    ) -> Document:
        """Newest first: ``{"checkpoints": [{"id", "timestamp", "step", "metadata"}]}``; only those older than ``before``.

        Raises:
            The same.
        """


class QueriesHere:
    """In a process that has the graphs; ``StateQueries``."""

    def __init__(self, states: StateService) -> None:
        self._states = states

    async def get(
        self, caller: Principal, thread_id: uuid.UUID, namespace: Sequence[str], keys: Sequence[str] | None
    ) -> Document:
        with _naming(namespace):
            state = await self._states.get(caller, thread_id, checkpoint=_place(namespace))
        found = _checkpoint(state.config if state is not None else None)
        if namespace and found is None:
            raise _unknown(namespace)
        values = to_json(state.values) if state is not None else {}
        if keys is not None and isinstance(values, dict):
            values = {key: values[key] for key in keys if key in values}
        return {"values": values, **({"checkpoint": found} if found is not None else {})}

    async def list_checkpoints(
        self, caller: Principal, thread_id: uuid.UUID, namespace: Sequence[str], limit: int, before: str | None
    ) -> Document:
        with _naming(namespace):
            states = await self._states.history(
                caller, thread_id, limit=limit, before=before, checkpoint=_place(namespace)
            )
        listed = []
        for state in states:
            if (checkpoint := _checkpoint(state.config)) is not None:
                metadata = to_json(state.metadata or {})
                listed.append(
                    {
                        "id": checkpoint["id"],
                        "timestamp": state.created_at,
                        "step": metadata.get("step"),
                        "metadata": metadata,
                    }
                )
        return {"checkpoints": listed}


class QueriesInFunction:
    """In a process that has a function to ask; ``StateQueries``."""

    def __init__(self, function: FunctionCaller) -> None:
        self._function = function

    async def get(
        self, caller: Principal, thread_id: uuid.UUID, namespace: Sequence[str], keys: Sequence[str] | None
    ) -> Document:
        return await self._ask(caller, thread_id, "get", namespace=list(namespace), keys=keys and list(keys))

    async def list_checkpoints(
        self, caller: Principal, thread_id: uuid.UUID, namespace: Sequence[str], limit: int, before: str | None
    ) -> Document:
        return await self._ask(
            caller, thread_id, "list_checkpoints", namespace=list(namespace), limit=limit, before=before
        )

    async def _ask(self, caller: Principal, thread_id: uuid.UUID, what: str, **arguments: Any) -> Document:
        question = {"what": what, "caller": caller.to_json(), "thread_id": str(thread_id), "arguments": arguments}
        answer = await self._function.call({ASK: question})
        if "result" in answer:
            result: Document = answer["result"]
            return result
        if "refused" in answer:
            raise CommandError(answer["refused"]["error"], answer["refused"]["message"])
        raise BadGatewayError("The state function's answer is none")


async def answer_event(queries: StateQueries, question: Mapping[str, Any]) -> Document:
    """The state function's part of ``QueriesInFunction``."""
    caller, thread_id = Principal.from_json(question["caller"]), uuid.UUID(question["thread_id"])
    try:
        with acting_for(caller.tenant):
            if question["what"] == "get":
                return {"result": await queries.get(caller, thread_id, **question["arguments"])}
            return {"result": await queries.list_checkpoints(caller, thread_id, **question["arguments"])}
    except CommandError as error:
        return {"refused": {"error": error.error, "message": error.detail}}
    except ServerError as error:
        name = PERMISSION_DENIED if error.status == 403 else UNKNOWN_ERROR
        return {"refused": {"error": name, "message": f"{error.status}: {error.detail}"}}


class _naming:
    """Turns LangGraph's objection to a namespace into the protocol's."""

    def __init__(self, namespace: Sequence[str]) -> None:
        self._namespace = namespace

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, ValueError) and self._namespace:
            raise _unknown(self._namespace) from error


def _unknown(namespace: Sequence[str]) -> CommandError:
    return CommandError(NO_SUCH_NAMESPACE, f"Unknown namespace: {_SEPARATOR.join(namespace)[:200]}")


def _place(namespace: Sequence[str]) -> Document | None:
    return {"checkpoint_ns": _SEPARATOR.join(namespace)} if namespace else None


def _checkpoint(config: Mapping[str, Any] | None) -> Document | None:
    configurable = (config or {}).get("configurable") or {}
    if configurable.get("checkpoint_id") is None:
        return None
    return {"id": configurable["checkpoint_id"], "ns": configurable.get("checkpoint_ns", "")}
