"""Crons: runs on a schedule, and when their next time is.

``next_after`` promises a time in UTC that is strictly later than the given one, at bounded cost for any schedule that
``check_schedule`` accepts. When a zone's clocks change:

* A schedule that names hours (``30 2 * * *``) follows the wall clock. A time that occurs twice fires at its first
  occurrence only; times that are skipped fire once, together, at the moment of the change.
* A schedule whose hour is ``*`` (``*/5 * * * *``) follows elapsed time: it goes on through a repeated hour and has
  nothing to make up for after a skipped one.

Relies on ``croniter`` for the syntax and for stepping through a plain calendar without zones; zones are handled here,
with ``zoneinfo``. Knows no clock: the caller passes the time in, which comes from the database.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, CroniterError, croniter

from langgraph_serverless.domain.runs import Durability, MultitaskStrategy, RunRequest, StreamMode
from langgraph_serverless.errors import InvalidInputError

#: Longer than any sensible schedule; the parser's cost grows with the text.
MAX_SCHEDULE_LENGTH = 512
#: Twice that of the longest name that there is.
MAX_ZONE_LENGTH = 64
#: The longest time between two 29ths of February, and a year more.
MAX_YEARS_AHEAD = 9
#: An end that every zone can show: a year is lost on either side, as Postgres shows times in its own zone.
FIRST_END, LAST_END = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 31, tzinfo=UTC)
_MINUTE, _HOUR, _DAY_FIELDS, _SECONDS = 0, 1, slice(2, 5), 5
_SECOND = timedelta(seconds=1)
#: Days on which a schedule fires that are looked at in order to see whether two of them follow each other.
_DAYS_LOOKED_AT = 60


class OnRunCompleted(StrEnum):
    """What becomes of the thread that a stateless cron's run was given."""

    DELETE = "delete"
    KEEP = "keep"


class CronField(StrEnum):
    """What a search may select; ``Cron`` has an attribute for each."""

    CRON_ID = "cron_id"
    ASSISTANT_ID = "assistant_id"
    THREAD_ID = "thread_id"
    USER_ID = "user_id"
    END_TIME = "end_time"
    SCHEDULE = "schedule"
    TIMEZONE = "timezone"
    PAYLOAD = "payload"
    NEXT_RUN_DATE = "next_run_date"
    METADATA = "metadata"
    ON_RUN_COMPLETED = "on_run_completed"
    ENABLED = "enabled"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    cron_id: uuid.UUID
    assistant_id: uuid.UUID
    #: None: a fresh thread for each firing.
    thread_id: uuid.UUID | None
    #: Identity of the creator, in whose name the runs are made.
    user_id: str
    schedule: str
    #: IANA name; None means UTC.
    timezone: str | None
    end_time: datetime | None
    #: The request's body as it was sent, with the assistant's UUID and this cron's id in ``config.configurable``.
    payload: Mapping[str, Any]
    metadata: Mapping[str, Any]
    #: None for crons on a thread.
    on_run_completed: OnRunCompleted | None
    enabled: bool
    #: None: the cron is over.
    next_run_date: datetime | None
    created_at: datetime
    updated_at: datetime
    #: The creator's; that of its thread, if it has one. Not read by searches.
    tenant: str = ""


def run_request(cron: Cron, due_at: datetime) -> RunRequest:
    """What the cron asks for at one of its times.

    Nulls in the payload mean the default, as if they had been left out.
    """
    sent = {key: value for key, value in cron.payload.items() if value is not None}
    config = dict(sent.get("config") or {})
    # shown to clients in the payload, but set for each run from ``cron_id``; left here it would clash with a context
    configurable = {key: value for key, value in (config.get("configurable") or {}).items() if key != "cron_id"}
    config["configurable"] = configurable
    modes = sent.get("stream_mode") or [StreamMode.VALUES]
    durability = sent.get("durability")
    if durability is None and "checkpoint_during" in sent:
        durability = Durability.ASYNC if sent["checkpoint_during"] else Durability.EXIT
    return RunRequest(
        assistant_id=str(cron.assistant_id),
        input=sent.get("input"),
        metadata=cron.metadata,
        config=config,
        context=sent.get("context"),
        interrupt_before=sent.get("interrupt_before"),
        interrupt_after=sent.get("interrupt_after"),
        stream_mode=[StreamMode(mode) for mode in ([modes] if isinstance(modes, str) else modes)],
        stream_subgraphs=sent.get("stream_subgraphs", False),
        stream_resumable=sent.get("stream_resumable", False),
        multitask_strategy=MultitaskStrategy(sent.get("multitask_strategy", MultitaskStrategy.ENQUEUE)),
        durability=Durability(durability) if durability is not None else None,
        checkpoint_during=sent.get("checkpoint_during") is not False,
        webhook=sent.get("webhook"),
        on_completion=cron.on_run_completed or OnRunCompleted.DELETE,
        cron_id=cron.cron_id,
        cron_due_at=due_at,
    )


