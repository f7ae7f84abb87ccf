"""How often Python looks for cycles of garbage, in processes that stay.

By default a process looks after every 700 objects more than it has let go, which is several times per request, and goes over all
that it has, 180,000 objects of modules and classes, whenever a quarter has come anew: 100 ms in which nothing else is done. That was
12 to 16 % of a server's CPU time. ``relax`` has it look less often, which is worth most while modules are imported; ``settled``, begun
when all of them are there, takes what exists out of the search for good.

Nearly everything is let go without the search, by counting references. What is found later than before is a few thousand
objects, which may be large all the same: a state of a megabyte in a cycle is one. So memory is looked at too, as Python counts
objects only, and searched when it has grown. Where the system does not tell (not Linux), nothing is relaxed.
A project that sets thresholds of its own while it is imported has the last word.
"""

from __future__ import annotations

import gc
import mmap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: Objects more than were let go, after which the young ones are looked at. Ten times more bring nothing more.
YOUNG = 5000
#: Growth after which all are looked at (bytes), and how often growth is looked for (seconds).
GROWTH, LOOK_EVERY = 32 * 1024 * 1024, 0.1

_MEMORY = Path("/proc/self/statm")


def relax() -> None:
    """Look less often from now on. First thing in a process; not if somebody looks less often already."""
    young, *older = gc.get_threshold()
    if 0 < young < YOUNG and _MEMORY.exists():
        gc.set_threshold(YOUNG, *older)


@contextmanager
def settled() -> Iterator[None]:
    """What exists now stays: never look at it again. Once everything is imported and started, until the end."""
    gc.freeze()
    # a thread, as neither a node that blocks its event loop nor a process without one may keep it from looking
    ended = threading.Event()
    watching = threading.Thread(target=_watch, args=(ended,), name="memory", daemon=True)
    if _MEMORY.exists():
        watching.start()
    try:
        yield
    finally:
        ended.set()


def _watch(ended: threading.Event) -> None:
    with _MEMORY.open("rb", buffering=0) as file:

        def resident() -> int:
            file.seek(0)
            return int(file.read().split()[1]) * mmap.PAGESIZE

        least = resident()
        while not ended.wait(LOOK_EVERY):
            least = search_if_grown(least, resident)


def search_if_grown(least: int, resident: Callable[[], int]) -> int:
    """Searches if there is ``GROWTH`` more than there was at least; what the next growth is held against."""
    now = resident()
    # whoever has turned the search off searches by themselves
    if now - least > GROWTH and gc.isenabled():
        gc.collect()
        return resident()
    return min(least, now)
