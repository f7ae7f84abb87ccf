"""What encrypted data looks like where it is stored, and for whom it is encrypted.

A document keeps its keys; each value that was encrypted stands in an envelope with what its decryption needs to know::

    {"owner": "u1", "email": {"__encrypted__": <the handler's value>, "__encryption_context__":
        {"model": "thread", "field": "metadata", "metadata": <what the context handler said>}}}

An envelope per value and not one note per document, because Postgres merges documents key by key (``metadata || patch``) and takes single keys
out of them: whatever it puts together, each value still says how it was encrypted. What has no envelope was never encrypted. Blobs begin
with ``MAGIC``, then comes the same in front of the bytes.

Relies on nothing. Never encrypts: ``encryption/`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import Any

import orjson

from langgraph_serverless.errors import EncryptionError, ReservedKeyError

VALUE, CONTEXT = "__encrypted__", "__encryption_context__"
_ENVELOPE = frozenset({VALUE, CONTEXT})
#: No serializer of LangGraph's writes this at the beginning of anything.
MAGIC = b"\x00lgs-encrypted\x01"
#: In the run's ``kwargs`` and in a cron's ``payload``: for whom its worker encrypts. No secret, and never encrypted itself.
SCOPE_KEY = "encryption_context"

#: Keys that the server itself looks for in the database, by the name of the field. No handler gets to see them.
_SERVERS_OWN: Mapping[str, frozenset[str]] = {
    "metadata": frozenset({"graph_id", "assistant_id", "thread_id", "run_id", "cron_id"}),
    "error": frozenset({"error"}),
    "kwargs": frozenset({SCOPE_KEY, "resumable"}),
    "payload": frozenset({SCOPE_KEY, "assistant_id", "schedule", "timezone"}),
}
#: And those of one model only: in the metadata of others, "source" is the user's.
_OF_MODELS: Mapping[tuple[str, str], frozenset[str]] = {
    ("assistant", "metadata"): frozenset({"created_by"}),
    ("checkpoint", "metadata"): frozenset(
        {"source", "step", "parents", "counters_since_delta_snapshot", "delta_writes_versioned"}
    ),
}
#: Errors in the server's own words, which say nothing of the user's data: to be read where nothing can be decrypted.
_PLAIN_ERRORS = frozenset({"EncryptionError", "RunAttemptsExhausted", "UserInterrupt", "UserRollback"})
#: In place of a claimed run's ``kwargs`` that could not be decrypted: why.
UNREADABLE = "unreadable"

_scope: ContextVar[Mapping[str, Any]] = ContextVar("encryption_context", default={})  # noqa: B039 - never changed


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is encrypted, and for whom: what handlers get as their ``ctx``."""

    model: str
    field: str
    metadata: Mapping[str, Any] = attribute(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"model": self.model, "field": self.field, "metadata": dict(self.metadata)}

    @classmethod
    def from_json(cls, document: Any) -> Sealed:
        """Raises: EncryptionError: nobody has written this."""
        try:
            return cls(document["model"], document["field"], document["metadata"])
        except (TypeError, LookupError):
            raise EncryptionError("Encrypted data does not say how it was encrypted: it is damaged.") from None


def current_scope() -> Mapping[str, Any]:
    """What the context handler has said of whoever this is done for."""
    return _scope.get()


@contextmanager
def encrypting_for(metadata: Mapping[str, Any] | None) -> Iterator[None]:
    """What is encrypted meanwhile, in this task and in those that it starts, is encrypted with this context."""
    token = _scope.set(dict(metadata or {}))
    try:
        yield
    finally:
        _scope.reset(token)


def with_scope(document: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody will execute later, with the context that is to be encrypted for then."""
    scope = _scope.get()
    return {**document, SCOPE_KEY: dict(scope)} if scope else dict(document)


def without_scope(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a client has sent, who is not to say for whom is encrypted: it would be believed where nobody else says so."""
    return {key: value for key, value in document.items() if key != SCOPE_KEY}


def scope_of(document: Any) -> Mapping[str, Any] | None:
    """The context that ``with_scope`` has put there. Never raises: what cannot be executed is claimed like everything else."""
    scope = document.get(SCOPE_KEY) if isinstance(document, Mapping) else None
    return scope if isinstance(scope, Mapping) else None


def require_readable(kwargs: Any) -> None:
    """Raises: EncryptionError: what a run was made with could not be decrypted."""
    if isinstance(kwargs, Mapping) and kwargs.keys() <= {UNREADABLE, SCOPE_KEY} and UNREADABLE in kwargs:
        raise EncryptionError(f"The run cannot be executed: {kwargs[UNREADABLE]}")


def to_encrypt(model: str, field: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a document that is the handler's business; the document has been ``set_apart``."""
    if _is_plain_error(document if field == "error" else document.get("__error__") if field == "output" else None):
        return {}
    own = _SERVERS_OWN.get(field, frozenset()) | _OF_MODELS.get((model, field), frozenset())
    return {key: value for key, value in document.items() if key not in own}


def _is_plain_error(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("error") in _PLAIN_ERRORS


def is_envelope(value: Any) -> bool:
    """Whether it looks like one; what looks like one and is none stands in one itself (``in_envelope`` without a context)."""
    return isinstance(value, dict) and value.keys() == _ENVELOPE


def set_apart(document: Mapping[str, Any]) -> dict[str, Any]:
    """What in a document, as it came from outside, looks like an envelope, put into one: nobody is to decrypt what he has sent.

    Raises:
        ReservedKeyError: it has a key that envelopes have, and might become one itself when it is merged.
    """
    if reserved := _ENVELOPE.intersection(document):
        raise ReservedKeyError(f"A document has the key '{min(reserved)}', which encryption keeps for itself.")
    return {key: in_envelope(value, None) for key, value in document.items() if is_envelope(value)}


def in_envelope(value: Any, sealed: Sealed | None) -> dict[str, Any]:
    return {VALUE: value, CONTEXT: None if sealed is None else sealed.to_json()}


def envelopes(document: Mapping[str, Any]) -> dict[str, tuple[Sealed | None, Any]]:
    """The values of a document that stand in envelopes, by their keys; without a context they were not encrypted."""
    found = {}
    for key, value in document.items():
        if is_envelope(value):
            context = value[CONTEXT]
            found[key] = (None if context is None else Sealed.from_json(context), value[VALUE])
    return found


def blob_with(scheme: bytes, about: Mapping[str, Any], data: bytes) -> bytes:
    """An encrypted blob: who has encrypted it (one byte), what he has to know of it, and his bytes."""
    header = orjson.dumps(about)
    return b"".join((MAGIC, scheme, len(header).to_bytes(4, "big"), header, data))


def parts_of(blob: bytes) -> tuple[bytes, dict[str, Any], bytes]:
    """The inverse of ``blob_with``, of what begins with ``MAGIC``.

    Raises:
        EncryptionError: it is damaged.
    """
    start = len(MAGIC) + 5
    try:
        end = start + int.from_bytes(blob[start - 4 : start], "big")
        about = orjson.loads(blob[start:end])
    except orjson.JSONDecodeError:
        raise EncryptionError("An encrypted blob does not say how it was encrypted: it is damaged.") from None
    return blob[len(MAGIC) : len(MAGIC) + 1], about, blob[end:]
