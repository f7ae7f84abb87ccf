"""What clients learn of a run's failure.

``{"error": <class>, "message": <text>}``. Text that the author of a graph did not mean for clients (a custom exception, an
assertion, a lost connection with its address) is masked; that of a small set of well-known classes, and of what derives from
them, is shown, as observed on the official server. The full text always goes to the log and to the checkpoint of the failed task.
Passwords and keys of this process are shown in neither (``redaction``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langgraph_serverless.redaction import redacted

MASK = "An internal error occurred"
#: The class of the error of a run that was given up; operators and replays look for it.
ATTEMPTS_EXHAUSTED = "RunAttemptsExhausted"
#: Characters of a message that are kept for clients.
LONGEST_MESSAGE = 10_000
#: By name: the classes of LangGraph and of web frameworks must not be imported for this.
SHOWN = frozenset(
    {
        "ValueError",
        "TypeError",
        "KeyError",
        "AttributeError",
        "RuntimeError",
        "TimeoutError",
        "HTTPException",
        "EmptyInputError",
        "EncryptionError",
        "InvalidUpdateError",
    }
)


def describe(error: BaseException, *, mask: bool) -> dict[str, Any]:
    """The error object for clients."""
    shown = not mask or any(base.__name__ in SHOWN for base in type(error).__mro__)
    message = redacted(str(error)) if shown else MASK
    if len(message) > LONGEST_MESSAGE:
        # "Expected dict, got" and the whole input: it is stored twice and sent with each look at the run or its thread
        message = f"{message[:LONGEST_MESSAGE]}..."
    return {"error": type(error).__name__, "message": message}


def cancelled(reason: str | None) -> dict[str, Any]:
    """The thread's error after a cancel that keeps the run."""
    return {"error": "UserInterrupt", "message": reason or "interrupt requested"}


def rolled_back(reason: str | None) -> dict[str, Any]:
    """The thread's error after a cancel that deletes the run."""
    return {"error": "UserRollback", "message": reason or "rollback requested"}


def timed_out(seconds: float) -> dict[str, Any]:
    return {"error": "TimeoutError", "message": f"The run took longer than {seconds:g} seconds."}


def attempts_exhausted(attempts: int, *, nodes: Sequence[str]) -> dict[str, Any]:
    """The error of a run that lost its worker too often; ``nodes`` are those that it may have died with."""
    names = ", ".join(f"'{node}'" for node in nodes)
    where = f" while it executed {'one of the nodes' if len(nodes) > 1 else 'the node'} {names}" if nodes else ""
    return {
        "error": ATTEMPTS_EXHAUSTED,
        "message": f"The run lost its worker {attempts} times{where}; it was not tried again.",
    }
