"""Graph factories: callables in ``langgraph.json`` that build a graph for one use.

``Factory.open`` promises to call the user's callable once, with the parameters that it asks for (``config``, a
``ServerRuntime``, both in any order, or nothing), and to unwrap what comes back: an awaitable, a sync or async context
manager, or both. A context manager is left when the block ends, and sees the block's exception, but cannot swallow it.

Sync factories are called on the event loop, not in a thread. A thread would lose context variables that the factory
sets and break what needs the running loop (``AsyncPostgresStore``, ``AsyncSqliteSaver``). A factory with slow work to
do should be async.

Relies on: langgraph and ``langgraph_sdk.runtime``. Never attaches checkpointers or stores; ``loader.py`` does.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, is_dataclass
from enum import Enum
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph_sdk.auth.types import BaseUser
from langgraph_sdk.runtime import AccessContext, ServerRuntime, _ExecutionRuntime, _ReadRuntime
from pydantic import BaseModel

from langgraph_serverless.errors import ProjectError
from langgraph_serverless.loopback import on_behalf_of


class Parameter(Enum):
    """What a factory's parameter wants."""

    CONFIG = "config"
    RUNTIME = "runtime"


@dataclass(frozen=True, kw_only=True)
class Use:
    """Why and for whom a graph is opened."""

    access_context: AccessContext
    config: Mapping[str, Any] | None = None
    store: BaseStore | None = None
    user: BaseUser | None = None
    context: Any = None


class Factory:
    """A callable of the user's project, and how to call it."""

    def __init__(self, function: Callable[..., Any], *, key: str) -> None:
        self._function = function
        self._key = key
        self._signature = _signature(function)
        self._parameters, self._context_type = _parameters(function, self._signature, key)

    @asynccontextmanager
    async def open(self, use: Use) -> AsyncIterator[Any]:
        """Call the factory; yields what it made."""
        swallowed: BaseException | None = None
        async with AsyncExitStack() as stack:
            with on_behalf_of(use.user):
                product = self._call(use)
                if inspect.isawaitable(product):
                    product = await product
                if isinstance(product, types.GeneratorType | types.AsyncGeneratorType):
                    raise ProjectError(
                        f"{self._key}: the factory is a bare generator; decorate it with "
                        "contextlib.contextmanager or contextlib.asynccontextmanager."
                    )
                if hasattr(product, "__aenter__"):
                    product = await stack.enter_async_context(product)
                elif hasattr(product, "__enter__"):
                    product = stack.enter_context(product)
            try:
                yield product
            except BaseException as error:
                swallowed = error
                raise
        # Reached after an exception only if the user's context manager suppressed it. A run that failed must fail.
        if swallowed is not None:
            raise swallowed

    def _call(self, use: Use) -> Any:
        bound = self._signature.bind_partial()
        for name, wanted in self._parameters.items():
            bound.arguments[name] = _config(use) if wanted is Parameter.CONFIG else self._runtime(use)
        return self._function(*bound.args, **bound.kwargs)

    def _runtime(self, use: Use) -> Any:
        # The SDK types the store as always present; build-time introspection has no database.
        common: dict[str, Any] = {
            "access_context": use.access_context,
            "user": use.user,
            "store": use.store if use.store is not None else InMemoryStore(),
        }
        if use.access_context == "threads.create_run":
            return _ExecutionRuntime(**common, context=_coerce(use.context, self._context_type))
        return _ReadRuntime(**common)


def _config(use: Use) -> dict[str, Any]:
    """A copy, so that a factory may write into it; ``configurable`` is always there to be read."""
    config = dict(use.config or {})
    return {**config, "configurable": dict(config.get("configurable") or {})}


def _coerce(context: Any, wanted: Any) -> Any:
    """The context as the type in ``ServerRuntime[Type]``, by the rule that langgraph has for ``context_schema``."""
    if not isinstance(context, Mapping) or not inspect.isclass(wanted):
        return context
    if is_dataclass(wanted) or issubclass(wanted, BaseModel):
        return wanted(**context)
    return context


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return inspect.Signature()


def _parameters(
    function: Callable[..., Any], signature: inspect.Signature, key: str
) -> tuple[dict[str, Parameter], Any]:
    """Which of the factory's parameters to fill with what, and the type argument of ``ServerRuntime``."""
    annotations = _annotations(function)
    found: dict[str, Parameter] = {}
    context_type: Any = None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [parameter for parameter in signature.parameters.values() if parameter.kind not in variadic]
    for parameter in named:
        annotation = annotations.get(parameter.name, parameter.annotation)
        wanted = _wanted(parameter.name, annotation)
        required = parameter.default is inspect.Parameter.empty
        if wanted is None and required and len(named) == 1:
            # The oldest form of factory takes one config, whatever it calls it.
            wanted = Parameter.CONFIG
        if wanted is not None:
            found[parameter.name] = wanted
            if wanted is Parameter.RUNTIME:
                context_type = _type_argument(annotation)
        elif required:
            raise ProjectError(
                f"{key}: the factory's parameter '{parameter.name}' cannot be filled; a factory may take "
                "'config: RunnableConfig' and 'runtime: ServerRuntime'."
            )
    return found, context_type


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Resolved annotations; those that do not resolve (imported for type checkers only) stay strings."""
    plain = inspect.unwrap(function)
    if not inspect.isroutine(plain):
        plain = getattr(type(plain), "__call__", plain)  # noqa: B004  an object with __call__
    try:
        return typing.get_type_hints(plain)
    # get_type_hints evaluates the user's strings, which can raise anything; the strings themselves still tell enough.
    except Exception:
        return dict(getattr(plain, "__annotations__", {}))


def _wanted(name: str, annotation: Any) -> Parameter | None:
    if isinstance(annotation, str):
        if "ServerRuntime" in annotation:
            return Parameter.RUNTIME
        if "RunnableConfig" in annotation:
            return Parameter.CONFIG
    for candidate in (annotation, *typing.get_args(annotation)):  # the arguments: Optional[...] and unions
        origin = typing.get_origin(candidate) or candidate
        if any(origin is runtime for runtime in (ServerRuntime, _ExecutionRuntime, _ReadRuntime)):
            return Parameter.RUNTIME
        if candidate is RunnableConfig:
            return Parameter.CONFIG
    return {"config": Parameter.CONFIG, "runtime": Parameter.RUNTIME}.get(name)


def _type_argument(annotation: Any) -> Any:
    for candidate in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(candidate) is ServerRuntime:
            return next(iter(typing.get_args(candidate)), None)
    return None
