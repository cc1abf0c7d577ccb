"""Periods of budgets: which hour, day, week or month an instant falls into, by the clocks of a zone. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple

Period = Literal["hourly", "daily", "weekly", "monthly", "total"]
PERIODS: tuple[Period, ...] = ("hourly", "daily", "weekly", "monthly", "total")

_DAY, _HOUR, _INSTANT = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)


class Window(NamedTuple):
    """One hour, day, week or month, or all time.

    Attributes:
        label: Its name in the zone's own time; no two windows of a period and zone share one.
        begins: Its first instant (UTC), or None for `total`.
        ends: The first instant (UTC) of the next one, or None for `total`.
    """

    label: str
    begins: datetime | None
    ends: datetime | None


def window(period: Period, at: datetime, zone: tzinfo) -> Window:
    """The window that an instant falls into.

    Calendar periods are those of the zone's clocks, so a day may have 23 or 25 hours. Every instant falls into one
    window of a period, and they follow each other without a gap, whatever the clocks do.

    Example:
        >>> day = window("daily", datetime(2026, 11, 23, 16, tzinfo=UTC), ZoneInfo("Asia/Seoul"))
        >>> day.label, day.ends
        ('2026-11-24', datetime.datetime(2026, 11, 24, 15, 0, tzinfo=datetime.timezone.utc))
    """
    if period == "total":
        return Window("ever", None, None)
    if period == "hourly":
        return _hour(at, zone)
    today = at.astimezone(zone).date()
    if at < midnight(today, zone):
        today -= _DAY  # clocks will go back over midnight, and the day begin again
    return _of_day(period, today, zone)


@lru_cache(maxsize=256)
def _of_day(period: Period, day: date, zone: tzinfo) -> Window:
    if period == "daily":
        label, first, following = day.isoformat(), day, day + _DAY
    elif period == "weekly":
        first = day - timedelta(days=day.weekday())
        label, following = f"{first.isoformat()}/7d", first + timedelta(days=7)
    else:
        first = day.replace(day=1)
        label, following = f"{day:%Y-%m}", (first + timedelta(days=32)).replace(day=1)
    return Window(label, midnight(first, zone), midnight(following, zone))


@lru_cache(maxsize=1024)
def midnight(day: date, zone: tzinfo) -> datetime:
    """The instant (UTC) from which on it is this day, or a later one, in the zone.

    Where clocks go forward over midnight the day begins later, and a day that a zone leaves out begins and ends at
    once. Where they go back over midnight, it comes twice and the day begins for good at the second.
    """
    first, last = sorted(
        datetime(day.year, day.month, day.day, tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)
    )
    if first == last or (last - _INSTANT).astimezone(zone).date() < day:
        return last
    if first.astimezone(zone).date() == day:
        return first  # clocks go back to midnight, or less far than that
    return _change(first, last, zone)


def _hour(at: datetime, zone: tzinfo) -> Window:
    local = at.astimezone(zone)
    # An hour that the clocks repeat is another hour: its offset tells it apart.
    label = f"{local:%Y-%m-%dT%H}{local:%z}"
    offset = local.utcoffset() or timedelta(0)
    begins = (local.replace(minute=0, second=0, microsecond=0, tzinfo=None) - offset).replace(tzinfo=UTC)
    ends = begins + _HOUR
    # One during which the clocks change is cut in two, since they may change by half an hour.
    if begins.astimezone(zone).utcoffset() != offset:
        begins = _change(begins, at.astimezone(UTC), zone)
    if (ends - _INSTANT).astimezone(zone).utcoffset() != offset:
        ends = _change(at.astimezone(UTC), ends - _INSTANT, zone)
    return Window(label, begins, ends)


def _change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """The first instant that has another offset than `before`, by halves."""
    offset = before.astimezone(zone).utcoffset()
    while (apart := after - before) > _INSTANT:
        middle = before + apart // 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
