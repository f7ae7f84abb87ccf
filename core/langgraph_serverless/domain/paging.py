"""One page of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items from ``offset`` on. Whether there are more is known, how many is not."""

    items: Sequence[T]
    offset: int
    limit: int
    more: bool

    @classmethod
    def of(cls, found: Sequence[T], *, offset: int, limit: int) -> Page[T]:
        """Make a page of a query's rows, which was asked for one item more than ``limit``."""
        return cls(items=found[:limit], offset=offset, limit=limit, more=len(found) > limit)

    @property
    def next_offset(self) -> int | None:
        """Where the next page starts; None if this is the last one."""
        return self.offset + self.limit if self.more else None

    @property
    def total(self) -> int:
        """As far as is known: what came before, this page, and one more if there is more."""
        return self.offset + len(self.items) + self.more
