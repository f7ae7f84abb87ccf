"""When crons fire, against a reference that looks at every minute (R16): any schedule, 22 zones, around changes of clocks."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from cron_reference import MINUTE, ZONES, Reference, changes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from langgraph_serverless.domain.crons import next_after

EXAMPLES = int(os.environ.get("EXAMPLES", "5000"))


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.one_of(one, span, st.lists(st.one_of(one, span), min_size=2, max_size=3).map(",".join))


def times(low: int, high: int) -> st.SearchStrategy[str]:
    step = st.integers(2, (high - low) // 2).map(lambda size: f"*/{size}")
    return st.one_of(st.just("*"), step, numbers(low, high))


@st.composite
def schedules(draw: st.DrawFn) -> str:
    """Mostly hours at which clocks change. Days are numbers or anything: with steps and whole ranges, cron's rule for the
    two fields of days has dialects.
    """
    minute, hour = draw(times(0, 59)), draw(st.one_of(numbers(0, 4), numbers(0, 4), times(0, 23)))
    any_day = st.just("*")
    days = st.lists(st.integers(1, 28), min_size=1, max_size=4).map(lambda found: ",".join(map(str, found)))
    day = draw(st.one_of(any_day, any_day, any_day, days))
    weekday = draw(st.one_of(any_day, any_day, st.integers(0, 6).map(str), st.just("1-5")))
    return f"{minute} {hour} {day} * {weekday}"


@st.composite
def moments(draw: st.DrawFn) -> tuple[str, datetime]:
    """A zone and a moment, most of them in the two days around a change of its clocks."""
    zone, year = draw(st.sampled_from(ZONES)), draw(st.integers(2018, 2037))
    around = changes(zone, year) or (datetime(year, 6, 1, tzinfo=UTC),)
    if draw(st.integers(0, 4)):
        start, minutes = draw(st.sampled_from(around)), draw(st.integers(-26 * 60, 6 * 60))
    else:
        start, minutes = datetime(year, 1, 1, tzinfo=UTC), draw(st.integers(0, 365 * 24 * 60))
    return zone, start + minutes * MINUTE + timedelta(seconds=draw(st.sampled_from((0, 0, 1, 59))))


def compare(schedule: str, place: tuple[str, datetime]) -> None:
    """The next time, and from there on as schedulers go: each time from the one before."""
    zone, moment = place
    reference, end = Reference(schedule, zone), moment + timedelta(days=2)
    for _ in range(200):
        expected = reference.after(moment)
        assert next_after(schedule, zone, moment) == expected, f"{schedule} in {zone} after {moment}"
        if expected > end:
            break
        moment = expected


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(schedule=schedules(), place=moments())
def test_next_times_are_those_of_the_reference(schedule: str, place: tuple[str, datetime]) -> None:
    compare(schedule, place)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(schedule=schedules(), place=moments())
def test_next_times_are_those_of_the_reference_in_many_cases(schedule: str, place: tuple[str, datetime]) -> None:
    compare(schedule, place)
