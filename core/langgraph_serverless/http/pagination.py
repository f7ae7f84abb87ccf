"""Headers of searches.

``X-Pagination-Total`` is not a count: it is the offset, plus the number of items on this page, plus one if there are more.
Clients that need a count call ``/count``.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from langgraph_serverless.domain.paging import Page
from langgraph_serverless.http.responses import json_response


def page_response(page: Page[Any], items: Any = None) -> Response:
    """A page's items (or ``items``, their documents) with the pagination headers."""
    headers = {"X-Pagination-Total": str(page.total)}
    if page.next_offset is not None:
        headers["X-Pagination-Next"] = str(page.next_offset)
    return json_response(page.items if items is None else items, headers=headers)
