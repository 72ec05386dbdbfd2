"""When a cron is due: fields, zones, and the nights in which the clock changes."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import firetimes
from fleet.errors import InvalidSpec

ZURICH = "Europe/Zurich"  # 2026: gap on March 29 at 02:00, the hour from 02:00 comes twice on October 25


def at(text: str, zone: str = "UTC") -> float:
    """Epoch seconds of a wall time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def shown(times: tuple[float, ...], zone: str) -> list[str]:
    """Times on the wall, with their distance from UTC."""
    return [datetime.fromtimestamp(each, ZoneInfo(zone)).strftime("%m-%d %H:%M%z") for each in times]


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("30 2 * * 1-5", "2026-11-27 03:00", "2026-11-30 02:30"),  # a Friday: Monday is next
        ("*/20 * * * *", "2026-11-27 03:01", "2026-11-27 03:20"),
        ("0 0 29 2 *", "2026-11-27 03:00", "2028-02-29 00:00"),
        ("0 12 1 * MON", "2026-11-27 03:00", "2026-11-30 12:00"),  # neither is *: either will do
        ("@daily", "2026-11-27 00:00", "2026-11-28 00:00"),  # what is due now is not due next
        ("0 0 L * *", "2026-11-27 03:00", "2026-11-30 00:00"),
    ],
)
def test_the_next_time_is_the_first_after_now(schedule: str, after: str, expected: str) -> None:
    assert firetimes.next_after(schedule, "UTC", at(after)) == at(expected)


def test_a_time_that_the_spring_skips_comes_once_right_after_the_gap() -> None:
    found = firetimes.upcoming("30 2 * * *", ZURICH, at("2026-03-28 00:00", ZURICH), 3)
    assert shown(found, ZURICH) == ["03-28 02:30+0100", "03-29 03:00+0200", "03-30 02:30+0200"]


def test_two_times_inside_one_gap_are_one_run() -> None:
    found = firetimes.upcoming("10,40 2 * * *", ZURICH, at("2026-03-29 00:00", ZURICH), 2)
    assert shown(found, ZURICH) == ["03-29 03:00+0200", "03-30 02:10+0200"]


def test_a_time_that_the_autumn_has_twice_comes_once_at_its_first_coming() -> None:
    found = firetimes.upcoming("30 2 * * *", ZURICH, at("2026-10-25 00:00", ZURICH), 2)
    assert shown(found, ZURICH) == ["10-25 02:30+0200", "10-26 02:30+0100"]


def test_a_start_in_the_second_of_two_hours_does_not_go_back_to_the_first() -> None:
    second = datetime(2026, 10, 25, 2, 10, tzinfo=ZoneInfo(ZURICH), fold=1).timestamp()
    assert shown(firetimes.upcoming("30 2 * * *", ZURICH, second, 1), ZURICH) == ["10-26 02:30+0100"]


def test_what_goes_by_the_hour_goes_by_elapsed_time_through_both_changes() -> None:
    for start in ("2026-03-29 00:00", "2026-10-25 00:00"):
        found = firetimes.upcoming("0 * * * *", ZURICH, at(start, ZURICH), 6)
        assert {after - before for before, after in pairwise(found)} == {3600.0}


def test_what_is_due_is_the_newest_of_it_oldest_first() -> None:
    start, end = at("2026-01-01 00:00"), at("2026-06-01 00:00")
    found = firetimes.due("*/5 * * * *", "UTC", start, end, 3)
    assert found == (end - 600, end - 300, end)
    assert firetimes.due("0 0 1 * *", "UTC", start, end, 30) == tuple(
        at(f"2026-0{month}-01 00:00") for month in range(2, 7)
    )
    assert firetimes.due("0 0 1 * *", "UTC", end, end + 60, 30) == ()


FIELDS = st.tuples(
    st.sampled_from(["0", "30", "*/7", "5,50", "*"]),
    st.sampled_from(["2", "*", "1-3", "*/6", "0,2,23"]),
    st.sampled_from(["*", "1", "25-31"]),
    st.sampled_from(["*", "3,10", "2"]),
    st.sampled_from(["*", "SUN", "1-5"]),
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    FIELDS, st.sampled_from(["UTC", ZURICH, "America/New_York", "Australia/Lord_Howe"]), st.integers(0, 10**8)
)
def test_times_only_grow_and_looking_back_finds_the_same_ones(schedule: str, zone: str, offset: int) -> None:
    begin = at("2024-01-01 00:00") + offset
    ahead = firetimes.upcoming(schedule, zone, begin, 12)
    assert list(ahead) == sorted(set(ahead))
    assert all(each > begin and each % 60 == 0 for each in ahead)
    assert firetimes.due(schedule, zone, begin, ahead[-1], 12) == ahead
    # asked again from each of them, the next one is the next one
    assert [firetimes.next_after(schedule, zone, each) for each in ahead[:-1]] == list(ahead[1:])


@pytest.mark.parametrize(
    "schedule",
    [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "a * * * *",
        "@reboot",
        "*/0 * * * *",
        "٣ * * * *",
    ],
)
def test_what_is_no_schedule_names_the_field_and_the_fix(schedule: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        firetimes.check(schedule, "UTC")
    assert caught.value.field == "schedule"
    assert "30 2 * * 1-5" in caught.value.problem


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="a day that none of its months has"):
        firetimes.check("0 0 30 2 *", "UTC")


@pytest.mark.parametrize(
    "zone",
    [
        *("", "Europe", "Mars/Olympus", "../etc/passwd", "/etc/localtime", "UTC\0", "x" * 99),
        *("localtime", "posixrules", "right/UTC"),
    ],
)
def test_what_is_no_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        firetimes.check("@daily", zone)
    assert caught.value.field == "timezone"


def test_a_leap_day_and_the_last_minute_of_a_year_come_when_they_do() -> None:
    autumn = datetime(2026, 11, 26, tzinfo=UTC).timestamp()
    leap = firetimes.upcoming("0 0 29 2 *", "UTC", autumn, 2)
    assert [datetime.fromtimestamp(each, UTC).isoformat()[:10] for each in leap] == [
        "2028-02-29",
        "2032-02-29",
    ]
    last = firetimes.upcoming("59 23 31 12 *", "Asia/Tokyo", autumn, 2)
    assert [datetime.fromtimestamp(each, UTC).isoformat()[:16] for each in last] == [
        "2026-12-31T14:59",
        "2027-12-31T14:59",
    ]


def test_utc_needs_no_rules() -> None:
    assert firetimes.zone("UTC").utcoffset(datetime.now(UTC)) is not None
