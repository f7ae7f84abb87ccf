"""What a long-lived process counts about itself, and Prometheus's text format for it.

A histogram is a list of counts with fixed bounds, so what a scrape reads and writes never grows with what has happened, and one more
value costs a bisection. Names and bounds are part of what operators rely on: they stay. Not for several threads that add to the same
one: each has one writer; a reader on another thread may see a sum that is one value ahead of the counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

#: Upper ends of buckets, in seconds.
REQUEST_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
WAIT_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
RUN_BOUNDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)

Labels = Mapping[str, object]


class Histogram:
    """How many values were at most so large."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        #: By bucket; the last one is for what is larger than every bound.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def family(name: str, kind: str, about: str, samples: Iterable[tuple[Labels, float | int]]) -> Iterator[str]:
    """The lines of a gauge or a counter."""
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{_braces(labels)} {value}"


def histograms(name: str, about: str, samples: Iterable[tuple[Labels, Histogram]]) -> Iterator[str]:
    """The lines of a histogram, for each set of labels."""
    yield f"# HELP {name} {about}"
    yield f"# TYPE {name} histogram"
    for labels, histogram in samples:
        seen = 0
        counts = list(histogram.counts)
        for bound, count in zip((*histogram.bounds, float("inf")), counts, strict=True):
            seen += count
            end = "+Inf" if bound == float("inf") else repr(float(bound))
            yield f"{name}_bucket{_braces({**labels, 'le': end})} {seen}"
        yield f"{name}_sum{_braces(labels)} {round(histogram.total, 6)}"
        yield f"{name}_count{_braces(labels)} {seen}"


def _braces(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
