"""What a running run's saver knows of its thread's checkpoints without asking the database, serialised.

Per namespace it knows the newest checkpoint, with the values of its channels and its tasks' writes, from what was read and put. It
answers only if it is certain: whoever holds the lease is the only writer, and what he writes sorts after all that he has read
(``checkpoint_ids``). Everything else is left to the database.

Whatever is taken out of it is deserialised anew each time, so nobody shares an object with anybody.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from langgraph_serverless.persistence.checkpoint_rows import CheckpointRow, Typed, WriteRow

#: Namespaces of which it knows something, the last ones: a long run may go through thousands of subgraphs.
MOST_SPACES = 32

ChannelVersion = tuple[str, str]
_Place = tuple[str, str]


@dataclass(slots=True)
class Space:
    """The newest checkpoint of a namespace; none if ``row`` is None."""

    checkpoint_id: str = ""
    row: CheckpointRow | None = None
    #: Which of ``blobs`` are its own.
    own: Sequence[ChannelVersion] = ()
    #: Also of other checkpoints that were seen, as a value stays where nobody changes it.
    blobs: dict[ChannelVersion, Typed] = field(default_factory=dict)
    #: Checkpoint to task and index to what was written, of those that are not older than the newest.
    writes: dict[str, dict[tuple[str, int], WriteRow]] = field(default_factory=dict)
    #: How often something was put there.
    puts: int = 0


class CheckpointMemory:
    """Of one saver."""

    def __init__(self, *, new_thread: str | None = None) -> None:
        """Without any checkpoint was ``new_thread``."""
        self._new = new_thread
        self._spaces: OrderedDict[_Place, Space] = OrderedDict()
        self._forgotten: set[_Place] = set()
        #: No id of a checkpoint is higher: of a namespace, or of a whole thread ("" if there is none at all).
        self._highest: dict[tuple[str, str | None], str] = {}

    def find(self, thread_id: str, namespace: str, checkpoint_id: str | None) -> tuple[bool, Space | None]:
        """Whether it knows what is there, and that."""
        space = self._spaces.get((thread_id, namespace))
        if space is not None and space.row is not None:
            return (checkpoint_id or space.checkpoint_id) == space.checkpoint_id, space
        if checkpoint_id is None and self._bound(thread_id, namespace) == "":
            return True, None
        return False, None

    def has_blob(self, thread_id: str, namespace: str, channel: str, version: object) -> bool:
        """Whether this value of a channel has a row of its own."""
        space = self._spaces.get((thread_id, namespace))
        return space is not None and (channel, version) in space.blobs

    def puts(self, thread_id: str, namespace: str) -> int:
        """How often something was put there: what was read before the last time is not the newest."""
        space = self._spaces.get((thread_id, namespace))
        return space.puts if space is not None else 0

    def saw_none(self, thread_id: str, namespace: str) -> None:
        """The database has no checkpoint there."""
        self._highest[thread_id, namespace] = ""

    def saw(
        self,
        place: tuple[str, str, str],
        row: CheckpointRow,
        blobs: Mapping[ChannelVersion, Typed],
        writes: dict[tuple[str, int], WriteRow],
        *,
        highest: str | None,
    ) -> None:
        """The database has this checkpoint: the newest of its namespace, unless ``highest`` is given, which is that of the thread."""
        thread_id, namespace, checkpoint_id = place
        space = self._space(thread_id, namespace)
        space.blobs.update(blobs)
        if highest is not None:
            self._highest[thread_id, None] = highest
        else:
            self._highest[thread_id, namespace] = checkpoint_id
            self._stand(space, checkpoint_id, row, list(blobs))
            space.writes[checkpoint_id] = writes

    def put(
        self,
        place: tuple[str, str, str],
        row: CheckpointRow,
        blobs: Mapping[ChannelVersion, Typed],
        own: Sequence[ChannelVersion],
    ) -> None:
        """A checkpoint is put, with the values that are new in it; ``own`` are all its values that have rows of their own."""
        thread_id, namespace, checkpoint_id = place
        space = self._space(thread_id, namespace)
        space.puts += 1
        bound = self._bound(thread_id, namespace)
        known = {**blobs, **space.blobs}
        if bound is None or not (checkpoint_id > bound or checkpoint_id == space.checkpoint_id):
            space.blobs = known
            return
        self._highest[thread_id, namespace] = checkpoint_id
        space.blobs = {key: known[key] for key in own if key in known}
        self._stand(space, checkpoint_id, row if len(space.blobs) == len(own) else None, own)

    def put_write(self, place: tuple[str, str, str], key: tuple[str, int], row: WriteRow) -> None:
        thread_id, namespace, checkpoint_id = place
        space = self._space(thread_id, namespace)
        space.puts += 1
        if checkpoint_id < space.checkpoint_id:
            return
        writes = space.writes.setdefault(checkpoint_id, {})
        if row.replaces or key not in writes:
            writes[key] = row

    def forget(self, thread_id: str) -> None:
        """Leave this thread to the database."""
        if self._new == thread_id:
            self._new = None
        for place in [place for place in self._spaces if place[0] == thread_id]:
            del self._spaces[place]
        self._highest = {place: known for place, known in self._highest.items() if place[0] != thread_id}

    @staticmethod
    def _stand(space: Space, checkpoint_id: str, row: CheckpointRow | None, own: Sequence[ChannelVersion]) -> None:
        space.checkpoint_id, space.row, space.own = checkpoint_id, row, own
        space.writes = {key: writes for key, writes in space.writes.items() if key >= checkpoint_id}

    def _bound(self, thread_id: str, namespace: str) -> str | None:
        """No checkpoint of the namespace has a higher id."""
        bound = self._highest.get((thread_id, namespace))
        if bound is None:
            bound = self._highest.get((thread_id, None))
        if bound is None and thread_id == self._new and (thread_id, namespace) not in self._forgotten:
            return ""
        return bound

    def _space(self, thread_id: str, namespace: str) -> Space:
        place = (thread_id, namespace)
        space = self._spaces.get(place)
        if space is None:
            space = self._spaces[place] = Space()
            if len(self._spaces) > MOST_SPACES:
                oldest, _ = self._spaces.popitem(last=False)
                self._forgotten.add(oldest)
                self._highest.pop(oldest, None)
        else:
            self._spaces.move_to_end(place)
        return space
