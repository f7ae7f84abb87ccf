"""How often Python looks for cycles of garbage, in processes that stay.

By default a process looks after every 700 objects more than it has let go, which is several times per request, and goes over all
that it has, 180,000 objects of modules and classes, whenever a quarter has come anew: 100 ms in which nothing else is done. That was
12 to 16 % of a server's CPU time. ``relax`` has it look less often, which is worth most while modules are imported; ``settle``, called
when all of them are there, takes what exists out of the search for good.

Nearly everything is let go without the search, by counting references. What is found later than before is small: a few thousand
objects. A project that sets thresholds of its own while it is imported has the last word.
"""

from __future__ import annotations

import gc

#: Objects more than were let go, after which the young ones are looked at. Ten times more bring nothing more.
YOUNG = 5000


def relax() -> None:
    """Look less often from now on. First thing in a process; not if somebody looks less often already."""
    young, *older = gc.get_threshold()
    if 0 < young < YOUNG:
        gc.set_threshold(YOUNG, *older)


def settle() -> None:
    """What exists now stays: never look at it again. Once everything is imported and started."""
    gc.freeze()
