"""The request headers that graphs get to see (``http.configurable_headers``), of the request at hand.

Whoever takes a request says so once, for everything that the request leads to, as with tenants (``tenants.py``): so every way of making
a run, by whatever protocol, passes them on. Work that no request has led to, as crons that fire, has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_headers: ContextVar[Mapping[str, str]] = ContextVar("langgraph_serverless_passed_headers", default={})  # noqa: B039 - never changed


@contextmanager
def passing(headers: Mapping[str, str]) -> Iterator[None]:
    """Within this, these are passed on, and no others."""
    token = _headers.set(headers)
    try:
        yield
    finally:
        _headers.reset(token)


def passed_headers() -> Mapping[str, str]:
    """What is passed on now, by lower-case name."""
    return _headers.get()
