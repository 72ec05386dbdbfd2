"""The console's page of crons in a real browser, over the real application and a seeded database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import db, models, tenants
from fleet.client import Client
from fleet.settings import Settings
from tests.serving import Served, serving
from tests.webdriver import Browser, browser

pytestmark = pytest.mark.slow
INERT = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
TIMES = [1.0, 1.02, 0.98, 1.01, 1.6]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser; a page that complained (a CSP violation is a complaint) fails the last test."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open("about:blank")
        opened.complaints()
        yield opened
        assert opened.complaints() == []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Served]:
    """A server with a cron that regressed, one that fails with markup in its error, and one that is paused."""
    settings = Settings.from_env({"TINYFLEET_DATA": str(tmp_path_factory.mktemp("crons"))})
    shutil.copy(migrated_database, settings.data / "fleet.db")
    engine = db.engine_for(settings.database_url)
    with db.session_factory(engine).begin() as session:
        now = db.now(session)
        token = tenants.mint(session, name="root", role="admin", now=now)[1]
        session.add_all(
            [cron("train", now), cron("hostile", now, health="failing"), cron("idle", now, paused_at=now)]
        )
        session.flush()
        for number, value in enumerate(TIMES, start=1):
            session.add(run(1, number, now, "succeeded", regressed=value > 1.5))
            session.flush()
            session.add(point(number, now, value))
        session.add_all(
            [
                run(1, 8, now, "skipped", reason="another run is still under way"),
                run(2, 9, now, "failed", error=INERT),
            ]
        )
    engine.dispose()
    with serving(settings, token) as found:
        yield found


def cron(name: str, now: float, **fields: object) -> models.Cron:
    """A cron that is due tomorrow."""
    watch = [{"name": "time_s", "better": "lower", "tolerance": 0.05, "window": 10, "least": 3}]
    about = {
        "health_reason": INERT if name == "hostile" else "",
        "next_at": None if "paused_at" in fields else now + 86_400,
    }
    policy = {"overlap": "skip", "catch_up": "last", "most_caught_up": 10, "watch": watch}
    job = {"spec": {"kind": "noop"}}
    return models.Cron(
        tenant="default", name=name, schedule="30 2 * * *", timezone="Europe/Zurich", job=job, decided_at=now,
        created_by="user:root", created_at=now, **policy, **about, **fields,
    )  # fmt: skip


def run(cron_id: int, number: int, now: float, state: str, **fields: object) -> models.CronRun:
    """A run that has ended."""
    at = now - 86_400 * (20 - number)
    return models.CronRun(
        id=number,
        cron_id=cron_id,
        scheduled_at=at,
        state=state,
        state_at=at,
        created_at=at,
        finished_at=at,
        **fields,
    )


def point(run_id: int, now: float, value: float) -> models.CronPoint:
    """A run's number, judged."""
    verdict = "regressed" if value > 1.5 else "ok"
    return models.CronPoint(
        cron_id=1, name="time_s", run_id=run_id, at=now, value=value, verdict=verdict, good=verdict == "ok",
        baseline=1.0, mad=0.01, limit=1.05,
    )  # fmt: skip


def address(served: Served) -> str:
    """The page with the token in the fragment."""
    return f"{served.url}/console/crons.html#token={served.token}"


def opened(tab: Browser, served: Served) -> None:
    """The page, drawn."""
    tab.open("about:blank")
    tab.open(address(served))
    tab.until("document.querySelectorAll('#crons .cron').length === 3")


def test_every_cron_is_a_card_with_its_health_and_when_it_is_due(tab: Browser, served: Served) -> None:
    opened(tab, served)
    assert tab.text("#told") == "3 crons, 1 not well"
    cards = tab.run("return [...document.querySelectorAll('.cron')].map((c) => c.textContent)")
    assert ["idle" in card for card in cards] == [True, False, False]  # the newest first
    assert "paused" in cards[0]
    assert "failing" in cards[1]
    assert "30 2 * * * Europe/Zurich" in cards[2]
    assert "due in" in cards[2]
    assert "token" not in tab.run("return location.href")


def test_the_last_runs_are_a_strip_that_says_what_they_were(tab: Browser, served: Served) -> None:
    opened(tab, served)
    strip = "document.querySelectorAll('.cron')[2].querySelector('.strip')"
    assert (
        tab.run(f"return {strip}.getAttribute('aria-label')")
        == "The last 6 runs: 4 succeeded, 1 regressed, 1 skipped"
    )
    classes = tab.run(f"return [...{strip}.children].map((run) => run.className)")
    assert [each.split()[1] for each in classes] == ["succeeded"] * 4 + ["regressed", "skipped"]


def test_a_series_is_a_sparkline_with_its_baseline_and_its_regression(tab: Browser, served: Served) -> None:
    opened(tab, served)
    spark = "document.querySelector('.spark')"
    label = "time_s: 5 runs, last 1.6, baseline 1, regressed"
    assert tab.run(f"return {spark}.getAttribute('aria-label')") == label
    points = tab.run(f"return {spark}.querySelector('.line').getAttribute('points')").split()
    heights = [float(each.split(",")[1]) for each in points]
    assert len(points) == len(TIMES)
    assert sorted(range(5), key=lambda place: -heights[place]) == sorted(
        range(5), key=lambda place: TIMES[place]
    )
    assert tab.run(f"return {spark}.querySelectorAll('.point.regressed').length") == 1
    assert tab.run(f"return [...{spark}.querySelectorAll('.baseline, .limit')].length") == 2


def test_all_runs_are_listed_with_why_and_markup_is_inert(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.run("document.querySelectorAll('.cron .quiet')[1].click()")
    tab.until("document.querySelector('dialog[open] tbody')?.textContent.includes(argument)", INERT)
    assert tab.run(
        "return [typeof window.owned, document.querySelectorAll('main img, dialog img').length]"
    ) == [
        "undefined",
        0,
    ]
    assert INERT in tab.text(".cron .problem")


def test_what_happens_is_drawn_without_being_asked_for(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    with Client(served.url, served.token) as client:
        added = client.add_cron("fresh", "@daily", {"spec": {"kind": "noop"}})
        tab.until("document.querySelectorAll('#crons .cron').length === 4")
        client.remove_cron(added.id)
    tab.until("document.querySelectorAll('#crons .cron').length === 3")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_of_the_page(tab: Browser, served: Served, width: int) -> None:
    tab.resize(width, 800)
    opened(tab, served)
    assert tab.run("return document.documentElement.scrollWidth - innerWidth") <= 0
    nameless = "(e) => !(e.textContent.trim() || e.getAttribute('aria-label'))"
    assert tab.run(f"return [...document.querySelectorAll('button, a')].filter({nameless}).length") == 0


def test_without_a_token_the_page_says_where_to_sign_in(tab: Browser, served: Served) -> None:
    tab.open(served.url + "/console/crons.html")
    tab.run("sessionStorage.clear()")
    tab.open("about:blank")
    tab.open(served.url + "/console/crons.html")
    assert "Sign in" in tab.until("document.querySelector('#problem:not([hidden])')?.textContent")
