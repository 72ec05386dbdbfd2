"""When a cron is due: five fields of a crontab in a time zone. The one module that knows cronsim and the zones.

cronsim has Debian's rules for the clock's changes: a time of day that is skipped (02:30 in a spring night) fires once,
right after the gap; one that comes twice fires at its first coming; what has a `*` in its minute or hour field goes by
elapsed time, through both hours. Nothing here reads a clock: times are epoch seconds.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from fleet.errors import InvalidSpec

LONGEST = 200
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+){0,2}")
# What the tz database's files have beside zones: this machine's own, which another one has otherwise, and clocks that
# count leap seconds.
_NO_ZONES = ("localtime", "posixrules", "Factory", "posix/", "right/")
_LAST = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


def check(schedule: str, timezone: str) -> None:
    """Raises InvalidSpec, naming `schedule` or `timezone`, for what is not understood or never comes."""
    zone(timezone)
    fields = _fields(schedule)
    try:
        next(CronSim(fields, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        why = str(error).lower()
        never = " (or a day that none of its months has, as February 30)" if "day-of-month" in why else ""
        raise InvalidSpec(
            "schedule",
            f"{why}{never}: give minute, hour, day of month, month and day of week, as 30 2 * * 1-5",
        ) from error
    except (StopIteration, OverflowError) as error:
        raise InvalidSpec("schedule", "no such day ever comes: mend the day of month or the month") from error


def zone(name: str) -> ZoneInfo:
    """The time zone of that name, as Europe/Zurich. Raises InvalidSpec."""
    try:
        if len(name) > 64 or not _ZONE.fullmatch(name) or name.startswith(_NO_ZONES):
            raise ValueError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # not there, no zone's file, a folder of zones
        raise InvalidSpec(
            "timezone", f"{name[:64]!r} is no time zone: give one of the tz database, as Europe/Zurich or UTC"
        ) from error


def next_after(schedule: str, timezone: str, at: float) -> float | None:
    """The first time due after `at`; None when there is none in the next 50 years."""
    return next(_times(schedule, timezone, at), None)


def upcoming(schedule: str, timezone: str, at: float, count: int) -> tuple[float, ...]:
    """The next `count` times due after `at`."""
    return tuple(islice(_times(schedule, timezone, at), count))


def due(schedule: str, timezone: str, after: float, until: float, limit: int) -> tuple[float, ...]:
    """Those due after `after`, up to and with `until`, the oldest first: the newest `limit` of them."""
    span = 3600.0
    while True:
        begin = max(after, until - span)
        found = deque[float](maxlen=limit)
        for each in _times(schedule, timezone, begin):
            if each > until:
                break
            found.append(each)
        if begin <= after or len(found) == limit:
            return tuple(found)
        span *= 4  # look further back, never through years of minutes


def _times(schedule: str, timezone: str, at: float) -> Iterator[float]:
    """Times due after `at`, each once, in order."""
    if at >= _LAST:
        return
    here = zone(timezone)
    start = datetime.fromtimestamp(at, tz=UTC if timezone == "UTC" else here)
    before = at
    try:
        for each in CronSim(_fields(schedule), start):
            found = each.timestamp()
            if found > before:  # two times inside one gap are one; the second coming of an hour is over
                yield found
                before = found
    except OverflowError:
        return


@lru_cache(maxsize=1024)
def _fields(schedule: str) -> str:
    """The five fields. Raises InvalidSpec for another count: seconds are not offered."""
    text = ALIASES.get(schedule.strip().lower(), schedule)
    if len(schedule) > LONGEST or len(text.split()) != 5 or not text.isascii():
        raise InvalidSpec(
            "schedule",
            f"give five fields (minute, hour, day of month, month, day of week), as 30 2 * * 1-5, or one of "
            f"{', '.join(ALIASES)}",
        )
    return text
