"""What happens on a thread, as one stream: its runs one after the other, and updates of its state."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence

from langgraph_serverless.domain.thread_events import ThreadEvent

ThreadBatches = AsyncGenerator[Sequence[ThreadEvent], None]


class ThreadStreamService:
    """Follows threads, for clients that want more than one run."""

    async def follow(self, thread_id: uuid.UUID, after: str | None) -> ThreadBatches:
        """Events of the thread in batches; an empty batch is time for a keep-alive. Goes on until the caller closes it.

        Runs come one after the other, each with all its log entries up to its end marker, which is delivered exactly once;
        gap markers are delivered as they are.

        Args:
            after: None: from now on, the rest of the run that is going on included. ``"0-0"``: also what is still there of
                resumable runs. The id of an event: what came after it.
        """
        raise NotImplementedError
        yield ()
