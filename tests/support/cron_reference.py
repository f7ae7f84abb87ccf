"""When crons are due, found by looking at every minute: what ``domain/crons.py`` computes is compared with this.

Knows no croniter and no arithmetic on wall clocks. Schedules have five fields of ``*``, numbers, ranges, lists and steps; the
rules for changes of clocks are those of docs/adr/0012.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
_SIZES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))

#: Offsets of half and three quarters of an hour, changes by half an hour, by two, at midnight, twice around a month, the
#: other way round (Dublin) and in the south; two that change no more.
ZONES = (
    *("UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "America/New_York", "America/Los_Angeles"),
    *("America/St_Johns", "America/Havana", "America/Santiago", "Africa/Cairo", "Africa/Casablanca", "Asia/Beirut"),
    *("Asia/Kolkata", "Asia/Kathmandu", "Asia/Tehran", "Australia/Adelaide", "Australia/Lord_Howe", "Australia/Sydney"),
    *("Pacific/Auckland", "Pacific/Chatham", "Antarctica/Troll", "Atlantic/Azores"),
)


@cache
def _walls(timezone: str, day: datetime) -> tuple[tuple[datetime, bool, datetime], ...]:
    """Of each minute of a day (UTC): its wall time, whether that has been before, and the wall time of the minute before."""
    where, found = ZoneInfo(timezone), []
    before = (day - MINUTE).astimezone(where)
    for number in range(24 * 60):
        wall = (day + number * MINUTE).astimezone(where)
        found.append((wall.replace(tzinfo=None, fold=0), bool(wall.fold), before.replace(tzinfo=None, fold=0)))
        before = wall
    return tuple(found)


class Reference:
    """One schedule in one zone."""

    def __init__(self, schedule: str, timezone: str) -> None:
        self._zone = timezone
        fields = schedule.split()
        self._sets = [_parse(field, low, high) for field, (low, high) in zip(fields, _SIZES, strict=True)]
        self._elapsed = len(self._sets[1]) == 24
        self._either_day = fields[2] != "*" and fields[4] != "*"
        self._by_day: dict[datetime, list[datetime]] = {}

    def _matches(self, wall: datetime) -> bool:
        minutes, hours, days, months, weekdays = self._sets
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        by_date, by_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return by_date or by_weekday if self._either_day else by_date and by_weekday

    def _fires(self, wall: datetime, again: bool, before: datetime) -> bool:
        if self._elapsed:
            return self._matches(wall)
        if again:  # named hours that come twice count the first time
            return False
        # all that was skipped since the minute before counts now
        while before + MINUTE < wall:
            before += MINUTE
            if self._matches(before):
                return True
        return self._matches(wall)

    def of_day(self, day: datetime) -> list[datetime]:
        """Its times on a day of UTC."""
        if day not in self._by_day:
            walls = _walls(self._zone, day)
            self._by_day[day] = [day + n * MINUTE for n, seen in enumerate(walls) if self._fires(*seen)]
        return self._by_day[day]

    def after(self, moment: datetime, *, days: int = 400) -> datetime:
        """The first of its times that is later."""
        day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        for _ in range(days):
            times = self.of_day(day)
            if (place := bisect_right(times, moment)) < len(times):
                return times[place]
            day += DAY
        raise AssertionError("nothing found")


def _parse(field: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        # a range from a number to itself is the whole cycle, as croniter has it
        start, end = (low, high) if span == "*" or first == last else (int(first), int(last or first))
        found.update(range(start, end + 1, int(step or 1)))
    return frozenset(found)


@cache
def changes(timezone: str, year: int) -> tuple[datetime, ...]:
    """The moments of a year at which a zone's clocks change, to the hour."""
    where, moment, found = ZoneInfo(timezone), datetime(year, 1, 1, tzinfo=UTC), []
    while moment.year == year:
        later = moment + timedelta(hours=1)
        if moment.astimezone(where).utcoffset() != later.astimezone(where).utcoffset():
            found.append(moment)
        moment = later
    return tuple(found)
