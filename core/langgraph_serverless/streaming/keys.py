"""Names of a run's keys in Redis.

The run id is the hash tag (in braces), so all keys of a run live in one slot of a cluster and one script may use them.
"""

from __future__ import annotations

import uuid


def events_key(prefix: str, run_id: uuid.UUID) -> str:
    """The stream of the run's events. A message on the channel of the same name says that it has grown."""
    return f"{prefix}:run:{{{run_id}}}:events"


def fence_key(prefix: str, run_id: uuid.UUID) -> str:
    """A hash: the epoch that may append, the token of the lease that did, and how many events it has appended."""
    return f"{prefix}:run:{{{run_id}}}:fence"


#: What the channel says when the end marker is among the new entries, and when the stream has been lost and begun anew;
#: otherwise it says nothing at all.
END_WORD, NEW_WORD = b"end", b"new"
#: What the gap marker before the end of a log says that was cut at its beginning. Others say nothing.
CUT = b"cut"
