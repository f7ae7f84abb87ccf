"""What a caller may do: asks the user's ``@auth.on`` handlers. An ``Authorizer`` (``domain/ports.py``).

Of the handlers only the best match is asked: of the resource and action, of the resource, of the action, of everything; if there is
none, it is allowed. What a handler returns is a filter, a yes or a no; everything else, and every operator that is not known, is a
mistake of the handler and shows nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph_serverless.auth.handlers import Handlers, refusal
from langgraph_serverless.domain.auth_filters import Filter, FilterError, parse_filter
from langgraph_serverless.domain.principal import Principal
from langgraph_serverless.domain.users import User
from langgraph_serverless.errors import AccessError, HandlerResultError
from langgraph_serverless.telemetry import logger


class HandlerAuthorizer:
    """Asks the handlers of one project."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    async def __call__(self, caller: Principal, resource: str, action: str, value: dict[str, Any]) -> Filter | None:
        handler = None if caller.trusted else self._handlers.for_action(resource, action)
        if handler is None:
            return None
        try:
            result = await handler(ctx=_context(caller, resource, action), value=value)
        except AssertionError as error:
            raise AccessError(str(error) or "Forbidden") from error
        except Exception as error:
            if (refused := refusal(error)) is None:
                raise
            raise refused from error
        return _filter(result, resource, action)


def _filter(result: Any, resource: str, action: str) -> Filter | None:
    if result is None or result is True:
        return None
    if result is False:
        raise AccessError()
    if isinstance(result, Mapping):
        try:
            return parse_filter(result)
        except FilterError as error:
            logger.error(
                "the auth handler for %s.%s has returned a filter that cannot be used: %s",
                resource,
                action,
                error,
                extra={"action": "auth_filter"},
            )
            raise HandlerResultError("Auth handler returned a filter that cannot be used.") from error
    raise HandlerResultError(
        f"Auth handler returned invalid result. Expected filter dict, None, or boolean. Got {type(result)} instead."
    )


def _context(caller: Principal, resource: str, action: str) -> Any:
    from langgraph_sdk.auth.types import AuthContext, StudioUser  # noqa: PLC0415 - see the package

    if caller.is_studio:
        user: Any = StudioUser(caller.identity, is_authenticated=True)
    elif caller.native is not None and _complete(caller.native):
        user = caller.native
    else:
        user = User(caller.user if caller.user is not None else {"identity": caller.identity})
    return AuthContext(
        user=user,
        permissions=list(caller.permissions),
        resource=resource,  # type: ignore[arg-type]
        action=action,  # type: ignore[arg-type]
    )


def _complete(native: Any) -> bool:
    """Whether the handler's own object can be asked for everything that a user has."""
    return all(hasattr(native, name) for name in ("identity", "display_name", "is_authenticated", "permissions"))
