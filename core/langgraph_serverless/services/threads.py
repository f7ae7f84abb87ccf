"""Threads: creating, finding, copying and deleting them. Their state belongs to ``services/state.py``, which needs the graphs.

Deleting a thread deletes its runs; a worker that executes one loses its lease with the row and stops. The bell only tells
it sooner.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from langgraph_serverless.domain.ids import new_id, random_id
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.ports import Bell
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.threads import Thread, ThreadField, ThreadStatus, Ttl, TtlStrategy
from langgraph_serverless.errors import ConflictError, InvalidInputError, NotFoundError
from langgraph_serverless.persistence import sweeps
from langgraph_serverless.persistence.pool import Connection, Database
from langgraph_serverless.persistence.threads import ThreadRepository
from langgraph_serverless.services.idempotency import Once, claimed, claimed_transaction, keep

#: What an extract path may start with.
EXTRACTABLE = (ThreadField.CONFIG, ThreadField.INTERRUPTS, ThreadField.METADATA, ThreadField.VALUES)
#: Threads whose histories are cut down in one transaction.
_PRUNED_AT_ONCE = 20
#: An ``if_exists: do_nothing`` that meets a concurrent delete looks again.
_ATTEMPTS = 3
_STEP = re.compile(r"(?P<key>[^\[\]]*)(?P<indexes>(\[-?\d+\])*)")
_INDEX = re.compile(r"-?\d+")
_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names of fields, which would make an item hard to read; ``error`` is none for searches.
_NO_ALIASES = frozenset(ThreadField) - {ThreadField.ERROR}
#: Written by runs; dropped from what clients send, as in the official server.
SERVER_METADATA = frozenset({"assistant_id", "run_id", "thread_id", "cron_id"})


class SuperstepWriter(Protocol):
    """Writes the supersteps that a new thread starts with; only a process with the graphs has one."""

    async def __call__(
        self, caller: Principal, thread_id: uuid.UUID, supersteps: Sequence[Mapping[str, Any]]
    ) -> Thread:
        """Write one checkpoint per superstep and return the thread as it is then.

        Raises:
            ServerError: with the reason; the thread stays.
        """


class ThreadService:
    """Use cases around threads."""

    def __init__(self, database: Database, bell: Bell, default_ttl: Ttl | None = None) -> None:
        self._database = database
        self._bell = bell
        self._default_ttl = default_ttl
        self._threads = ThreadRepository()

    async def create(
        self,
        caller: Principal,
        *,
        thread_id: uuid.UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: Ttl | None = None,
        return_existing: bool = False,
        once: Once[Thread] | None = None,
    ) -> Thread:
        """Make a thread.

        Args:
            ttl: without one, the default of the project.
            return_existing: give the stored thread, as it is, if the id is taken.
            once: see ``services/idempotency.py``.

        Raises:
            ConflictError: if the id is taken.
        """
        wanted = thread_id or new_id()
        async with claimed(self._database, caller, once) as connection:
            for _ in range(_ATTEMPTS):
                made = await self._threads.insert(
                    connection,
                    wanted,
                    tenant=caller.tenant,
                    metadata=_own(metadata or {}),
                    ttl=ttl or self._default_ttl,
                )
                if made is None and return_existing:
                    made = await self._threads.get(connection, wanted)
                if made is not None:
                    await keep(connection, caller, once, made)
                    return made
                if not return_existing:
                    break
            # inside the transaction, so that the key stays unused
            raise ConflictError(f"Thread with ID {wanted} already exists")

    async def get(self, caller: Principal, thread_id: uuid.UUID) -> Thread:
        """One thread.

        Raises:
            NotFoundError: if there is none.
        """
        async with self._database.connection() as connection:
            found = await self._threads.get(connection, thread_id)
        if found is None:
            raise _missing(thread_id)
        return found

    async def update(
        self, caller: Principal, thread_id: uuid.UUID, *, metadata: Mapping[str, Any], ttl: Ttl | None
    ) -> Thread:
        """Merge metadata and replace the time to live, if one is given."""
        async with self._database.connection() as connection:
            found = await self._threads.update(connection, thread_id, metadata=_own(metadata), ttl=ttl)
        if found is None:
            raise NotFoundError("Not Found")
        return found

    async def delete(self, caller: Principal, thread_id: uuid.UUID) -> None:
        """Remove a thread with its runs, crons and checkpoints, also while it is busy."""
        async with self._database.transaction() as connection:
            found, cancelled = await self._delete(connection, [thread_id])
        if not found:
            raise _missing(thread_id)
        await self._stop(cancelled)

    async def prune(
        self, caller: Principal, thread_ids: Sequence[uuid.UUID], strategy: TtlStrategy = TtlStrategy.DELETE
    ) -> int:
        """Remove these threads, or of their checkpoints all but the newest; how many threads that were.

        Threads that are missing are passed over, and with ``KEEP_LATEST`` also those that are busy: their next run may need
        what would go.
        """
        if strategy is TtlStrategy.KEEP_LATEST:
            pruned, wanted = 0, sorted(set(thread_ids))
            for start in range(0, len(wanted), _PRUNED_AT_ONCE):
                async with self._database.transaction() as connection:
                    pruned += await sweeps.prune(connection, wanted[start : start + _PRUNED_AT_ONCE])
            return pruned
        async with self._database.transaction() as connection:
            found, cancelled = await self._delete(connection, thread_ids)
        await self._stop(cancelled)
        return len(found)

    async def copy(self, caller: Principal, thread_id: uuid.UUID, once: Once[Thread] | None = None) -> Thread:
        """A new thread with the same metadata, state and history, and no runs."""
        begin = claimed_transaction if self._default_ttl else claimed
        async with begin(self._database, caller, once) as connection:
            made = await self._threads.copy(connection, thread_id, random_id())
            if made is not None and self._default_ttl:
                made = await self._threads.update(connection, made.thread_id, metadata={}, ttl=self._default_ttl)
            if made is None:
                raise ConflictError("Conflict")
            await keep(connection, caller, once, made)
        return made

    async def search(
        self,
        caller: Principal,
        *,
        ids: Sequence[uuid.UUID] | None,
        metadata: Mapping[str, Any],
        values: Mapping[str, Any],
        status: ThreadStatus | None,
        select: Sequence[ThreadField] = tuple(ThreadField),
        extract: Mapping[str, str] | None = None,
        sort_by: ThreadField = ThreadField.UPDATED_AT,
        descending: bool = True,
        limit: int = 10,
        offset: int = 0,
    ) -> Page[dict[str, Any]]:
        """Threads that match, each with the selected fields and the extracted values."""
        paths = parse_extract(extract or {})
        conditions = self._threads.search_filter(ids=ids, metadata=metadata, values=values, status=status)
        async with self._database.connection() as connection:
            rows = await self._threads.search(
                connection,
                conditions,
                select=select,
                extract=paths,
                sort_by=sort_by,
                descending=descending,
                limit=limit,
                offset=offset,
            )
        return Page.of(rows, offset=offset, limit=limit)

    async def count(
        self,
        caller: Principal,
        *,
        metadata: Mapping[str, Any],
        values: Mapping[str, Any],
        status: ThreadStatus | None,
    ) -> int:
        conditions = self._threads.search_filter(ids=None, metadata=metadata, values=values, status=status)
        async with self._database.connection() as connection:
            return await self._threads.count(connection, conditions)

    async def storage(self, caller: Principal, thread_id: uuid.UUID) -> dict[str, Any]:
        """What a thread's checkpoints take, in rows and bytes."""
        async with self._database.connection() as connection:
            row = await self._threads.measure(connection, thread_id)
        if row is None:
            raise _missing(thread_id)
        channels = row["channels"]
        channel_bytes = sum(channel["bytes"] for channel in channels.values())
        return {
            "thread_id": thread_id,
            "total_bytes": row["checkpoint_bytes"] + channel_bytes + row["write_bytes"],
            "checkpoints": {"count": row["checkpoint_count"], "bytes": row["checkpoint_bytes"]},
            "channel_values": {
                "count": sum(channel["versions"] for channel in channels.values()),
                "bytes": channel_bytes,
                "by_channel": channels,
            },
            "pending_writes": {"count": row["write_count"], "bytes": row["write_bytes"]},
        }

    async def _delete(
        self, connection: Connection, thread_ids: Sequence[uuid.UUID]
    ) -> tuple[Sequence[uuid.UUID], Sequence[uuid.UUID]]:
        """Which threads there were, and which of their runs were executing."""
        found = await self._threads.lock(connection, thread_ids)
        if not found:
            return found, ()
        cancelled = await self._threads.delete_runs(connection, found)
        await self._threads.delete(connection, found)
        return found, cancelled

    async def _stop(self, run_ids: Sequence[uuid.UUID]) -> None:
        if run_ids:
            await self._bell.cancel(run_ids)


