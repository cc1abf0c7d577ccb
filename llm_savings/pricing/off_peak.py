"""Time-of-day prices: the map's `off_peak_pricing` (DeepSeek and its resellers)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from typing import Any, cast
from zoneinfo import ZoneInfo

_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Window:
    """Hours of the day, in UTC, on some days of the week. The start is inside, the end is not.

    Attributes:
        start: When it opens.
        end: When it closes; not after `start` means over midnight, equal means all day.
        weekdays: ISO weekdays (Monday is 1), or None for every day.
        calendar: The time zone whose weekdays these are.
    """

    start: time
    end: time
    weekdays: frozenset[int] | None
    calendar: tzinfo

    def contains(self, at: datetime) -> bool:
        """Whether an aware time falls into the window."""
        if self.weekdays is not None and at.astimezone(self.calendar).isoweekday() not in self.weekdays:
            return False
        now = at.astimezone(UTC).time()
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


def windows(block: Mapping[str, Any]) -> tuple[Window, ...]:
    """Read the windows of an `off_peak_pricing` block.

    Args:
        block: `hours_utc` ("HH:MM-HH:MM" or a list of them, every day), or `windows`, a list of `hours_utc` with
            `weekdays`; `weekday_timezone` names the calendar of the weekdays (UTC when absent).

    Raises:
        ValueError: A window cannot be read, or there is none.
    """
    zone = block.get("weekday_timezone")
    calendar: tzinfo = ZoneInfo(zone) if zone else UTC
    found: list[Window] = []
    for rule in [block, *block.get("windows", ())]:
        days = rule.get("weekdays")
        weekdays = None if days is None else frozenset(_weekday(day) for day in days)
        for hours in _listed(rule.get("hours_utc", ())):
            start, _, end = hours.partition("-")
            found.append(Window(time.fromisoformat(start), time.fromisoformat(end), weekdays, calendar))
    if not found:
        raise ValueError("no window in off_peak_pricing")
    return tuple(found)


def _listed(value: object) -> Iterable[str]:
    return (value,) if isinstance(value, str) else cast("Iterable[str]", value)


def _weekday(value: object) -> int:
    if isinstance(value, str) and value.lower() in _NAMES:
        return _NAMES.index(value.lower()) + 1
    if type(value) is int and 1 <= value <= 7:
        return value
    raise ValueError(f"weekday {value!r}; expected 1 (Monday) to 7, or an English name")
