"""Which events of a thread a client of protocol v2 asks for: channels, namespaces with a depth, and a sequence number.

A channel is that of the events' method, ``input`` for ``input.requested``, or ``custom:<name>`` for custom events of one name;
``custom`` has all of them. A namespace is a prefix of the events' namespaces; a segment matches with or without the task id
behind its colon. ``depth`` counts levels below the prefix.

Nothing is refused but channels, and namespaces without end: numbers and namespaces of the wrong kind are passed over, as on the
official server.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langgraph_serverless.errors import BadRequestError

Namespace = Sequence[str]

#: As the official server lists them.
CHANNELS = ("values", "updates", "messages", "tools", "custom", "lifecycle", "input", "tasks")
#: Accepted too, by both.
_UNLISTED = "checkpoints"
NAMED = "custom:"
#: Each event is compared with each of them.
MOST_NAMESPACES = 1000

_CHANNEL_OF = {"input.requested": "input"}


def unsupported_channels(channels: Sequence[Any]) -> list[Any]:
    """Those that are no channels."""
    return [channel for channel in channels if not _is_channel(channel)]


def _is_channel(channel: Any) -> bool:
    if not isinstance(channel, str):
        return False
    return channel in CHANNELS or channel == _UNLISTED or (channel.startswith(NAMED) and channel != NAMED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What one subscription has."""

    channels: frozenset[str]
    #: None: of the whole thread.
    namespaces: tuple[tuple[str, ...], ...] | None = None
    #: None: however deep.
    depth: int | None = None
    #: Only events with a larger number.
    since: int = 0

    def wants(self, method: str, namespace: Namespace) -> bool:
        """Whether these events are wanted. For custom events without the channel ``custom``: if ``wants_named`` says so too."""
        channel = _CHANNEL_OF.get(method, method)
        if channel not in self.channels and not (channel == "custom" and self.names):
            return False
        if self.namespaces is None:
            return True
        return any(
            is_prefix(prefix, namespace) and (self.depth is None or len(namespace) - len(prefix) <= self.depth)
            for prefix in self.namespaces
        )

    def wants_named(self, name: str | None) -> bool:
        """Whether custom events of this name are wanted; None for those without one."""
        return "custom" in self.channels or (bool(name) and f"{NAMED}{name}" in self.channels)

    @property
    def names(self) -> bool:
        """Whether it depends on their names which custom events are wanted."""
        return "custom" not in self.channels and any(channel.startswith(NAMED) for channel in self.channels)


def is_prefix(prefix: Namespace, namespace: Namespace) -> bool:
    """Whether a namespace is this one or below it."""
    return len(prefix) <= len(namespace) and all(
        wanted in (segment, segment.partition(":")[0]) for wanted, segment in zip(prefix, namespace, strict=False)
    )


def parse_subscription(document: Any) -> Subscription:
    """What the body of a request, or the params of a command, ask for.

    Raises:
        BadRequestError: in the official server's words for its event stream.
    """
    wanted = document if isinstance(document, dict) else {}
    channels = wanted.get("channels")
    if not isinstance(channels, list) or not channels:
        raise BadRequestError("channels is required and must be a non-empty array")
    if unsupported := unsupported_channels(channels):
        raise BadRequestError(
            f"channels contains unsupported entries: {', '.join(map(str, unsupported))}."
            f" Allowed: {', '.join(CHANNELS)}, or any `custom:<name>`."
        )
    return Subscription(
        channels=frozenset(channels),
        namespaces=_namespaces(wanted.get("namespaces")),
        depth=_natural(wanted.get("depth")),
        since=_natural(wanted.get("since")) or 0,
    )


def _natural(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _namespaces(value: Any) -> tuple[tuple[str, ...], ...] | None:
    if not isinstance(value, list):
        return None
    if len(value) > MOST_NAMESPACES:
        raise BadRequestError(f"namespaces has more than {MOST_NAMESPACES} entries")
    prefixes = [
        tuple(prefix)
        for prefix in value
        if isinstance(prefix, list) and all(isinstance(segment, str) for segment in prefix)
    ]
    return tuple(prefixes) or None
