"""``langgraph_sdk.get_client()`` without an address: the API of this process, for the project's own code in it.

The SDK looks for ``langgraph_api.server`` and ``langgraph_api.asgi_transport``, and speaks to the application that is there over a
transport of that name. ``provide_modules`` puts two modules of these names where imports look first, before any code of the project is
imported; there is nothing in them but what the SDK asks for. ``offered`` says which application answers on an event loop.

Promises that a client may be made before there is an application, on whatever loop and thread, and used from any: it finds the
application of the loop that it is used on, or else another one of this process. Nothing of the code that calls (a graph's config, say)
reaches the application but what ``mark`` makes of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from threading import Lock
from types import ModuleType
from typing import Any

#: What the SDK imports.
_PACKAGE, _SERVER, _TRANSPORT = "langgraph_api", "langgraph_api.server", "langgraph_api.asgi_transport"

#: An ASGI application; made at its first use, as few projects have one for it.
Make = Callable[[], Any]
#: What a request's scope is to have besides; called where the client is used.
Mark = Callable[[], dict[str, Any]]


#: Whose run this is, or for whom a graph is being made. Not out of a graph's config, which a node may give a part of the graph anew.
_behalf: ContextVar[Any] = ContextVar("langgraph_serverless_behalf", default=None)


@contextmanager
def on_behalf_of(user: Any) -> Iterator[None]:
    """Within this, code of the project works for a user (None: for whoever it does already), and its calls are that user's."""
    token = _behalf.set(_behalf.get() if user is None else user)
    try:
        yield
    finally:
        _behalf.reset(token)


def on_whose_behalf() -> Any:
    """The user of ``on_behalf_of``."""
    return _behalf.get()


class NoApplicationError(RuntimeError):
    """Nothing serves the API in this process, or not any more."""


class _Offer:
    def __init__(self, loop: asyncio.AbstractEventLoop, make: Make, mark: Mark) -> None:
        self.loop = loop
        self.mark = mark
        self._make = make
        self._app: Any = None

    @property
    def app(self) -> Any:
        """Use it on ``loop``."""
        if self._app is None:
            self._app = self._make()
        return self._app


#: Of the process, as are ``sys.modules`` and the clients that the project's modules make when they are imported.
_offers: list[_Offer] = []
_lock = Lock()


@contextmanager
def offered(make: Make, mark: Mark) -> Iterator[None]:
    """Within this, on the running event loop, ``make()`` is what answers."""
    offer = _Offer(asyncio.get_running_loop(), make, mark)
    with _lock:
        _offers.append(offer)
    try:
        yield
    finally:
        with _lock:
            _offers.remove(offer)


def found() -> _Offer:
    """What answers on the running event loop.

    Raises:
        NoApplicationError
    """
    running = asyncio.get_running_loop()
    with _lock:
        offers = [offer for offer in _offers if not offer.loop.is_closed()]
    for offer in reversed(offers):
        if offer.loop is running:
            return offer
    if not offers:
        raise NoApplicationError("get_client() without a URL needs the server in this process, and it does not run.")
    return offers[0]


def provide_modules() -> None:
    """From now on the SDK finds what it looks for; a module of that name that was there is not touched."""
    if _PACKAGE in sys.modules:
        return
    package, server, transport = (_module(name) for name in (_PACKAGE, _SERVER, _TRANSPORT))
    package.__path__ = []  # nothing else is to be found below it
    server.app = None  # type: ignore[attr-defined]  # what there is when a request is made counts
    transport.__getattr__ = _transport  # type: ignore[method-assign]
    package.server, package.asgi_transport = server, transport  # type: ignore[attr-defined]
    for module in (package, server, transport):
        sys.modules[module.__name__] = module


def _module(name: str) -> ModuleType:
    module = ModuleType(name, "Stands in for what langgraph_sdk asks for; see langgraph_serverless.loopback.")
    module.__spec__ = ModuleSpec(name, loader=None, is_package=name == _PACKAGE)
    return module


def _transport(name: str) -> Any:
    if name != "ASGITransport":
        raise AttributeError(name)
    # httpx is for those who use it
    from langgraph_serverless.loopback_transport import LoopbackTransport  # noqa: PLC0415

    return LoopbackTransport
