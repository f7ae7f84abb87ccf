"""Which runs go first: a thread's priority and fairness group, and how many runs of a group may run at once.

A project's handler (``priority`` in langgraph.json) is told about the first run of a thread, ``FirstRun``, and answers with what
``ThreadPriority.of`` reads. The answer belongs to the thread and so to all of its runs. Runs of a lower priority go first;
those of one priority are shared out between the fairness groups, whose limits ``GroupLimits`` has.

Both cross from one function to another as JSON. Nothing here knows the handler or the queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

#: The group of threads whose handler names none, and of all threads without a handler.
DEFAULT_GROUP = "default"
FIRST, LAST = -5, 5
MOST_CHARACTERS = 256
_KEYS = ("priority", "fairness_group")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRun:
    """What a handler is told: the first run of a thread without settings."""

    #: Of the caller, as of ``Principal``.
    identity: str
    permissions: Sequence[str]
    user: Mapping[str, Any] | None
    #: None if the run makes its thread without having been given an id for it.
    thread_id: str | None
    thread_metadata: Mapping[str, Any]
    assistant_id: str
    graph_id: str
    assistant_metadata: Mapping[str, Any]
    run_metadata: Mapping[str, Any]
    cron_id: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FirstRun:
        """The inverse of ``to_json``."""
        return cls(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPriority:
    """What a handler has said of a thread."""

    #: From -5 to 5, lower first.
    priority: int = 0
    fairness_group: str = DEFAULT_GROUP

    @property
    def concurrency_key(self) -> str | None:
        """The group as it is stored: the default one as null, which is what runs without a handler have."""
        return None if self.fairness_group == DEFAULT_GROUP else self.fairness_group

    @classmethod
    def stored(cls, priority: int, concurrency_key: str | None) -> ThreadPriority:
        return cls(priority=priority, fairness_group=concurrency_key or DEFAULT_GROUP)

    @classmethod
    def of(cls, answer: object) -> ThreadPriority:
        """What a handler's answer means: ``PrioritySettings`` of langgraph_sdk, or None for the defaults.

        Raises:
            ValueError: it is something else; the message says what.
        """
        if answer is None:
            return cls()
        if not isinstance(answer, Mapping):
            # one kind of error for whatever a user's function may answer
            raise ValueError(f"it must be a dict or None, not of type {type(answer).__name__}")  # noqa: TRY004
        if unknown := [key for key in answer if key not in _KEYS]:
            raise ValueError(f"it has keys that mean nothing: {', '.join(map(repr, unknown))}")
        priority, group = (answer.get(key) for key in _KEYS)
        priority = 0 if priority is None else priority
        group = DEFAULT_GROUP if group in (None, "") else group
        if isinstance(priority, bool) or not isinstance(priority, int) or not FIRST <= priority <= LAST:
            raise ValueError(f"'priority' must be a whole number from {FIRST} to {LAST}")
        if not isinstance(group, str) or len(group) > MOST_CHARACTERS or not _storable(group):
            raise ValueError(f"'fairness_group' must be a string of at most {MOST_CHARACTERS} characters, without NUL")
        return cls(priority=priority, fairness_group=group)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, which ``of`` reads."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLimits:
    """How many runs of a fairness group may run at once; 0 is any number."""

    most: int = 0
    #: For groups that are named; the others have ``most``.
    of: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.most or any(self.of.values()))


#: Asks the handler about runs, wherever it is. None for a run of which it has not said anything that can be used.
AskHandler = Callable[[Sequence[FirstRun]], Awaitable[Sequence[ThreadPriority | None]]]


def _storable(text: str) -> bool:
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False
