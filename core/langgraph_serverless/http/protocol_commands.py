"""Carries out commands of the thread protocol, whether they come in a request of their own or through a WebSocket.

What goes wrong is the command's answer, with the protocol's name for it. Only what is not about the command is left to the
caller: a database that is out of reach (a request is answered 503 then, and sent again), the answer that the same
``Idempotency-Key`` has got before, and faults of ours.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping

import psycopg
from starlette.responses import Response

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain import protocol_commands as protocol
from langgraph_serverless.domain.ids import parse_id
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.protocol_commands import Command, Document
from langgraph_serverless.domain.protocol_filters import unsupported_channels
from langgraph_serverless.domain.runs import Run
from langgraph_serverless.errors import CommandError, InvalidInputError, ServerError, UnavailableError
from langgraph_serverless.http.idempotency import Key, once
from langgraph_serverless.http.responses import json_response
from langgraph_serverless.http.schemas import protocol as wire
from langgraph_serverless.services.idempotency import AnsweredBeforeError, Once
from langgraph_serverless.services.protocol_commands import NO_INTERRUPTED_RUN
from langgraph_serverless.services.state_queries import StateQueries

#: Characters of an error's text that a client gets to read.
_LONGEST_MESSAGE = 2000

NO_ACTIVE_RUN = "No active run is bound to this thread."
_NO_INJECTION = "input.inject is not supported: a run takes no input once it has begun. Start another run, which waits for this one."
_NO_STATES = "This server cannot read states here. Ask for them with GET /threads/{thread_id}/state and /history."


Handler = Callable[[Command], Awaitable[Document]]


class Commands:
    """The commands of one client to one thread.

    Args:
        thread_id: as it is in the path; not every command minds what it looks like.
        key: of a request that has one; see ``http/idempotency.py``.
        seq: the number of the last event that the client's session has been sent.
        session: handlers of what a session does and a single request cannot; they go first.
    """

    def __init__(
        self,
        container: ApiContainer,
        caller: Principal,
        thread_id: str,
        *,
        request_id: str,
        key: Key = None,
        seq: Callable[[], int] = lambda: 0,
        session: Mapping[str, Handler] | None = None,
    ) -> None:
        self._container = container
        self._caller = caller
        self._thread = thread_id
        self._request_id = request_id
        self._key = key
        self._seq = seq
        self._handlers: Mapping[str, Handler] = {
            "run.start": self._run_start,
            "input.respond": self._input_respond,
            "input.inject": _input_inject,
            "state.get": self._state_get,
            "state.listCheckpoints": self._list_checkpoints,
            "state.fork": self._state_fork,
            "agent.getTree": _without_run,
            "subscription.subscribe": _subscribe,
            "subscription.unsubscribe": _unsubscribe,
            "subscription.reconnect": _without_run,
            **(session or {}),
        }

    async def answer(self, command: Command) -> Document:
        """Carry a command out and answer it.

        Raises:
            UnavailableError, AnsweredBeforeError: see the module.
        """
        handler = self._handlers.get(command.method)
        try:
            if handler is None:
                raise protocol.unknown_command(command.method)
            return protocol.success(command.id, await handler(command), seq=self._seq())
        except (UnavailableError, AnsweredBeforeError):
            raise
        except (ServerError, psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:
            return protocol.failure(command.id, *told(error))

    async def _run_start(self, command: Command) -> Document:
        request = wire.run_start(command.params, self._request_id)
        make = self._container.protocol_commands.start
        run = await make(self._caller, self._thread_id(), request, self._once(command, _started))
        return _started(run)

    async def _input_respond(self, command: Command) -> Document:
        interrupts, request = wire.input_respond(command.params, self._request_id)
        try:
            thread_id = self._thread_id()
        except InvalidInputError:
            raise CommandError(protocol.NO_SUCH_RUN, NO_INTERRUPTED_RUN) from None
        make = self._container.protocol_commands.respond
        await make(self._caller, thread_id, interrupts, request, self._once(command, _nothing))
        return {}

    async def _state_fork(self, command: Command) -> Document:
        checkpoint_id, request = wire.state_fork(command.params, self._request_id)
        make = self._container.protocol_commands.fork
        run = await make(self._caller, self._thread_id(), checkpoint_id, request, self._once(command, _forked))
        return _forked(run)

    async def _state_get(self, command: Command) -> Document:
        wanted = wire.read_params(wire.StateGetParams, command.method, command.params)
        return await self._states.get(self._caller, self._thread_id(), wanted.namespace, wanted.keys)

    async def _list_checkpoints(self, command: Command) -> Document:
        wanted = wire.read_params(wire.ListCheckpointsParams, command.method, command.params)
        return await self._states.list_checkpoints(
            self._caller, self._thread_id(), wanted.namespace, wanted.limit, wanted.before_id()
        )

    @property
    def _states(self) -> StateQueries:
        queries = self._container.state_queries
        if queries is None:
            raise CommandError(protocol.NOT_SUPPORTED, _NO_STATES)
        return queries

    def _thread_id(self) -> uuid.UUID:
        return parse_id(self._thread, "thread", suffix="")

    def _once(self, command: Command, result: Callable[[Run], Document]) -> Once[Run] | None:
        def respond(run: Run) -> Response:
            return json_response(protocol.success(command.id, result(run)))

        return once(self._key, respond)


def told(error: Exception) -> tuple[str, str]:
    """The protocol's name for an error, and what is said about it."""
    if isinstance(error, CommandError):
        name, message = error.error, error.detail
    elif isinstance(error, psycopg.Error):
        reason = error.diag.message_primary or str(error)
        name, message = protocol.INVALID_ARGUMENT, f"The command holds a value that cannot be stored: {reason}"
    elif isinstance(error, ServerError):
        name = protocol.PERMISSION_DENIED if error.status == 403 else protocol.UNKNOWN_ERROR
        message = f"{error.status}: {error.detail}"
    else:
        name, message = protocol.UNKNOWN_ERROR, "500: Internal Server Error"
    return name, message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."


