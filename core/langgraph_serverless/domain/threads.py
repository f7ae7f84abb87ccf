"""Threads: a conversation's state, its status, and what a finished run left behind.

``status`` is what clients see: ``busy`` while a run is pending or running, else ``settled_status``, the status that the
last run or state write left. Keeping both makes "as before the run" (rollback) a matter of looking.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class ThreadStatus(StrEnum):
    IDLE = "idle"
    #: A run is pending or running.
    BUSY = "busy"
    #: The last run stopped with nodes left to run: an interrupt, or a cancel.
    INTERRUPTED = "interrupted"
    ERROR = "error"


class TtlStrategy(StrEnum):
    DELETE = "delete"
    KEEP_LATEST = "keep_latest"


class ThreadField(StrEnum):
    """What a search may select."""

    THREAD_ID = "thread_id"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"
    STATE_UPDATED_AT = "state_updated_at"
    METADATA = "metadata"
    CONFIG = "config"
    STATUS = "status"
    VALUES = "values"
    INTERRUPTS = "interrupts"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ttl:
    """How long a thread is kept, and what happens then."""

    strategy: TtlStrategy
    minutes: float

    def to_json(self) -> dict[str, Any]:
        return {"strategy": self.strategy.value, "minutes": self.minutes}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ttl:
        """The inverse of ``to_json``."""
        return cls(strategy=TtlStrategy(value["strategy"]), minutes=value["minutes"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    thread_id: uuid.UUID
    status: ThreadStatus
    metadata: Mapping[str, Any]
    #: Copy of the last run's config without the server's own keys.
    config: Mapping[str, Any]
    #: The root graph's values after the last finished run or state write; None before the first.
    values: Any
    #: Task id -> list of ``{"id", "value"}``.
    interrupts: Mapping[str, Any]
    error: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime
    ttl_strategy: TtlStrategy | None = None
    ttl_minutes: float | None = None
    expires_at: datetime | None = None
