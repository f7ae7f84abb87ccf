"""Where a run is: the headers from which clients learn its id and how to reconnect. All paths are relative."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode


def run_path(run_id: uuid.UUID, thread_id: uuid.UUID | None = None) -> str:
    """The run's resource; without a thread, in the form of stateless runs."""
    return f"/runs/{run_id}" if thread_id is None else f"/threads/{thread_id}/runs/{run_id}"


def run_headers(
    path: str, again: Literal["stream", "join"] | None = None, query: Mapping[str, str] | None = None
) -> dict[str, str]:
    """``Content-Location``, and ``Location`` if a dropped connection is to be taken up there."""
    headers = {"Content-Location": path}
    if again is not None:
        headers["Location"] = f"{path}/{again}" + (f"?{urlencode(query)}" if query else "")
    return headers
