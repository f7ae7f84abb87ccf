"""Names of keys in Redis: those of a run, and those of a thread.

The run's or the thread's id is the hash tag (in braces), so all keys of one live in one slot of a cluster and one script may
use them. Nothing uses keys of two of them at once.
"""

from __future__ import annotations

import uuid


def events_key(prefix: str, run_id: uuid.UUID) -> str:
    """The stream of the run's events. A message on the channel of the same name says that it has grown."""
    return f"{prefix}:run:{{{run_id}}}:events"


def fence_key(prefix: str, run_id: uuid.UUID) -> str:
    """A hash: the epoch that may append, the token of the lease that did, and how many events it has appended."""
    return f"{prefix}:run:{{{run_id}}}:fence"


def index_key(prefix: str, thread_id: uuid.UUID) -> str:
    """The stream that says which runs a thread has had; messages on the channel of the same name are as a run's."""
    return f"{prefix}:thread:{{{thread_id}}}:runs"


def counter_key(prefix: str, thread_id: uuid.UUID) -> str:
    """A hash: where the sequence numbers of the thread's next run begin."""
    return f"{prefix}:thread:{{{thread_id}}}:counter"


#: What the channel says when the end marker is among the new entries, and when the stream has been lost and begun anew;
#: otherwise it says nothing at all.
END_WORD, NEW_WORD = b"end", b"new"
#: What the gap marker before the end of a log says that was cut at its beginning. Others say nothing.
CUT = b"cut"
