"""What an authorisation handler has left in the ``value`` that it was shown: what is then there is what is done.

A handler that leaves something of another kind has made a mistake: nothing is done then. Relies on nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from langgraph_serverless.errors import HandlerResultError

T = TypeVar("T")


def changed(value: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """A field of the value; an empty one of its kind, if the handler has removed it.

    Raises:
        HandlerResultError: it is of another kind.
    """
    found = value.get(key)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise HandlerResultError(
            f"Auth handler left a {type(found).__name__} in '{key}', which must be a {kind.__name__}."
        )
    return found


def changed_number(value: Mapping[str, Any], key: str, sent: int) -> int:
    """A page's limit or offset; what was sent, if the handler has removed it.

    Raises:
        HandlerResultError: it is no number of rows.
    """
    found = value.get(key, sent)
    if isinstance(found, bool) or not isinstance(found, int) or found < 0:
        raise HandlerResultError(f"Auth handler left no number of rows in '{key}'.")
    return found


def changed_labels(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A namespace of the store; empty, if there is none.

    Raises:
        HandlerResultError: it is no list of labels.
    """
    found = value.get(key)
    if found is None:
        return ()
    if not isinstance(found, list | tuple) or not all(isinstance(label, str) for label in found):
        raise HandlerResultError(f"Auth handler left no labels in '{key}', which must be a tuple of strings.")
    return tuple(found)


def changed_metadata(value: Mapping[str, Any]) -> dict[str, Any]:
    """What is to be stored as metadata: what was sent, with the handler's stamps."""
    return dict(changed(value, "metadata", dict))
