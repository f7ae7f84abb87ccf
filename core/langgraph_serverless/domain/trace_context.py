"""Where a request stands in somebody's trace, as W3C Trace Context has it in two headers.

A ``traceparent`` that is not well-formed is none, as the recommendation asks for, and then so is its ``tracestate``; nothing here
ever raises. Baggage is not taken: it holds values of users, which would end up in the database and at receivers of webhooks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Version, trace id, parent id, flags; a later version may have more behind them.
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-[!-~]*)?"
)
#: What everybody has to pass on of a ``tracestate``; a longer one is dropped.
_LONGEST_STATE = 512
_STATE = re.compile(r"[ -~\t]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceContext:
    """A place in a trace."""

    traceparent: str
    tracestate: str = ""

    @classmethod
    def of(cls, traceparent: Any, tracestate: Any = "") -> TraceContext | None:
        """What these headers say; None without a well-formed parent."""
        if not isinstance(traceparent, str) or len(traceparent) > _LONGEST_STATE:
            return None
        found = _TRACEPARENT.fullmatch(traceparent.strip())
        if found is None or (found[1] == "00" and found[0].count("-") > 3):
            return None
        state = tracestate.strip() if isinstance(tracestate, str) else ""
        if len(state) > _LONGEST_STATE or not _STATE.fullmatch(state):
            state = ""
        # in the version that we know
        return cls(traceparent=f"00-{found[2]}-{found[3]}-{found[4]}", tracestate=state)

    @classmethod
    def from_json(cls, document: Any) -> TraceContext | None:
        """What ``headers`` was; None of anything else."""
        if not isinstance(document, Mapping):
            return None
        return cls.of(document.get("traceparent"), document.get("tracestate"))

    @property
    def headers(self) -> dict[str, str]:
        """For a request that belongs to the trace, and for storing."""
        state = {"tracestate": self.tracestate} if self.tracestate else {}
        return {"traceparent": self.traceparent, **state}

    @property
    def trace_id(self) -> str:
        """What all spans of a trace share."""
        return self.traceparent[3:35]
