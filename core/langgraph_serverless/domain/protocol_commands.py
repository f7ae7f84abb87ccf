"""Commands of the thread protocol: how a request for one is read, and what the answers look like.

A command is ``{"id", "method", "params"}``; its answer has its id. What is no command at all (no whole number as its id, no
text as its method) is answered with the id as it was sent, as far as there is one. Parameters that are no object are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.errors import CommandError

INVALID_ARGUMENT = "invalid_argument"
UNKNOWN_COMMAND = "unknown_command"
UNKNOWN_ERROR = "unknown_error"
NO_SUCH_RUN = "no_such_run"
NO_SUCH_SUBSCRIPTION = "no_such_subscription"
NO_SUCH_NAMESPACE = "no_such_namespace"
NO_SUCH_INTERRUPT = "no_such_interrupt"
NO_SUCH_CHECKPOINT = "no_such_checkpoint"
PERMISSION_DENIED = "permission_denied"
NOT_SUPPORTED = "not_supported"

NO_COMMAND = "Protocol commands must include an integer id and string method."
NO_JSON = "Protocol commands must be valid JSON."

#: Characters of a client's word that an error repeats.
_LONGEST_WORD = 200

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Command:
    """What a client wants done."""

    id: int
    method: str
    params: Mapping[str, Any]


def read_command(document: Any) -> Command | None:
    """The command, or None if it is none."""
    if not isinstance(document, dict):
        return None
    number, method, params = document.get("id"), document.get("method"), document.get("params")
    if not isinstance(number, int) or isinstance(number, bool) or not isinstance(method, str):
        return None
    return Command(number, method, params if isinstance(params, dict) else {})


def no_command(document: Any) -> Document:
    """The answer to what is no command."""
    return failure(document.get("id") if isinstance(document, dict) else None, INVALID_ARGUMENT, NO_COMMAND)


def success(command_id: int, result: Mapping[str, Any], *, seq: int = 0) -> Document:
    """The answer to a command that was carried out.

    Args:
        seq: the number of the last event that the client's session has seen; a request of HTTP is a session of its own.
    """
    return {"type": "success", "id": command_id, "result": result, "meta": {"applied_through_seq": seq}}


def failure(command_id: Any, error: str, message: str) -> Document:
    """The answer to one that was not."""
    return {"type": "error", "id": command_id, "error": error, "message": message}


def unknown_command(method: str) -> CommandError:
    """The error for a command that does not exist."""
    return CommandError(UNKNOWN_COMMAND, f"Unknown protocol command: {method[:_LONGEST_WORD]}")


def unknown_interrupt(interrupt_id: str) -> CommandError:
    """The error for an answer to what nobody asks, or asks no longer."""
    return CommandError(NO_SUCH_INTERRUPT, f"Unknown or already-consumed interrupt: {interrupt_id[:_LONGEST_WORD]}")
