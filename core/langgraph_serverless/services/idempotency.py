"""Use cases that are carried out once per key. Those that create something take ``once`` and open their transaction here.

The key is claimed before the effect and the answer stored after it, in the effect's own transaction: a crash leaves all of it
or nothing, a request that fails leaves its key unused, and one that comes while the first is at work waits for it. The
answer is made by whoever knows its form (``http/idempotency.py``), before the commit, so that a repeat gets these bytes.

Without ``once`` nothing is added, not even a transaction where one statement does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from langgraph_serverless.domain.idempotency import Answer, IdempotencyKey
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.errors import ServerError
from langgraph_serverless.persistence import idempotency
from langgraph_serverless.persistence.pool import Connection, Database

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Once(Generic[Made]):
    """Carry the request out once, and answer its repeats as the first time."""

    key: IdempotencyKey
    #: Seconds for which the answer is kept.
    retention: float
    #: The answer to what the use case has made.
    answer: Callable[[Made], Answer]


class AnsweredBeforeError(ServerError):
    """The request has been carried out before; nothing was done now. Reaches the client as the answer that it got then."""

    code = "answered_before"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__("This request has been answered before")


@asynccontextmanager
async def claimed(database: Database, caller: Principal, once: Once[Made] | None) -> AsyncIterator[Connection]:
    """A connection for a use case of one statement; with ``once`` in a transaction that holds its key.

    Raises:
        AnsweredBeforeError: with the first answer, instead of carrying anything out.
        ConflictError: if another request has used the key.
    """
    if once is None:
        async with database.connection() as connection:
            yield connection
        return
    async with claimed_transaction(database, caller, once) as connection:
        yield connection


@asynccontextmanager
async def claimed_transaction(
    database: Database, caller: Principal, once: Once[Made] | None
) -> AsyncIterator[Connection]:
    """The same for a use case that takes a transaction anyway."""
    async with database.transaction() as connection:
        if once is not None:
            answer = await idempotency.claim(
                connection, once.key, tenant=caller.tenant, scope=caller.identity, retention=once.retention
            )
            if answer is not None:
                raise AnsweredBeforeError(answer)
        yield connection


async def keep(connection: Connection, caller: Principal, once: Once[Made] | None, made: Made) -> None:
    """Store the answer to what has been made; the last thing in the transaction."""
    if once is not None:
        await idempotency.keep(connection, once.key, once.answer(made), tenant=caller.tenant, scope=caller.identity)
