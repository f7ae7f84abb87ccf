"""Threads: creating, finding, copying and deleting them. Their state belongs to ``services/state.py``, which needs the graphs.

Deleting a thread deletes its runs; a worker that executes one loses its lease with the row and stops. The bell only tells
it sooner.

Handlers for ``threads`` are asked before a connection is taken; their filter is compared with the metadata of the row, under its lock where
it is changed. What is hidden is missing.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from langgraph_serverless.domain.auth_filters import Filter, both, visible
from langgraph_serverless.domain.handler_values import changed, changed_metadata, changed_number
from langgraph_serverless.domain.ids import new_id, random_id
from langgraph_serverless.domain.paging import Page
from langgraph_serverless.domain.ports import Authorizer, Bell, allow_all
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.threads import Thread, ThreadField, ThreadStatus, Ttl, TtlStrategy
from langgraph_serverless.errors import AccessError, ConflictError, HandlerResultError, InvalidInputError, NotFoundError
from langgraph_serverless.persistence import sweeps
from langgraph_serverless.persistence.filters import Search
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

    def __init__(
        self, database: Database, bell: Bell, default_ttl: Ttl | None = None, *, authorize: Authorizer = allow_all
    ) -> None:
        self._authorize = authorize
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
            ConflictError: if the id is taken, also by a thread that the caller cannot see.
        """
        wanted = thread_id or new_id()
        value = {
            "thread_id": wanted,
            "metadata": dict(metadata or {}),
            "if_exists": "do_nothing" if return_existing else "raise",
            **({"ttl": {"strategy": ttl.strategy.value, "ttl": ttl.minutes}} if ttl is not None else {}),
        }
        allowed = await self._authorize(caller, "threads", "create", value)
        stamped = _own(changed_metadata(value))
        refused: AccessError | None = None
        if return_existing and allowed is None and self._authorize is not allow_all:
            # whoever may make one need not see those of others. Asked before a connection is taken; counts if the id is taken
            try:
                allowed = await self._authorize(caller, "threads", "read", {"thread_id": wanted})
            except AccessError as error:
                refused = error
        async with claimed(self._database, caller, once) as connection:
            for _ in range(_ATTEMPTS):
                made = await self._threads.insert(
                    connection,
                    wanted,
                    tenant=caller.tenant,
                    metadata=stamped,
                    ttl=ttl or self._default_ttl,
                )
                if made is None and return_existing:
                    made = await self._threads.get(connection, wanted)
                    if made is not None and refused is not None:
                        raise refused
                    if made is not None and not visible(made.metadata, allowed):
                        break
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
        allowed = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        async with self._database.connection() as connection:
            found = await self._threads.get(connection, thread_id)
        if found is None or not visible(found.metadata, allowed):
            raise _missing(thread_id)
        return found

    async def update(
        self, caller: Principal, thread_id: uuid.UUID, *, metadata: Mapping[str, Any], ttl: Ttl | None
    ) -> Thread:
        """Merge metadata and replace the time to live, if one is given."""
        value = {"thread_id": thread_id, "metadata": dict(metadata)}
        allowed = await self._authorize(caller, "threads", "update", value)
        stamped, found = _own(changed_metadata(value)), None
        # a single statement is a transaction by itself
        scope = self._database.connection() if allowed is None else self._database.transaction()
        async with scope as connection:
            if allowed is None or await self._threads.lock(connection, [thread_id], allowed):
                found = await self._threads.update(connection, thread_id, metadata=stamped, ttl=ttl)
        if found is None:
            raise NotFoundError("Not Found")
        return found

    async def delete(self, caller: Principal, thread_id: uuid.UUID) -> None:
        """Remove a thread with its runs, crons and checkpoints, also while it is busy."""
        allowed = await self._authorize(caller, "threads", "delete", {"thread_id": thread_id})
        async with self._database.transaction() as connection:
            found, cancelled = await self._delete(connection, [thread_id], allowed)
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
        # as in the official server, which has them as strings here
        value = {"thread_ids": [str(thread_id) for thread_id in thread_ids]}
        allowed = await self._authorize(caller, "threads", "delete", value)
        if strategy is TtlStrategy.KEEP_LATEST:
            pruned, wanted = 0, sorted(set(thread_ids))
            for start in range(0, len(wanted), _PRUNED_AT_ONCE):
                async with self._database.transaction() as connection:
                    batch: Sequence[uuid.UUID] = wanted[start : start + _PRUNED_AT_ONCE]
                    if allowed is not None:
                        batch = await self._threads.lock(connection, batch, allowed)
                    pruned += await sweeps.prune(connection, batch)
            return pruned
        async with self._database.transaction() as connection:
            found, cancelled = await self._delete(connection, thread_ids, allowed)
        await self._stop(cancelled)
        return len(found)

    async def copy(self, caller: Principal, thread_id: uuid.UUID, once: Once[Thread] | None = None) -> Thread:
        """A new thread with the same metadata, state and history, and no runs."""
        copy_id, made = random_id(), None
        read = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        value: dict[str, Any] = {"thread_id": copy_id}
        allowed = both(read, await self._authorize(caller, "threads", "create", value))
        stamps = _own(changed_metadata(value))
        begin = claimed_transaction if self._default_ttl or stamps or allowed is not None else claimed
        async with begin(self._database, caller, once) as connection:
            if allowed is None or await self._threads.lock(connection, [thread_id], allowed):
                made = await self._threads.copy(connection, thread_id, copy_id)
            if made is not None and (self._default_ttl or stamps):
                made = await self._threads.update(connection, copy_id, metadata=stamps, ttl=self._default_ttl)
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
        value = _wanted(metadata, values, status, limit, offset)
        conditions = await self._conditions(caller, value, ids)
        limit, offset = changed_number(value, "limit", limit), changed_number(value, "offset", offset)
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
        conditions = await self._conditions(caller, _wanted(metadata, values, status, 0, 0), None)
        async with self._database.connection() as connection:
            return await self._threads.count(connection, conditions)

    async def storage(self, caller: Principal, thread_id: uuid.UUID) -> dict[str, Any]:
        """What a thread's checkpoints take, in rows and bytes."""
        allowed = await self._authorize(caller, "threads", "read", {"thread_id": thread_id})
        async with self._database.connection() as connection:
            row = await self._threads.measure(connection, thread_id)
        if row is None or not visible(row["metadata"], allowed):
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

    async def _conditions(self, caller: Principal, value: dict[str, Any], ids: Sequence[uuid.UUID] | None) -> Search:
        allowed = await self._authorize(caller, "threads", "search", value)
        return self._threads.search_filter(
            ids=ids,
            metadata=changed_metadata(value),
            values=changed(value, "values", dict),
            status=_status(value.get("status")),
            allowed=allowed,
        )

    async def _delete(
        self, connection: Connection, thread_ids: Sequence[uuid.UUID], allowed: Filter | None
    ) -> tuple[Sequence[uuid.UUID], Sequence[uuid.UUID]]:
        """Which threads there were, and which of their runs were executing."""
        found = await self._threads.lock(connection, thread_ids, allowed)
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


def _wanted(
    metadata: Mapping[str, Any], values: Mapping[str, Any], status: ThreadStatus | None, limit: int, offset: int
) -> dict[str, Any]:
    """A search as handlers are shown one."""
    return {
        "metadata": dict(metadata),
        "values": dict(values),
        "status": status and status.value,
        "limit": limit,
        "offset": offset,
    }


def _status(status: Any) -> ThreadStatus | None:
    try:
        return ThreadStatus(status) if status is not None else None
    except ValueError:
        raise HandlerResultError("Auth handler left no thread status in 'status'.") from None


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A client's metadata without what only the server knows: some things are looked up by it."""
    return {key: value for key, value in metadata.items() if key not in SERVER_METADATA}


def _missing(thread_id: uuid.UUID) -> NotFoundError:
    return NotFoundError(f"Thread with ID {thread_id} not found")
