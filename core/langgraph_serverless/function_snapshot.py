"""Lambda SnapStart: a function is started once, and its memory becomes that of many sandboxes.

Promises that nothing open is in a snapshot, and that restored sandboxes do not draw the same random numbers. Nothing else is to be done:
ids come from the kernel's generator (uuid4), which AWS makes unique in every clone; what names a process (a worker's id) is made in an
invocation; no connection, cached time or deadline is made at start-up; and a password that has changed since the snapshot is read again
when it is refused (``addresses``).

Relies on ``snapshot_restore_py``, which is part of Lambda's Python runtimes (3.12 and later); who runs the hooks is the runtime's client,
ours too (``lambda_runtime/snapshot.py``). Elsewhere nothing is registered.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

#: What Lambda says where a snapshot is going to be taken.
INITIALIZATION_TYPE, SNAP_START = "AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"


def reseed_after_restore(environ: Mapping[str, str] = os.environ) -> None:
    """Have each sandbox that is restored from a snapshot of this process draw random numbers of its own."""
    if hooks := _hooks(environ):
        # jitter of retries, parts of the ids of checkpoints and spans, and whatever the user's code draws
        hooks.register_after_restore(random.seed)


def close_before_snapshot(close: Callable[[], None], environ: Mapping[str, str] = os.environ) -> None:
    """Have ``close`` called before a snapshot is taken; what it closes opens again when it is next used."""
    if hooks := _hooks(environ):
        hooks.register_before_snapshot(close)


def _hooks(environ: Mapping[str, str]) -> Any:
    if environ.get(INITIALIZATION_TYPE) != SNAP_START:
        return None
    return import_module("snapshot_restore_py")
