"""Periods: whatever a zone's clocks do, every instant is in one window, and windows follow each other."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_savings.periods import PERIODS, Period, midnight, window

ZONES = st.sampled_from(sorted(available_timezones() - {"localtime"}))
INSTANTS = st.datetimes(datetime(1990, 1, 1), datetime(2039, 12, 31), timezones=st.just(UTC))
CALENDAR = [period for period in PERIODS if period != "total"]
INSTANT = timedelta(microseconds=1)
LONGEST = {"hourly": 1, "daily": 25 + 2, "weekly": 7 * 24 + 3, "monthly": 31 * 24 + 3}


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


# Clocks that change at midnight, over midnight, by half an hour, by a whole day, by three hours.
@example("America/Sao_Paulo", utc(2017, 10, 15, 3), 0)
@example("America/Sao_Paulo", utc(2018, 2, 18, 1, 30), 5)
@example("Asia/Beirut", utc(2022, 3, 26, 22), 0)
@example("Asia/Beirut", utc(2022, 10, 29, 21, 30), 5)
@example("Africa/Cairo", utc(2024, 4, 25, 22), 0)
@example("Africa/Cairo", utc(2024, 10, 31, 21, 30), 9)
@example("America/Havana", utc(2024, 11, 3, 4, 30), 1)
@example("America/St_Johns", utc(2008, 11, 2, 2, 30, 30), 1)
@example("Antarctica/Casey", utc(2010, 3, 4, 14), 5)
@example("Pacific/Apia", utc(2011, 12, 30, 9, 59, 59), 9)
@example("Pacific/Apia", utc(2011, 12, 30, 10), 9)
@example("Pacific/Kwajalein", utc(1993, 8, 21, 11), 9)
@example("Australia/Lord_Howe", utc(2024, 4, 6, 15, 10), 5)
@example("Australia/Lord_Howe", utc(2024, 10, 5, 15, 40), 5)
@example("America/Caracas", utc(2016, 5, 1, 7), 5)
@example("UTC", utc(2024, 2, 29, 23, 59, 59, 999_999), 5)
@settings(max_examples=300)
@given(ZONES, INSTANTS, st.integers(0, 9))
def test_every_instant_is_in_one_window_and_windows_touch(name: str, at: datetime, tenth: int) -> None:
    zone = ZoneInfo(name)
    for period in CALENDAR:
        here = window(period, at, zone)
        assert here.begins is not None and here.ends is not None
        assert here.begins <= at < here.ends
        assert here.ends - here.begins <= timedelta(hours=LONGEST[period])
        # Any other instant of it says the same.
        for other in (here.begins, here.ends - INSTANT, here.begins + (here.ends - here.begins) * tenth // 10):
            assert window(period, other, zone) == here
        following, before = window(period, here.ends, zone), window(period, here.begins - INSTANT, zone)
        assert following.begins == here.ends
        assert before.ends == here.begins
        assert len({before.label, here.label, following.label}) == 3


@settings(max_examples=100)
@given(ZONES, INSTANTS)
def test_short_periods_lie_within_long_ones(name: str, at: datetime) -> None:
    zone = ZoneInfo(name)
    day, week, month = (window(period, at, zone) for period in ("daily", "weekly", "monthly"))
    for longer in (week, month):
        assert longer.begins <= day.begins < day.ends <= longer.ends  # type: ignore[operator]
    assert day.label.startswith(month.label)
    assert date.fromisoformat(week.label[:10]).weekday() == 0


@pytest.mark.parametrize(
    "name",
    ["America/Sao_Paulo", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe", "Antarctica/Casey", "Asia/Gaza"],
)
@pytest.mark.parametrize("period", CALENDAR)
def test_labels_never_come_twice(name: str, period: Period) -> None:
    zone, at, seen = ZoneInfo(name), utc(2009, 12, 31), set[str]()
    end = utc(2010, 12, 31) if period == "hourly" else utc(2024, 12, 31)
    while at < end:
        label, begins, ends = window(period, at, zone)
        assert label not in seen
        assert begins is not None and ends is not None and begins <= at < ends
        seen.add(label)
        at = ends


@pytest.mark.parametrize(
    ("zone", "day", "begins", "hours"),
    [
        ("Asia/Seoul", date(2026, 11, 24), utc(2026, 11, 23, 15), 24),
        ("America/New_York", date(2026, 3, 8), utc(2026, 3, 8, 5), 23),
        ("America/New_York", date(2026, 11, 1), utc(2026, 11, 1, 4), 25),
        ("Australia/Lord_Howe", date(2024, 4, 7), utc(2024, 4, 6, 13), 24.5),
        ("America/Sao_Paulo", date(2017, 10, 15), utc(2017, 10, 15, 3), 23),  # begins at 01:00
        ("America/Sao_Paulo", date(2018, 2, 17), utc(2018, 2, 17, 2), 25),  # 23:00 comes twice
        ("Asia/Beirut", date(2022, 3, 27), utc(2022, 3, 26, 22), 23),
        ("Africa/Cairo", date(2024, 10, 31), utc(2024, 10, 30, 21), 25),
        ("America/Havana", date(2024, 11, 3), utc(2024, 11, 3, 4), 25),  # 00:00 comes twice, on the same day
        ("America/St_Johns", date(2008, 11, 1), utc(2008, 11, 1, 2, 30), 25),  # from 00:01 back to 23:01
        ("Pacific/Apia", date(2011, 12, 29), utc(2011, 12, 29, 10), 24),
        ("Pacific/Apia", date(2011, 12, 30), utc(2011, 12, 30, 10), 0),  # a day that never was
        ("Pacific/Apia", date(2011, 12, 31), utc(2011, 12, 30, 10), 24),
        ("America/Toronto", date(1919, 3, 31), utc(1919, 3, 31, 4, 30), 23.5),  # from 23:30 to 00:30
    ],
)
def test_days(zone: str, day: date, begins: datetime, hours: float) -> None:
    there = ZoneInfo(zone)
    assert midnight(day, there) == begins
    assert midnight(day + timedelta(days=1), there) - begins == timedelta(hours=hours)


def test_month_ends_and_leap_days() -> None:
    seoul = ZoneInfo("Asia/Seoul")
    assert window("monthly", utc(2024, 2, 29, 14, 59, 59), seoul)[::2] == ("2024-02", utc(2024, 2, 29, 15))
    assert window("monthly", utc(2024, 2, 29, 15), seoul)[::2] == ("2024-03", utc(2024, 3, 31, 15))
    assert window("monthly", utc(2026, 1, 31, 16), seoul).label == "2026-02"
    assert window("daily", utc(2023, 2, 28, 15), seoul).label == "2023-03-01"
    assert window("weekly", utc(2026, 1, 1), seoul)[::2] == ("2025-12-29/7d", utc(2026, 1, 4, 15))
    assert window("total", utc(2026, 1, 1), seoul) == ("ever", None, None)