def parse_extract(extract: Mapping[str, str]) -> dict[str, Sequence[str] | None]:
    """The paths of an extract by their aliases.

    Raises:
        InvalidInputError: if an alias is a field's name or no identifier, or a path is empty or starts with something else.
    """
    if reserved := sorted(_NO_ALIASES.intersection(extract)):
        raise InvalidInputError(f"Extract keys cannot use reserved field names: {reserved}")
    for alias in extract:
        if not _ALIAS.fullmatch(alias):
            raise InvalidInputError(f"Extract key '{alias}' must be a valid identifier (letters, digits, underscores)")
        if not extract[alias]:
            raise InvalidInputError(f"Extract path for '{alias}' must be a non-empty string")
    return {alias: parse_extract_path(path) for alias, path in extract.items()}


def parse_extract_path(path: str) -> Sequence[str] | None:
    """``values.messages[-1].content`` as its steps; None if it has a wildcard or is malformed, which matches nothing.

    Raises:
        InvalidInputError: if it does not start with one of ``EXTRACTABLE``.
    """
    if re.split(r"[.\[]", path, maxsplit=1)[0] not in EXTRACTABLE:
        raise InvalidInputError(f"Extract path '{path}' must start with one of: {', '.join(EXTRACTABLE)}")
    steps: list[str] = []
    for part in filter(None, path.split(".")):
        if (step := _STEP.fullmatch(part)) is None:
            return None
        steps += [step["key"]] if step["key"] else []
        steps += _INDEX.findall(step["indexes"])
    return steps


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A client's metadata without what only the server knows: some things are looked up by it."""
    return {key: value for key, value in metadata.items() if key not in SERVER_METADATA}


def _missing(thread_id: uuid.UUID) -> NotFoundError:
    return NotFoundError(f"Thread with ID {thread_id} not found")
