"""Runs as a queue: claim, settle, hand off, take back.

A claim gives a fresh random token; every later write of that worker names it and is refused once somebody else holds the
run (``LeaseLostError``). Times are the database's. Attempts are counted at the claim; a planned hand-off takes its attempt
back. ``Lease.epoch`` is attempts plus hand-offs, which rises with each claim.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from langgraph_serverless.addresses import Address
from langgraph_serverless.domain.priorities import GroupLimits
from langgraph_serverless.domain.run_kwargs import request_id_of
from langgraph_serverless.domain.runs import CancelRequest, ClaimedRun, Lease, RunOutcome
from langgraph_serverless.errors import LeaseLostError
from langgraph_serverless.persistence.json import jsonb, same_json
from langgraph_serverless.persistence.pool import Database, in_one_message, is_refusal
from langgraph_serverless.persistence.priorities import limits
from langgraph_serverless.persistence.queries import load_queries, one_after_another
from langgraph_serverless.persistence.queue_rows import (
    ExhaustedRun,
    Look,
    Settled,
    cancel_from,
    claimed_from,
    lease_from,
)
from langgraph_serverless.persistence.sealing import document, fetch_readable, is_sealed, text

_SQL = load_queries(__file__)
CLAIM = _SQL["claim"]
WAIT_FOR_TURN = _SQL["wait_for_turn"]
CLAIM_FAIRLY = _SQL["claim_fairly"]
CLAIM_IN_TURN = one_after_another(WAIT_FOR_TURN, CLAIM_FAIRLY)
RUNNABLE = _SQL["runnable"]
RUNNABLE_FAIRLY = _SQL["runnable_fairly"]
HEARTBEAT = _SQL["heartbeat"]
SETTLE = _SQL["settle"]
ROLL_BACK = _SQL["roll_back"]
ALREADY_SETTLED = _SQL["already_settled"]
HAND_OFF = _SQL["hand_off"]
REQUEUE_EXPIRED = _SQL["requeue_expired"]
CLAIM_EXHAUSTED = _SQL["claim_exhausted"]
NOTE_NODES = _SQL["note_nodes"]
NODES_IN_FLIGHT = _SQL["nodes_in_flight"]

#: For this transaction only, as everything behind a pooler.
LIMIT_STATEMENT: LiteralString = "SELECT set_config('statement_timeout', %(limit)s, true)"
BEAT_IN_TIME = one_after_another(LIMIT_STATEMENT, HEARTBEAT)
HAND_OFF_IN_TIME = one_after_another(LIMIT_STATEMENT, HAND_OFF)
#: Any number that no other program uses for its own advisory lock.
TURN_LOCK = 0x6C67_7374_7572
#: Runs that are counted; whoever takes some of them counts again.
MOST_RUNNABLE = 1000
_NOTHING_TO_SAVE = {"save_rows": None, "save_blobs": None, "save_writes": None}
#: Rows that one sweep takes back at most; the next sweep goes on.
SWEEP_BATCH = 100


class QueueRepository:
    """The statements of ``queue.sql``; unlike other repositories it knows the transactions, which are part of its promise."""

    def __init__(self, database: Database, groups: GroupLimits | None = None) -> None:
        """With ``groups``, claims share runs out between fairness groups and keep to their limits; without, they go by age."""
        self._database = database
        self._groups = groups

    @property
    def limited(self) -> bool:
        """Whether the end of a run may let others begin, of its fairness group."""
        return self._groups is not None

    async def look(
        self, *, owner: str, limit: int, lease: float, last_attempt: int | None = None, on_trial: bool = False
    ) -> Look:
        """Take up to ``limit`` runs, each with a lease of ``lease`` seconds, and see when there will be more.

        Args:
            last_attempt: number of a run's last attempt, to tell runs that have no other from those that do.
            on_trial: take runs for their last attempt, and no others; only others without it.
        """
        parameters = {
            "owner": owner,
            "limit": limit,
            "lease": lease,
            "last_attempt": last_attempt,
            "on_trial": on_trial,
        }
        async with self._database.connection() as connection:
            try:
                if self._groups is None:
                    cursor = await connection.execute(CLAIM, parameters)
                else:
                    # no process that stands still can keep the others from their turns
                    cursor = await in_one_message(
                        connection,
                        CLAIM_IN_TURN,
                        {**parameters, **limits(self._groups), "lock": TURN_LOCK},
                    )
            except psycopg.errors.UniqueViolation:
                # two workers took different runs of one thread at the same instant; the other one has it
                return Look(runs=(), again=True)
            rows = await fetch_readable(cursor)
        # there is one without a run if there is none with one
        return Look(
            runs=[claimed_from(row) for row in rows if row["run_id"] is not None],
            due=rows[0]["next_due"] if rows else None,
        )

    async def claim(
        self, *, owner: str, limit: int, lease: float, last_attempt: int | None = None, on_trial: bool = False
    ) -> Sequence[ClaimedRun]:
        """The runs of a ``look``."""
        found = await self.look(owner=owner, limit=limit, lease=lease, last_attempt=last_attempt, on_trial=on_trial)
        return found.runs

    async def runnable(self) -> int:
        """How many runs wait for nothing but a worker; at least that many if they are more than anybody wakes workers for."""
        async with self._database.connection() as connection:
            if self._groups is None:
                cursor = await connection.execute(RUNNABLE, {"up_to": MOST_RUNNABLE})
            else:
                cursor = await connection.execute(RUNNABLE_FAIRLY, {**limits(self._groups), "up_to": MOST_RUNNABLE})
            row = await cursor.fetchone()
            return row["runnable"] if row else 0

    async def settle(
        self,
        lease: Lease,
        thread_id: uuid.UUID,
        outcome: RunOutcome,
        *,
        thread_error: Mapping[str, Any] | None,
        temporary_retention: float,
        save: Mapping[str, Any] | None = None,
    ) -> Settled | CancelRequest:
        """Write the end of a run in one statement, with its webhook.

        A cancel that has been recorded and that this outcome would lose is returned instead; of the end nothing was written then.

        Args:
            save: what is left to be saved of its checkpoints (the saver's ``take``), in the same transaction; of a rollback nothing is.

        Raises:
            LeaseLostError: if the lease has ended; nothing was written.
        """
        parameters: dict[str, Any] = {
            "run_id": lease.run_id,
            "token": lease.token,
            "thread_id": thread_id,
            "thread_error": document("thread", "error", thread_error) if thread_error is not None else None,
            "temporary_retention": temporary_retention,
        }
        async with self._database.connection() as connection:
            if not outcome.rollback:
                # as a rule it is; where it is encrypted, each is for itself
                repeated = (
                    outcome.write_values and not is_sealed(connection) and same_json(outcome.output, outcome.values)
                )
                parameters |= {
                    "status": outcome.status.value,
                    "output": None if repeated else document("run", "output", outcome.output),
                    "output_is_values": repeated,
                    "error": document("run", "error", outcome.error) if outcome.error is not None else None,
                    "last_error": text("run", "last_error", outcome.last_error),
                    "last_node": outcome.last_node,
                    "thread_status": outcome.thread_status,
                    "write_values": outcome.write_values,
                    "values": document("thread", "values", outcome.values),
                    "interrupts": document("thread", "interrupts", outcome.interrupts)
                    if outcome.interrupts is not None
                    else None,
                    **(save or _NOTHING_TO_SAVE),
                }
            cursor = await connection.execute(ROLL_BACK if outcome.rollback else SETTLE, parameters)
            row = await cursor.fetchone()
        if row is None:
            raise LeaseLostError(f"run {lease.run_id} was settled or taken over by another worker")
        if (request := cancel_from(row) if not outcome.rollback else None) is not None:
            return request
        return Settled(more=bool(row["more"]), outbox_id=row["outbox_id"], pushed=bool(row.get("pushed")))

    async def already_settled(self, lease: Lease, thread_id: uuid.UUID, *, rollback: bool) -> Settled | None:
        """What a settle left to be done whose answer was lost; None if it was not written, or the lease had ended."""
        parameters = {"run_id": lease.run_id, "token": lease.token, "thread_id": thread_id, "rollback": rollback}
        async with self._database.connection() as connection:
            row = await (await connection.execute(ALREADY_SETTLED, parameters)).fetchone()
            return Settled(more=bool(row["more"]), outbox_id=row["outbox_id"]) if row else None

    async def hand_off(self, lease: Lease) -> None:
        """Give a run back without counting an attempt.

        Raises:
            LeaseLostError: if the lease has ended.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(HAND_OFF, {"run_id": lease.run_id, "token": lease.token})
            if await cursor.fetchone() is None:
                raise LeaseLostError(f"run {lease.run_id} was settled or taken over by another worker")

    async def requeue_expired(self, *, max_attempts: int) -> int:
        """Take back the runs of lost workers; returns how many."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(REQUEUE_EXPIRED, {"max_attempts": max_attempts, "limit": SWEEP_BATCH})
            return len(await cursor.fetchall())

    async def claim_exhausted(self, *, owner: str, lease: float, max_attempts: int) -> Sequence[ExhaustedRun]:
        """Take over the runs that have lost their last worker."""
        parameters = {"owner": owner, "lease": lease, "max_attempts": max_attempts, "limit": SWEEP_BATCH}
        async with self._database.connection() as connection:
            cursor = await connection.execute(CLAIM_EXHAUSTED, parameters)
            return [
                ExhaustedRun(
                    lease=lease_from(row),
                    thread_id=row["thread_id"],
                    graph_id=row["graph_id"],
                    attempts=row["lost"],
                    last_error=row["last_error"],
                    nodes=row["nodes"] or (),
                    cancel=cancel_from(row),
                    request_id=request_id_of(row["kwargs"]),
                )
                for row in await fetch_readable(cursor)
            ]

    async def note_nodes(self, lease: Lease, nodes: Sequence[str]) -> None:
        """Keep what a run is about to execute with its lease.

        Raises:
            LeaseLostError: if the lease has ended.
        """
        parameters = {"run_id": lease.run_id, "token": lease.token, "nodes": jsonb(nodes)}
        async with self._database.connection() as connection:
            if await (await connection.execute(NOTE_NODES, parameters)).fetchone() is None:
                raise LeaseLostError(f"run {lease.run_id} was settled or taken over by another worker")

    async def nodes_in_flight(self, thread_id: uuid.UUID, run_id: uuid.UUID) -> Sequence[str]:
        """The nodes that the run's newest checkpoint leads to, as far as the checkpoint says."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(NODES_IN_FLIGHT, {"thread_id": str(thread_id), "run_id": str(run_id)})
            return [row["node"] for row in await cursor.fetchall()]


class HeartbeatConnection:
    """The heartbeat's own synchronous connection, used from its own thread only."""

    def __init__(self, database: str | Address, *, timeout: float) -> None:
        self._address = database if isinstance(database, Address) else Address(database)
        self._timeout = timeout
        self._connection: psycopg.Connection[dict[str, Any]] | None = None

    def beat(self, leases: Sequence[Lease], duration: float) -> Mapping[uuid.UUID, CancelRequest | None]:
        """Extend the leases; an answer for each one that is still held.

        Raises:
            psycopg.Error: if the database does not answer in time; the next call connects anew.
        """
        try:
            if self._connection is None:
                self._connection = self._connect()
            parameters = {
                "run_ids": [lease.run_id for lease in leases],
                "tokens": [lease.token for lease in leases],
                "lease": duration,
            }
            rows = self._ask(self._connection, BEAT_IN_TIME, parameters)
        except psycopg.Error:
            self.close()
            raise
        return {row["run_id"]: cancel_from(row) for row in rows}

    def _connect(self) -> psycopg.Connection[dict[str, Any]]:
        uri = self._address.current
        try:
            return self._connect_to(uri)
        except psycopg.OperationalError as error:
            other = self._address.instead_of(uri) if is_refusal(error) else None
            if other is None:
                raise
            return self._connect_to(other)

    def _connect_to(self, uri: str) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(
            uri,
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,
            connect_timeout=max(2, int(self._timeout)),
            fallback_application_name="langgraph-serverless-heartbeat",
            # a server that hangs must not hang the heartbeat with it
            tcp_user_timeout=max(1000, int(self._timeout * 1000)),
        )

    def _ask(
        self, connection: psycopg.Connection[dict[str, Any]], statements: LiteralString, parameters: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        # two limits: the server's own ends a wait for somebody's lock, and leaves nothing behind; ours is for a server that
        # hangs while its machine goes on acknowledging what we send
        watchdog = threading.Timer(self._timeout * 1.5, _cut, [connection.fileno()])
        watchdog.daemon = True
        watchdog.start()
        try:
            # one message, as in pool.in_one_message: a worker that is stopped in the midst of a transaction would keep all its
            # runs locked, which nobody could take from it then
            with psycopg.ClientCursor(connection, row_factory=dict_row) as cursor:
                cursor.execute(statements, {**parameters, "limit": f"{max(1, int(self._timeout * 1000))}ms"})
                while cursor.nextset():
                    pass
                return cursor.fetchall()
        finally:
            watchdog.cancel()

    def hand_off(self, lease: Lease) -> None:
        """Give a run back to the queue without counting an attempt, if the lease is still held.

        Raises:
            psycopg.Error: if the database does not answer.
        """
        if self._connection is not None:
            self._ask(self._connection, HAND_OFF_IN_TIME, {"run_id": lease.run_id, "token": lease.token})

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _cut(descriptor: int) -> None:
    """End a connection that another thread waits for."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)
