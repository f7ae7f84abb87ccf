"""The small interfaces through which adapters and services see each other.

An adapter never imports another one; where the runner needs the event log, or a service the bell, it is given one of
these. Each has one conformance suite under ``tests/integration`` that every implementation passes.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from langgraph_serverless.domain.auth_filters import Filter
from langgraph_serverless.domain.events import Event
from langgraph_serverless.domain.manifest import GraphManifest
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.runs import Lease


class EventAppender(Protocol):
    """The worker's side of the event log."""

    async def append(self, lease: Lease, events: Sequence[Event]) -> None:
        """Append in order, in one round trip.

        Raises:
            LeaseLostError: if a later epoch of the run has appended already.
            UnavailableError: if the log is out of reach. The run goes on: the events are kept, within bounds, and go out
                with the next append. Do not hand them in again.
        """

    async def seal(self, lease: Lease) -> None:
        """Say that this lease has appended its last event, before somebody else goes on with the run.

        Waits a moment for what is still held back. Without a seal the next owner's events follow a gap marker. Never raises.
        """

    async def expire(self, run_id: uuid.UUID, seconds: float) -> None:
        """Keep the run's events for this long from now on.

        Raises:
            UnavailableError: if the log is out of reach.
        """


class EventReader(Protocol):
    """A reader's side of the event log.

    Events come in the batches in which they were ready, so that they can be sent in one piece. An empty batch comes at
    least every few seconds while nothing happens: time for a keep-alive and for a look at the run's row, because the log
    may be lost; unless it is ``DELAYED``, which says nothing of the log.
    """

    def read(self, run_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        """Events after this id, live, up to and including the end marker.

        ``after`` is an event id; ``"0-0"`` means from the first one, ``"$"`` from now on.
        """

    def end(self, run_id: uuid.UUID) -> AsyncIterator[Sequence[Event]]:
        """Nothing but the end marker, for those who wait for a run without reading it."""

    async def exists(self, run_id: uuid.UUID) -> bool:
        """Whether the log still has events of this run.

        Raises:
            UnavailableError: if the log is out of reach.
        """

    async def newest(self, run_id: uuid.UUID) -> str | None:
        """After which event one that reads from now on would begin; None if the run is over.

        Raises:
            UnavailableError: if the log is out of reach.
        """

    def thread(self, thread_id: uuid.UUID, after: str) -> AsyncIterator[Sequence[Event]]:
        """Entries of the thread's index after this id, live; never ends. ``run`` and ``state_update`` count, others do not."""

    def nudge(self, run_id: uuid.UUID) -> None:
        """Have those who read this run look at once, and get an empty batch if nothing is new."""

    @property
    def connected(self) -> bool:
        """False while the log is known to be out of reach."""


class Authorizer(Protocol):
    """Says what a caller may do, and with which rows. Every use case asks it before anything else."""

    async def __call__(self, caller: Principal, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
        """Which rows the caller may do this with, by their metadata; None for all.

        Args:
            resource: ``threads``, ``assistants``, ``crons`` or ``store``.
            action: as in ``langgraph_sdk.Auth``: ``create``, ``read``, ``update``, ``delete``, ``search``, ``create_run``;
                of the store ``put``, ``get``, ``search``, ``delete``, ``list_namespaces``.
            value: what is to be done. The handler may change it in place, and what is then there is what is done.

        Raises:
            AccessError: not at all.
        """


async def allow_all(caller: Principal, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
    """The ``Authorizer`` of a project without authentication."""
    return None


class GraphDescriber(Protocol):
    """Builds a graph as one assistant has it, to say what it looks like. Only processes with the user's code have one."""

    async def __call__(self, graph_id: str, config: Mapping[str, Any]) -> GraphManifest:
        """The description of the graph that the factory builds from this config.

        Raises:
            BadRequestError: with the factory's own words, if it builds none from it.
        """


class WebhookPolicy(Protocol):
    """Says where webhooks may go."""

    @property
    def sends(self) -> bool:
        """Whether any are sent; if not, they are accepted and forgotten."""

    async def check(self, url: str) -> None:
        """Raises: InvalidInputError: if nothing would be sent to this URL."""


class Bell(Protocol):
    """Says "look at the queue"; losing a ring costs latency, never a run."""

    async def ring(self, count: int = 1, *, again: bool = False, invoke: bool = True) -> None:
        """Wake workers for this many runs. Never raises: a lost ring is found by polling.

        Args:
            again: these are all runs that wait for a worker, so whoever is on the way already is on the way to them.
            invoke: false if only workers that are there are to hear it, as of a run that cannot begin yet.
        """

    async def stir(self) -> None:
        """Something is to be done that no worker is needed for: the scheduler is not to sleep over it. Never raises."""

    async def cancel(self, run_ids: Sequence[uuid.UUID]) -> None:
        """Tell the workers that cancels of these runs have been recorded. Never raises."""


class Cipher(Protocol):
    """Encrypts what is stored, and decrypts what was; all of it raises EncryptionError. What was never encrypted is opened as it is."""

    @property
    def documents(self) -> bool:
        """Whether JSON is encrypted now."""

    @property
    def blobs(self) -> bool:
        """Whether checkpoints are encrypted now."""

    async def seal_document(self, model: str, field: str, document: Any) -> Any:
        """The document with the same keys and encrypted values, as far as the project wants them to be."""

    async def open_document(self, document: Any) -> Any:
        """The inverse, also of a document that Postgres has put together of others, key by key."""

    async def seal_blob(self, model: str, field: str, data: bytes) -> bytes:
        """Encrypted bytes."""

    async def open_blob(self, data: bytes) -> bytes:
        """The inverse."""


class Embedder(Protocol):
    """Turns what is stored and what is looked for into vectors; only processes with the user's project have one."""

    def texts(self, value: Mapping[str, Any], paths: Sequence[str] | None) -> list[tuple[str, str]]:
        """What is embedded of an item's value, each with a name of its own; ``None`` means the index's own paths.

        Raises:
            InvalidInputError: if that is too much.
        """

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text.

        Raises:
            EmbeddingError: if they cannot be had.
        """

    async def embed_query(self, text: str) -> list[float]:
        """The vector of what is looked for.

        Raises:
            EmbeddingError: if it cannot be had.
        """


class Unsaved(Protocol):
    """What a run has put into checkpoints and that is not in the database yet."""

    async def flush(self) -> None:
        """Return when all of it is.

        Raises:
            LeaseLostError: the run belongs to somebody else.
            UnavailableError: it cannot be written now; nothing of it is lost.
        """

    async def take(self) -> Mapping[str, Any] | None:
        """What to write together with the run's end; once more each time, until that ``written``.

        Raises:
            The same, and whatever the database has against it, once.
        """

    def written(self) -> None:
        """What was taken is in the database, and nothing more is to come."""

    def close(self) -> None:
        """Write nothing any more."""