def check_channels(command: Command) -> None:
    """Refuse a subscription to what does not exist.

    Raises:
        CommandError
    """
    channels = command.params.get("channels")
    if not isinstance(channels, list) or not channels:
        raise CommandError(protocol.INVALID_ARGUMENT, f"{command.method} requires a non-empty channels array.")
    if unsupported_channels(channels):
        raise CommandError(protocol.INVALID_ARGUMENT, f"{command.method} received an unsupported channel.")


def subscription_id(command: Command) -> str:
    """Which subscription is meant.

    Raises:
        CommandError
    """
    found = command.params.get("subscription_id")
    if not isinstance(found, str):
        raise CommandError(protocol.INVALID_ARGUMENT, f"{command.method} requires a subscription_id.")
    return found


def unknown_subscription(named: str) -> CommandError:
    return CommandError(protocol.NO_SUCH_SUBSCRIPTION, f"Unknown subscription: {named[:200]}")


def _started(run: Run) -> Document:
    return {"run_id": run.run_id}


def _forked(run: Run) -> Document:
    return {"run_id": run.run_id, "thread_id": run.thread_id}


def _nothing(_run: Run) -> Document:
    return {}


async def _input_inject(_command: Command) -> Document:
    raise CommandError(protocol.NOT_SUPPORTED, _NO_INJECTION)


async def _without_run(_command: Command) -> Document:
    raise CommandError(protocol.NO_SUCH_RUN, NO_ACTIVE_RUN)


async def _subscribe(command: Command) -> Document:
    # a session that ends with its answer: there is nothing to send, and nothing to take back
    check_channels(command)
    return {"subscription_id": uuid.uuid4(), "replayed_events": 0}


async def _unsubscribe(command: Command) -> Document:
    raise unknown_subscription(subscription_id(command))