def parse_end_time(text: str | None) -> datetime | None:
    """An ISO 8601 time; without an offset it is UTC.

    Raises:
        InvalidInputError: if it is something else.
    """
    if text is None:
        return None
    try:
        end_time = datetime.fromisoformat(text)
        end_time = end_time.replace(tzinfo=UTC) if end_time.tzinfo is None else end_time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(f"Invalid end_time: '{text[:100]}'. Must be an ISO 8601 date and time.") from None
    if not FIRST_END <= end_time <= LAST_END:
        raise InvalidInputError(f"Invalid end_time: '{text[:100]}'. Must be in the years 2 to 9998.")
    return end_time


def check_schedule(schedule: str, timezone: str | None, *, least_interval: int = 0) -> None:
    """Refuse what could never fire, would fire at times that nobody can foresee, or too often.

    Args:
        least_interval: seconds that must be between two of its times, by the calendar.

    Raises:
        InvalidInputError: naming the reason.
    """
    zone(timezone)
    next_after(schedule, timezone, datetime(2000, 1, 1, tzinfo=UTC))
    calendar = _Calendar(schedule)
    if calendar.is_denser_than(least_interval):
        raise calendar.invalid(f"it fires more than once in {least_interval} seconds, which is not allowed here.")


def zone(timezone: str | None) -> tzinfo:
    """The zone with this IANA name; UTC for None.

    Raises:
        InvalidInputError: if there is none.
    """
    if timezone is None:
        return UTC
    try:
        # the name becomes a path, which is walked part by part
        if len(timezone) <= MAX_ZONE_LENGTH:
            return ZoneInfo(timezone)
    except (ValueError, OSError, KeyError):  # bad characters; a folder; unknown
        pass
    raise InvalidInputError(
        f"Invalid timezone: '{timezone[:100]}'. Use IANA timezone format (e.g. 'America/New_York')."
    )


def next_after(schedule: str, timezone: str | None, after: datetime) -> datetime:
    """The first time of the schedule that is later than ``after``, in UTC.

    Raises:
        InvalidInputError: if the schedule or the zone is not valid, or no time matches.
    """
    where = zone(timezone)
    calendar = _Calendar(schedule)
    now = after.astimezone(where)
    wall = now.replace(tzinfo=None, fold=0, microsecond=0)
    change = _end_of_repeated_time(wall, where)
    if change is not None:  # this wall time occurs twice
        candidate = calendar.next(wall)
        if calendar.elapsed and candidate < change:
            return _utc(candidate, where, fold=now.fold)
        if calendar.elapsed and not now.fold:
            # nothing left in the first pass: the second one starts over
            again = calendar.next(change - _offset_change(wall, where) - _SECOND)
            if again < change:
                return _utc(again, where, fold=1)
        if now.fold:
            # a schedule with fixed hours is through with all of the repeated time
            candidate = calendar.next(change - _SECOND)
    else:
        candidate = calendar.next(wall)
    jump = _skipped(candidate, where)
    if jump is None:
        return _utc(candidate, where)
    if not calendar.elapsed:
        return jump
    return _utc(calendar.next(jump.astimezone(where).replace(tzinfo=None) - _SECOND), where)


def next_run_date(
    *, schedule: str, timezone: str | None, end_time: datetime | None, after: datetime
) -> datetime | None:
    """The same, or None if that is past the cron's end."""
    date = next_after(schedule, timezone, after)
    return None if end_time is not None and date > end_time else date


