"""Each wall alone against every attack, and no wall at all: so that a wall which does nothing is found out."""

from __future__ import annotations

import os
from functools import cache

import pytest

from fleet.agents.protocol import Outcome
from tests.attacks.catalogue import BY_NAME, LETTERS
from tests.attacks.fort import NOBODY, Fort, fort
from tests.attacks.table import PAGE, README, counted, page

# What a kernel answers that was built without the thing that is attacked.
ABSENT = frozenset(
    {
        "ENOSYS",
        "EPERM",  # of a disk, which the machine's own rules may keep from everybody
        "ENOENT",
        "ENODEV",
        "ENXIO",
        "EOPNOTSUPP",
        "EAFNOSUPPORT",
        "EPROTONOSUPPORT",
        "EINVAL",
        "ESOCKTNOSUPPORT",
    }
)


def verdicts(stands: Fort) -> dict[str, dict[str, str]]:
    """Of all attacks, one after the other in one attempt."""
    ended = stands.attack("all", names=list(BY_NAME), **stands.target, timeout_s=100.0)
    assert ended.result is not None, ended.error
    assert set(ended.result) == set(BY_NAME)
    return ended.result


@cache
def without_walls() -> dict[str, dict[str, str]]:
    """As root."""
    with fort(0, "none") as stands:
        assert {wall.state for wall in stands.walls.values()} == {"off"}
        return verdicts(stands)


as_root = pytest.mark.skipif(
    os.geteuid() != 0,
    reason="not root: an attempt without walls would be stopped by what this user may not do",
)


@pytest.mark.slow
@as_root
def test_without_walls_every_attack_gets_through() -> None:
    stopped = {name: said["how"] for name, said in without_walls().items() if said["verdict"] == "stopped"}
    assert {
        name: how for name, how in stopped.items() if how not in ABSENT and BY_NAME[name].stopped_by
    } == {}
    assert len(stopped) < 20, f"this kernel has too little to be attacked: {stopped}"


@pytest.mark.slow
@as_root
@pytest.mark.parametrize("wall", LETTERS.values())
def test_a_wall_alone_stops_what_it_is_said_to_stop(wall: str) -> None:
    # Root's processes are not counted: limits are tried as another user, who is stopped by more than them.
    with fort(NOBODY if wall == "limits" else 0, wall) as stands:
        if wall not in stands.standing:
            pytest.skip(f"this machine lacks {wall}: {stands.walls[wall].detail}")
        found = verdicts(stands)
    bare = without_walls()
    wrong = {}
    for name, entry in BY_NAME.items():
        expected = "stopped" if entry.stops(frozenset({wall})) else "through"
        known = bare[name]["verdict"] == "through" and (expected == "stopped" or wall != "limits")
        if known and found[name]["verdict"] != expected:
            wrong[name] = found[name]
    assert wrong == {}


@pytest.mark.slow
def test_where_walls_are_required_nothing_starts_without_one() -> None:
    """Of an agent that is not root: it lacks the uid at least."""
    with fort(NOBODY if os.geteuid() == 0 else os.geteuid(), "required", others=False) as stands:
        ended = stands.attack("describe")
        assert ended.outcome is Outcome.INFRA_FAILED
        assert (
            "--walls required, and this machine lacks uid (attempts run as the agent's own user)"
            in ended.error
        )


def test_the_page_on_walls_is_the_catalogue() -> None:
    assert PAGE.read_text() == page(), "python -m tests.attacks.table writes it"
    assert README.read_text() == counted(README.read_text()), "and the number in it"
