"""Who is calling: every use case takes the caller first, so that authorisation has one place per use case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated caller. Without an auth handler everybody is ``ANONYMOUS``."""

    identity: str = ""
    permissions: Sequence[str] = ()
    #: The user object that the auth handler returned, as JSON; None without one.
    user: Mapping[str, Any] | None = field(default=None)


ANONYMOUS = Principal()
