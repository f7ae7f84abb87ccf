"""What a ``langgraph_sdk.Auth`` holds, checked when it is loaded, and what its handlers raise, as errors of ours.

The attributes read here are those that the SDK's own comments promise to servers (``Auth.__init__``). Promises a one-sentence
``ProjectError`` for an object that could only fail at the first request. Never calls a handler.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.errors import AccessError, ProjectError

#: What an authentication handler may ask for, by the names of its parameters.
PARAMETERS = frozenset(
    {"request", "path", "method", "path_params", "query_params", "headers", "authorization", "body", "scopes"}
)
#: What a header's value may not hold: it would end the header.
_UNSENDABLE = re.compile(r"[\r\n\0]")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Written by the server itself.
_OURS = frozenset({"content-length", "content-type", "transfer-encoding", "connection"})


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of one ``Auth`` object."""

    authenticate: Callable[..., Any]
    #: Which of ``PARAMETERS`` it takes.
    wanted: frozenset[str]
    #: ``(resource, action)``, each of which may be ``*``; only the best match is asked.
    on: Mapping[tuple[str, str], Callable[..., Any]]

    def for_action(self, resource: str, action: str) -> Callable[..., Any] | None:
        """The handler to ask; None if there is none, which allows it."""
        for key in ((resource, action), (resource, "*"), ("*", action), ("*", "*")):
            if (found := self.on.get(key)) is not None:
                return found
        return None


def read_handlers(auth: Any, *, key: str) -> Handlers:
    """The handlers of the object that ``key`` of langgraph.json names.

    Raises:
        ProjectError: it is no ``Auth``, or its authentication asks for what there is not.
    """
    from langgraph_sdk import Auth  # noqa: PLC0415 - see the package

    if not isinstance(auth, Auth):
        raise ProjectError(f"{key} is of type {type(auth).__name__}; it must be a langgraph_sdk.Auth.")
    authenticate = auth._authenticate_handler
    if authenticate is None:
        raise ProjectError(f"{key} has no authentication; add an async function with @auth.authenticate.")
    on = {pair: handlers[-1] for pair, handlers in auth._handlers.items() if handlers}
    if auth._global_handlers:
        on["*", "*"] = auth._global_handlers[-1]
    return Handlers(authenticate=authenticate, wanted=_wanted(authenticate, key), on=on)


def _wanted(authenticate: Callable[..., Any], key: str) -> frozenset[str]:
    wanted = set()
    for parameter in inspect.signature(authenticate).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            return PARAMETERS
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.name in PARAMETERS and parameter.kind is not parameter.POSITIONAL_ONLY:
            wanted.add(parameter.name)
        elif parameter.default is parameter.empty:
            raise ProjectError(
                f"{key}: the authentication has a parameter '{parameter.name}'; it can have {', '.join(sorted(PARAMETERS))}."
            )
    return frozenset(wanted)


def refusal(error: Exception) -> AccessError | None:
    """The refusal that a handler means by this exception; None if it is a mistake of the handler.

    Starlette's exception is meant as well as the SDK's: people raise either. What neither of them can mean, say a redirect, is a
    mistake.
    """
    status, detail = getattr(error, "status_code", None), getattr(error, "detail", None)
    if not isinstance(status, int) or not 400 <= status <= 599 or detail is None:
        return None
    text = detail if isinstance(detail, str) else str(detail)
    return AccessError(text, status, sendable(getattr(error, "headers", None)))


def sendable(headers: Any) -> dict[str, str]:
    """Those of a handler's headers that can be sent without saying something else."""
    if not isinstance(headers, Mapping):
        return {}
    return {
        name: value
        for name, value in headers.items()
        if isinstance(name, str)
        and isinstance(value, str)
        and _HEADER_NAME.fullmatch(name)
        and name.lower() not in _OURS
        and not _UNSENDABLE.search(value)
        and value.isascii()
    }
