"""Ids: how the server makes them and how it reads those of clients.

Threads, runs and crons get UUID v7 (they sort by creation), assistants and copies v4, default assistants a v5 of their
graph id in a namespace of their own, which was found by calculation from recorded ids of the official server.
"""

from __future__ import annotations

import re
import uuid

from uuid_utils.compat import uuid7

from langgraph_serverless.errors import InvalidInputError

#: Not one of the four namespaces of RFC 4122.
DEFAULT_ASSISTANT_NAMESPACE = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")

_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)([0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")


def new_id() -> uuid.UUID:
    """A UUID v7: time-ordered, for threads, runs and crons."""
    return uuid7()


def random_id() -> uuid.UUID:
    """A UUID v4, for assistants and copies of threads."""
    return uuid.uuid4()


def default_assistant_id(graph_id: str) -> uuid.UUID:
    """The id of the assistant that every graph has from the start."""
    return uuid.uuid5(DEFAULT_ASSISTANT_NAMESPACE, graph_id)


def parse_id(value: object, kind: str, *, suffix: str = ": must be a UUID") -> uuid.UUID:
    """Read a client's id.

    Args:
        kind: what the id names, for the message: ``assistant``, ``thread``, ``run``, ``cron``.
        suffix: run creation answers plain ``Invalid thread ID``; pass an empty string there.

    Raises:
        InvalidInputError: if it is not a UUID in one of its canonical spellings.
    """
    if isinstance(value, uuid.UUID):
        return value
    text = str(value)
    # uuid.UUID also takes braces, "urn:uuid:", stray hyphens, underscores and digits of other scripts
    if _UUID.fullmatch(text):
        return uuid.UUID(text)
    raise InvalidInputError(f"Invalid {kind} ID{suffix}")
