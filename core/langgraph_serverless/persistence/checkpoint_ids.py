"""Keeps the ids of checkpoints in the order in which they are written, whatever clocks their writers have.

LangGraph draws them from the process's wall clock (UUID v6) and takes the highest of a thread for its newest checkpoint. Where the clock
of the next worker is behind that of the one before, what it writes would sort below what it has read: the run would end in
success, with the state that it began from. Within a process LangGraph never draws an id below the one before, even if the
clock is set back; so it is told of the ids that are read, as if it had drawn them itself.

That reaches into a variable of LangGraph's, of which ``tests/unit/test_checkpoint_ids.py`` says whether it still does what we rely on.
"""

from __future__ import annotations

from langgraph.checkpoint.base import id as langgraph_ids

#: Of UUIDs that carry a time in an order that sorts.
_VERSION = 6
#: Where LangGraph keeps the time of the last id that was drawn.
_LAST = "_last_v6_timestamp"


def draw_after(checkpoint_id: str) -> None:
    """Make every id that this process draws from now on sort after this one."""
    try:
        read = langgraph_ids.UUID(checkpoint_id)
    except ValueError:
        return  # another program's, of whatever form: there is no time in it
    if read.version != _VERSION:
        return
    last: int | None = getattr(langgraph_ids, _LAST)
    if last is None or last < read.time:
        setattr(langgraph_ids, _LAST, read.time)
