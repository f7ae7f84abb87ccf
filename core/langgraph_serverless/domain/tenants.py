"""Whose rows the work at hand may see, where the database keeps tenants apart as well (``persistence/pool.py``).

Whoever takes a request says so once, for everything that the request leads to: tasks that it starts inherit it. Work for which
nobody has said it belongs to no tenant and sees nothing. That is a second wall: what a service shows and writes follows from
the ``Principal`` that it is given, and never from this.

Also the place of a tenant's items in the store, whose table is LangGraph's and has no column for tenants: below a root that no
namespace can have. Without tenants items are where LangGraph itself would put them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tenant: ContextVar[str | None] = ContextVar("langgraph_serverless_tenant", default=None)


@contextmanager
def acting_for(tenant: str | None) -> Iterator[None]:
    """Within this, the rows of a tenant (``""``: of those who have none) are there, and no others; of None, none at all."""
    token = _tenant.set(tenant)
    try:
        yield
    finally:
        _tenant.reset(token)


def acting_tenant() -> str | None:
    """Whose rows there are now; None if nobody has said."""
    return _tenant.get()


def item_root(tenant: str) -> str:
    """What the prefixes of a tenant's items begin with. Labels are not empty and have no periods, so no client's namespace is there.

    The database's form of this is ``lgs.item_root`` (``persistence/migrations/tenants.sql``).
    """
    if not tenant:
        return ""
    return f".{tenant.replace('%', '%25').replace('.', '%2E')}."
