"""Who may scrape is remembered for a second, and forgotten when anything is changed."""

from __future__ import annotations

import pytest

from api.scrapers import KEPT_S, RENEWED_S, Scrapers
from fleet.principals import Principal

PROMETHEUS = Principal("service", 1, "prometheus", "default", "viewer", frozenset({"metrics"}))
VIEWER = Principal("user", 2, "ada", "default", "viewer")


class Clock:
    """A clock that stands where it is put."""

    at = 100.0

    def __call__(self) -> float:
        return self.at


def test_who_was_looked_up_is_known_for_a_second() -> None:
    clock = Clock()
    scrapers = Scrapers(clock)
    scrapers.keep("tfs_a", PROMETHEUS, scrapers.began())
    clock.at += KEPT_S * 0.99
    assert scrapers.get("tfs_a") == PROMETHEUS
    assert scrapers.get("tfs_b") is None
    clock.at += KEPT_S * 0.02
    assert scrapers.get("tfs_a") is None


def test_one_of_those_who_scrape_has_the_token_looked_up_anew_before_it_must_be() -> None:
    clock = Clock()
    scrapers = Scrapers(clock)
    assert not scrapers.renew("tfs_a")
    scrapers.keep("tfs_a", PROMETHEUS, scrapers.began())
    assert not scrapers.renew("tfs_a")
    clock.at += RENEWED_S
    assert [scrapers.renew("tfs_a") for _ in range(3)] == [True, False, False]
    assert scrapers.get("tfs_a") == PROMETHEUS
    scrapers.keep("tfs_a", PROMETHEUS, scrapers.began())
    clock.at += RENEWED_S
    assert scrapers.renew("tfs_a")
    scrapers.forget("tfs_a")
    assert scrapers.get("tfs_a") is None


def test_nobody_is_remembered_who_may_do_more_than_scrape() -> None:
    scrapers = Scrapers(Clock())
    scrapers.keep("tfu_a", VIEWER, scrapers.began())
    assert scrapers.get("tfu_a") is None


@pytest.mark.parametrize("when", ["before it was kept", "after"])
def test_a_change_forgets_also_whom_a_look_up_under_way_found(when: str) -> None:
    scrapers = Scrapers(Clock())
    began = scrapers.began()
    if when == "after":
        scrapers.keep("tfs_a", PROMETHEUS, began)
    scrapers.clear()
    if when != "after":
        scrapers.keep("tfs_a", PROMETHEUS, began)
    assert scrapers.get("tfs_a") is None
