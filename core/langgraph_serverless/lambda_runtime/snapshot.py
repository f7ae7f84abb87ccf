"""A snapshot of the process (SnapStart), as the managed client has it taken: hooks before, a wait that ends in a clone, hooks after.

The calls (``/restore/next``, ``/restore/error``) are those of AWS's own client, which is open source; they are not in the documented
Runtime API, so they may change. Where no snapshot is wanted, nothing happens. Errors have the types that Lambda knows.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from langgraph_serverless.lambda_runtime.client import RuntimeClient

_WANTED = ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")


def take_snapshot(client: RuntimeClient) -> None:
    """Returns in every sandbox that is restored; raises what a hook raises, after Lambda has been told."""
    if os.environ.get(_WANTED[0]) != _WANTED[1]:
        return
    hooks: Any = import_module("snapshot_restore_py")  # part of Lambda's Python runtimes, and of no other
    try:
        before: list[Any] = hooks.get_before_snapshot()
        while before:  # the last one registered is the first
            function, arguments, options = before.pop()
            function(*arguments, **options)
        client.restore_next()
    except BaseException as error:
        client.fail_init(error, "Runtime.BeforeSnapshotError")
        raise
    try:
        for function, arguments, options in hooks.get_after_restore():
            function(*arguments, **options)
    except BaseException as error:
        client.fail_restore(error)
        raise
