"""When crons fire: syntax, zones, and the two days of the year on which clocks change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from langgraph_serverless.domain.crons import check_schedule, next_after, next_run_date, parse_end_time
from langgraph_serverless.errors import InvalidInputError

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def firings(schedule: str, timezone: str | None, after: datetime) -> Iterator[datetime]:
    while True:
        after = next_after(schedule, timezone, after)
        yield after


def between(schedule: str, timezone: str | None, start: str, end: str) -> list[str]:
    found = []
    for date in firings(schedule, timezone, utc(start)):
        if date > utc(end):
            return found
        found.append(date.strftime("%d %H:%M:%S"))
    raise AssertionError


@pytest.mark.parametrize(
    ("schedule", "timezone", "expected"),
    [
        ("0 5 * * *", None, "2026-11-23T05:00:00"),
        ("0 5 * * *", "UTC", "2026-11-23T05:00:00"),
        ("0 5 * * *", BERLIN, "2026-11-23T04:00:00"),
        ("* * * * *", None, "2026-11-22T07:31:00"),
        ("* * * * * */5", None, "2026-11-22T07:30:05"),
        ("0 9 * * * 30", NEW_YORK, "2026-11-22T14:00:30"),
        ("@daily", None, "2026-11-23T00:00:00"),
        ("@hourly", "Asia/Kolkata", "2026-11-22T08:30:00"),
        ("0 0 * * mon-fri", None, "2026-11-23T00:00:00"),
        ("0 0 29 2 *", None, "2028-02-29T00:00:00"),
        ("0 12 1 * fri", None, "2026-11-27T12:00:00"),
    ],
)
def test_next_time(schedule: str, timezone: str | None, expected: str) -> None:
    date = next_after(schedule, timezone, utc("2026-11-22T07:30:00.250000"))
    assert date == utc(expected)
    assert date.tzinfo is UTC


def test_a_time_is_never_its_own_successor() -> None:
    assert next_after("0 5 * * *", None, utc("2026-11-22T05:00:00")) == utc("2026-11-23T05:00:00")


def test_nothing_is_due_after_the_end() -> None:
    until = utc("2026-11-23T05:00:00")
    known = {"schedule": "0 5 * * *", "timezone": None, "end_time": until}
    assert next_run_date(**known, after=utc("2026-11-22T06:00:00")) == until
    assert next_run_date(**known, after=until) is None


@pytest.mark.parametrize(
    "schedule",
    [
        "bad",
        "",
        "   ",
        "* * * *",
        "60 * * * *",
        "* * * * * * 2030",
        "1-5/0 * * * *",
        "0 0 30 2 *",
        "R R * * *",
        "1,h * * * *",
        "@reboot",
        "@every 5s",
        "0 5 * * * ٣",
        "0 0 * * 8",
        "\x00 * * * *",
        "@",
    ],
)
def test_schedules_that_are_refused(schedule: str) -> None:
    with pytest.raises(InvalidInputError, match=r"Invalid cron schedule: '.*'. Reason: .+") as refused:
        check_schedule(schedule, None)
    assert refused.value.status == 422


def test_an_unknown_alias_is_called_one() -> None:
    with pytest.raises(InvalidInputError, match=r"Invalid cron schedule: '@reboot'. Reason: there is no such alias\."):
        check_schedule("@reboot", None)


@pytest.mark.parametrize(
    "timezone", ["Mars/X", "", "../../etc/passwd", "America", "x" * 5000, "/etc/localtime", "a\x00"]
)
def test_zones_that_are_refused(timezone: str) -> None:
    with pytest.raises(InvalidInputError, match="Invalid timezone: '"):
        check_schedule("* * * * *", timezone)


@pytest.mark.parametrize(
    "schedule",
    [
        "1," * 25_000 + "1 * * * *",
        "*" * 50_000,
        "* " * 25_000,
        "@" + "a" * 50_000,
        "0 0 31 2,4,6,9,11 *",
        "0-59/7," * 70,
    ],
)
def test_cost_is_bounded(schedule: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidInputError):
        check_schedule(schedule, BERLIN)
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("* * * * *", 60),
        ("* * * * * *", 1),
        ("* * * * * */5", 5),
        ("* * * * * */7", 4),  # 56, 60
        ("* * * * * 0,59", 1),
        ("* * * * * 30", 60),
        ("0,59 * * * *", 60),
        ("*/45 * * * *", 15 * 60),
        ("0 * * * * 0,30", 30),
        ("59 23 * * *", 3600),
        ("0,59 0,23 * * *", 60),  # over midnight
        ("0,59 0,23 * * mon,wed", 59 * 60),
        ("0,59 0,23 28-31 * *", 60),
        ("0,50 0,23 1,31 * *", 10 * 60),  # 31 January and 1 February
        ("0,50 0,23 1,15 * *", 50 * 60),
        ("59-1 * * * *", 60),
        ("0 0 * * 5#2", 3600),
        ("0 0 L * *", 3600),
        ("@hourly", 3600),
        ("@yearly", 3600),
    ],
)
def test_the_least_interval(schedule: str, seconds: int) -> None:
    check_schedule(schedule, BERLIN, least_interval=seconds)
    if seconds < 3600:
        with pytest.raises(
            InvalidInputError, match=f"Invalid cron schedule: .* more than once in {seconds + 1} seconds"
        ):
            check_schedule(schedule, BERLIN, least_interval=seconds + 1)


@pytest.mark.parametrize("schedule", ["0-59/7," * 60 + "1 1-4," + "*/2 * * 0-59", "0-59 0-23 1-31 1-12 0-6 0-59/3"])
def test_the_least_interval_costs_little(schedule: str) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidInputError):
        check_schedule(schedule, BERLIN, least_interval=3600)
    assert time.perf_counter() - started < 0.05


@pytest.mark.parametrize(
    "text", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "0001-01-01", "never"]
)
def test_ends_that_are_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"Invalid end_time: '.*'\. Must be "):
        parse_end_time(text)


# Berlin: 02:00 becomes 03:00 on 29 March 2026 at 01:00 UTC; 03:00 becomes 02:00 on 25 October 2026 at 01:00 UTC.
# New York: 02:00 becomes 03:00 on 8 March 2026 at 07:00 UTC; 02:00 becomes 01:00 on 1 November 2026 at 06:00 UTC.


@pytest.mark.parametrize(
    ("schedule", "timezone", "start", "end", "expected"),
    [
        # a skipped time fires once, when the clock jumps
        ("30 2 * * *", BERLIN, "2026-03-27T12:00", "2026-03-30T12:00", ["28 01:30:00", "29 01:00:00", "30 00:30:00"]),
        ("30 2 * * *", NEW_YORK, "2026-03-07T12:00", "2026-03-09T12:00", ["08 07:00:00", "09 06:30:00"]),
        # several skipped times fire once together, and with the hour that follows
        ("*/20 2,3 * * *", BERLIN, "2026-03-29T00:00", "2026-03-29T12:00", ["29 01:00:00", "29 01:20:00", "29 01:40:00"]),
        # a repeated time fires once, the first time
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", "2026-10-26T12:00", ["25 00:30:00", "26 01:30:00"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", "2026-11-02T12:00", ["01 05:30:00", "02 06:30:00"]),
        ("0 */2 * * *", BERLIN, "2026-10-24T23:00", "2026-10-25T04:00", ["25 00:00:00", "25 03:00:00"]),
        ("0 3 * * *", BERLIN, "2026-10-24T23:00", "2026-10-25T04:00", ["25 02:00:00"]),
        # every hour means every hour
        (
            "15 * * * *",
            BERLIN,
            "2026-10-24T23:00",
            "2026-10-25T03:00",
            ["24 23:15:00", "25 00:15:00", "25 01:15:00", "25 02:15:00"],
        ),
        ("15 * * * *", BERLIN, "2026-03-28T23:30", "2026-03-29T02:00", ["29 00:15:00", "29 01:15:00"]),
        ("0 * * * *", NEW_YORK, "2026-11-01T04:30", "2026-11-01T07:30", ["01 05:00:00", "01 06:00:00", "01 07:00:00"]),
        # half an hour's change, and a day that a zone left out altogether
        ("0,45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00", "2026-04-04T16:20", ["04 14:45:00", "04 15:15:00", "04 15:30:00", "04 16:15:00"]),
        ("0 12 * * *", "Pacific/Apia", "2011-12-28T00:00", "2012-01-01T12:00", ["28 22:00:00", "29 22:00:00", "30 10:00:00", "30 22:00:00", "31 22:00:00"]),
    ],
)  # fmt: skip
def test_clock_changes(schedule: str, timezone: str, start: str, end: str, expected: list[str]) -> None:
    assert between(schedule, timezone, start, end) == expected


@pytest.mark.parametrize("timezone", [BERLIN, NEW_YORK, "Africa/Casablanca"])
def test_elapsed_schedules_keep_their_pace_all_year(timezone: str) -> None:
    dates = list(islice(firings("0 * * * *", timezone, utc("2026-01-01T00:00")), 24 * 366))
    assert max(later - earlier for earlier, later in pairwise(dates)) == timedelta(hours=1)


@pytest.mark.parametrize("timezone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Africa/Casablanca"])
def test_fixed_times_fire_once_a_day_all_year(timezone: str) -> None:
    for hour in (1, 2, 3):
        dates = list(islice(firings(f"15 {hour} * * *", timezone, utc("2026-01-01T12:00")), 366))
        days = [date.astimezone(ZoneInfo(timezone)).date() for date in dates]
        assert all(later - earlier == timedelta(days=1) for earlier, later in pairwise(days))


@pytest.mark.parametrize("timezone", [BERLIN, NEW_YORK])
def test_the_answer_does_not_depend_on_where_one_starts(timezone: str) -> None:
    """From any moment, the next firing is the next of those found by walking: schedulers tick at odd times."""
    for day in ("2026-03-08", "2026-03-29", "2026-10-25", "2026-11-01"):
        start = utc(f"{day}T00:00")
        for schedule in ("*/20 * * * *", "10,50 1-3 * * *", "30 2 * * *"):
            walked = list(islice(firings(schedule, timezone, start - timedelta(days=2)), 400))
            for minute in range(0, 24 * 60, 31):
                moment = start + timedelta(minutes=minute, seconds=13)
                assert next_after(schedule, timezone, moment) == next(date for date in walked if date > moment)