class _Calendar:
    """A schedule stepped through wall time, as if there were no zones."""

    def __init__(self, schedule: str) -> None:
        self._schedule = schedule
        fields = schedule.split()
        if len(schedule) > MAX_SCHEDULE_LENGTH:
            raise self.invalid(f"longer than {MAX_SCHEDULE_LENGTH} characters.")
        # croniter also takes a seventh field (years), after which nothing fires any more
        if len(fields) not in (5, 6) and not (len(fields) == 1 and schedule.strip().startswith("@")):
            raise self.invalid("Exactly 5 or 6 (with trailing seconds) fields, or an alias such as @daily, are needed.")
        # croniter's R (random) and H (hash of a job's name) would give other times at each look
        if any(part[:1] in "rRhH" for field in fields for part in field.split(",") if part):
            raise self.invalid("random and hashed fields are not supported.")
        try:
            expanded, _ = croniter.expand(schedule)
        except (CroniterError, ValueError, KeyError, IndexError) as error:
            alias = schedule.strip().startswith("@")
            raise self.invalid("there is no such alias." if alias else str(error)) from None
        #: Every hour matches, so the schedule means intervals and not times of day.
        self.elapsed = expanded[_HOUR] == ["*"]
        self._expanded = expanded

    def next(self, wall: datetime) -> datetime:
        steps = croniter(
            self._schedule,
            wall.replace(tzinfo=UTC),
            ret_type=datetime,
            max_years_between_matches=MAX_YEARS_AHEAD,
        )
        try:
            found: datetime = steps.get_next()
        except CroniterBadDateError:
            raise self.invalid("no date matches it.") from None
        return found.replace(tzinfo=None)

    def is_denser_than(self, seconds: int) -> bool:
        """Whether two of its times are nearer to each other than this, which is at most an hour."""
        if len(self._expanded) <= _SECONDS and seconds <= 60:
            return False
        within = self._values(_SECONDS, 60) if len(self._expanded) > _SECONDS else [0]
        spread = within[-1] - within[0]
        minutes = [60 * hour + minute for hour in self._values(_HOUR, 24) for minute in self._values(_MINUTE, 60)]
        gaps = [later - earlier for earlier, later in pairwise(within)]
        gaps += [60 * (later - earlier) - spread for earlier, later in pairwise(minutes)]
        overnight = 60 * (minutes[0] + 24 * 60 - minutes[-1]) - spread
        return min(gaps, default=seconds) < seconds or (overnight < seconds and self._has_days_in_a_row())

    def _values(self, place: int, size: int) -> list[int]:
        found = self._expanded[place]
        return list(range(size)) if found == ["*"] else sorted({int(value) for value in found})

    def _has_days_in_a_row(self) -> bool:
        # an alias fires once a day at most, and then nothing follows overnight
        days = _Calendar(" ".join(["0", "0", *self._schedule.split()[_DAY_FIELDS]]))
        day = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall clock without a zone
        for _ in range(_DAYS_LOOKED_AT):
            day, before = days.next(day), day
            if day - before == timedelta(days=1):
                return True
        return False

    def invalid(self, reason: str) -> InvalidInputError:
        return InvalidInputError(f"Invalid cron schedule: '{self._schedule[:100]}'. Reason: {reason}")


def _utc(wall: datetime, where: tzinfo, *, fold: int = 0) -> datetime:
    return wall.replace(tzinfo=where, fold=fold).astimezone(UTC)


def _offset_change(wall: datetime, where: tzinfo) -> timedelta:
    """How far the clock is set back (positive) or forward (negative) around this wall time; zero if it is ordinary."""
    first, second = wall.replace(tzinfo=where, fold=0).utcoffset(), wall.replace(tzinfo=where, fold=1).utcoffset()
    return (first or timedelta()) - (second or timedelta())


def _end_of_repeated_time(wall: datetime, where: tzinfo) -> datetime | None:
    """The wall time at which the repeated times around ``wall`` end; None if ``wall`` occurs once."""
    change = _offset_change(wall, where)
    if change <= timedelta():
        return None
    low, high = wall, wall + change
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if _offset_change(middle, where):
            low = middle
        else:
            high = middle
    return high


def _skipped(wall: datetime, where: tzinfo) -> datetime | None:
    """The moment at which the clocks are set forward over ``wall``; None if ``wall`` exists."""
    if _offset_change(wall, where) >= timedelta():
        return None
    # read with the offset from after the change it lies before it, and the other way round
    low, high = _utc(wall, where, fold=1), _utc(wall, where, fold=0)
    after_change = high.astimezone(where).utcoffset()
    while high - low > _SECOND:
        middle = (low + (high - low) // 2).replace(microsecond=0)
        if middle.astimezone(where).utcoffset() == after_change:
            high = middle
        else:
            low = middle
    return high
