"""The node that code runs in, or has failed in, for lines of the log: looked up when a line is written, so it costs a run nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables.config import var_child_runnable_config

#: What LangGraph notes on an error that leaves a node, the innermost first.
_NOTE = re.compile(r"During task with name '(.+)' and id '[^']*'")


def current_node() -> Mapping[str, Any]:
    """``node`` inside of a node, with the name that its graph has for it; nothing elsewhere."""
    config = var_child_runnable_config.get()
    node = ((config or {}).get("metadata") or {}).get("langgraph_node")
    return {"node": node} if isinstance(node, str) else {}


def failed_node(error: BaseException) -> str | None:
    """The node that has raised this, with those of the graphs around it, as in ``team|summarize``; None if it was none."""
    notes = getattr(error, "__notes__", None) or ()
    found = [match[1] for note in notes if isinstance(note, str) and (match := _NOTE.fullmatch(note))]
    return "|".join(reversed(found)) or None
