"""A WebSocket of the thread protocol: commands come in; their answers and the events that they have subscribed to go out.

Promises: answers in the order of their commands, except that a subscription is answered when what was there before it has been
sent; the answer to a command that makes a run before the events of that run. ``applied_through_seq`` is the number of the last
event that was sent, so a client may go on after it (``since``) on another socket.

Sends one batch of events and waits until the client takes it, so a slow one costs what is on its way to it. When the server
leaves, uvicorn closes the socket with 1012 and clients come back; a thread id that is none closes it with 4422, for good.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from langgraph_serverless.containers.api import ApiContainer
from langgraph_serverless.domain import protocol_commands as protocol
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.protocol_commands import Command, Document
from langgraph_serverless.domain.protocol_filters import Subscription, parse_subscription
from langgraph_serverless.errors import CommandError, ServerError
from langgraph_serverless.http.body import MalformedJsonError, parse_json
from langgraph_serverless.http.protocol_commands import (
    NO_ACTIVE_RUN,
    Commands,
    check_channels,
    subscription_id,
    told,
    unknown_subscription,
)
from langgraph_serverless.http.responses import dump
from langgraph_serverless.services.protocol_streams import ProtocolSession, Replayed
from langgraph_serverless.telemetry import logger

#: Every event is held against each of a socket's subscriptions.
MOST_SUBSCRIPTIONS = 100
#: Close codes: the peer has sent too much; we cannot go on; 4000 and the status that a request would have had.
TOO_BIG, FAULT, NO_THREAD_ID = 1009, 1011, 4422

_RECONNECT = "subscription.reconnect"


class ProtocolSocket:
    """One connection to one thread, which need not exist yet."""

    def __init__(
        self,
        socket: WebSocket,
        container: ApiContainer,
        caller: Principal,
        thread_id: uuid.UUID,
        session: ProtocolSession,
        *,
        request_id: str,
    ) -> None:
        self._socket = socket
        self._limit = container.settings.max_body_bytes
        self._session = session
        # wants nothing, and lets the session know from the start what goes on
        self._watching = self._session.subscribe(Subscription(channels=frozenset()))
        self._subscriptions: set[uuid.UUID] = set()
        #: Subscriptions that are still to be answered, by their ids.
        self._unanswered: dict[uuid.UUID, Command] = {}
        #: Held while something is sent whose place among the rest matters.
        self._turn = asyncio.Lock()
        self._seq = 0
        self._commands = Commands(
            container,
            caller,
            str(thread_id),
            request_id=request_id,
            seq=lambda: self._seq,
            session={"agent.getTree": self._get_tree, "subscription.unsubscribe": self._unsubscribe},
        )

    async def serve(self) -> None:
        """Until either side closes it."""
        receiving, sending = asyncio.create_task(self._receive()), asyncio.create_task(self._send_events())
        try:
            done, _ = await asyncio.wait({receiving, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (receiving, sending):
                task.cancel()
            # their errors are taken, too, which may come while they are being ended
            await asyncio.gather(receiving, sending, return_exceptions=True)
        for task in done:
            error = None if task.cancelled() else task.exception()
            # how a socket says that its client has gone
            if error is not None and not isinstance(error, (WebSocketDisconnect, OSError)):
                logger.error("A socket failed", exc_info=error, extra={"action": "socket"})
                await self._close(FAULT, "thread stream ended")

    async def _receive(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            frame = text.encode("utf-8", "surrogatepass") if text is not None else message.get("bytes") or b""
            if len(frame) > self._limit:
                await self._close(TOO_BIG, f"frame exceeds limit of {self._limit} bytes")
                return
            # a run's events wait for the answer to the command that has made it
            async with self._turn:
                answer = await self._answer(frame)
                if answer is not None:
                    await self._send(answer)

    async def _answer(self, frame: bytes) -> Document | None:
        try:
            document = parse_json(frame)
        except MalformedJsonError:
            return protocol.failure(None, protocol.INVALID_ARGUMENT, protocol.NO_JSON)
        except ServerError as error:
            return protocol.failure(None, protocol.INVALID_ARGUMENT, error.detail)
        command = protocol.read_command(document)
        if command is None:
            return protocol.no_command(document)
        try:
            if command.method in ("subscription.subscribe", _RECONNECT):
                self._subscribe(command)
                return None
            return await self._commands.answer(command)
        except Exception as error:
            if not isinstance(error, ServerError):
                logger.exception("Unexpected error", extra={"action": "command", "method": command.method[:100]})
            return protocol.failure(command.id, *told(error))

    def _subscribe(self, command: Command) -> None:
        check_channels(command)
        since = command.params.get("since")
        if command.method == _RECONNECT and (not isinstance(since, int) or isinstance(since, bool) or since < 0):
            raise CommandError(protocol.INVALID_ARGUMENT, f"{_RECONNECT} requires a non-negative integer since.")
        if len(self._subscriptions) >= MOST_SUBSCRIPTIONS:
            raise CommandError(
                protocol.INVALID_ARGUMENT, f"{command.method}: a socket has at most {MOST_SUBSCRIPTIONS} subscriptions."
            )
        made = self._session.subscribe(parse_subscription(command.params))
        self._subscriptions.add(made)
        self._unanswered[made] = command

    async def _unsubscribe(self, command: Command) -> Document:
        named = subscription_id(command)
        try:
            found = uuid.UUID(named)
        except ValueError:
            raise unknown_subscription(named) from None
        if found not in self._subscriptions:
            raise unknown_subscription(named)
        self._subscriptions.discard(found)
        self._session.unsubscribe(found)
        if (waiting := self._unanswered.pop(found, None)) is not None:
            await self._send(self._subscribed(waiting, found, 0))
        return {}

    async def _get_tree(self, _command: Command) -> Document:
        tree = self._session.tree.document()
        if tree is None:
            raise CommandError(protocol.NO_SUCH_RUN, NO_ACTIVE_RUN)
        return {"tree": tree}

    async def _send_events(self) -> None:
        async with aclosing(self._session.events()) as batches:
            async for items in batches:
                for item in items:
                    async with self._turn:
                        if isinstance(item, Replayed):
                            if (command := self._unanswered.pop(item.subscription_id, None)) is not None:
                                await self._send(self._subscribed(command, item.subscription_id, item.events))
                        else:
                            await self._socket.send_text(item.data.decode())
                            self._seq = max(self._seq, item.seq)
        raise RuntimeError("the thread's events have ended")

    def _subscribed(self, command: Command, made: uuid.UUID, events: int) -> Document:
        result = {"subscription_id": made, "replayed_events": events}
        return protocol.success(command.id, result, seq=self._seq)

    async def _send(self, document: Any) -> None:
        await self._socket.send_text(dump(document).decode())

    async def _close(self, code: int, reason: str) -> None:
        # a client that has gone needs no close frame
        try:
            await self._socket.close(code, reason)
        except (WebSocketDisconnect, OSError, RuntimeError):
            return
