"""The console's page of boxes in a real browser, over the real application and a seeded database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import db, models, tenants
from fleet.client import ApiError, Client
from fleet.settings import Settings
from tests.serving import Served, serving
from tests.webdriver import Browser, browser

pytestmark = pytest.mark.slow
INERT = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
GOOD = {"what": "GPUs", "want": "8", "have": "8", "ok": True, "fix": ""}
NARROW = {
    "what": "gpu3 PCIe width",
    "want": "at least x16",
    "have": "x8",
    "ok": False,
    "fix": "reseat the card",
}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser; a page that complained (a CSP violation is a complaint) fails the last test."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open("about:blank")
        opened.complaints()
        yield opened
        assert opened.complaints() == []


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    """By role."""
    return {}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, migrated_database: Path, tokens: dict[str, str]
) -> Iterator[Served]:
    """A server with four boxes of two models, and three nodes: one accepted, one refused, one being measured."""
    settings = Settings.from_env({"TINYFLEET_DATA": str(tmp_path_factory.mktemp("boxes"))})
    shutil.copy(migrated_database, settings.data / "fleet.db")
    engine = db.engine_for(settings.database_url)
    with db.session_factory(engine).begin() as session:
        now = db.now(session)
        for role in ("admin", "viewer"):
            tokens[role] = tenants.mint(session, name=role, role=role, now=now)[1]
        about = {"state_at": now, "enrolled_at": now, "hostname": "h", "agent_version": "1", "os": "linux"}
        nodes = [
            models.Node(name=f"tiny{n}", state="ready", cores=8, memory_bytes=1 << 34, **about)
            for n in (1, 2, 3)
        ]
        session.add_all(nodes)
        session.flush()
        verdicts = (("accepted", [GOOD]), ("refused", [GOOD, NARROW]), ("measuring", []))
        for node, (state, lines) in zip(nodes, verdicts, strict=True):
            asked = {"asked_at": now + 3600, "asked_by": "user:root"}  # so that the server decides on none
            session.add(
                models.Acceptance(id=node.id, model="h200x8", state=state, state_at=now, lines=lines, **asked)
            )
        session.add_all(
            [
                box("SN1", now, "installed", place="berlin/r1", node="tiny1"),
                box("SN2", now, "installed", place="berlin/r1", node="tiny2"),
                box("SN3", now, "stored", note=INERT),
                box("SN4", now, "ordered", model="mi300x8"),
            ]
        )
    engine.dispose()
    with serving(settings, tokens["admin"]) as found:
        with Client(found.url, found.token) as client:
            for model in ("h200x8", "mi300x8"):
                client.put_box_model(model, {"gpus": 8})
        yield found


def box(serial: str, now: float, state: str, model: str = "h200x8", **said: str) -> models.Box:
    """A box of the stock."""
    about = {"state_at": now, "added_at": now, "added_by": "user:root", **said}
    return models.Box(serial=serial, model=model, state=state, **about)


def opened(tab: Browser, served: Served, token: str = "") -> None:
    """The page, drawn."""
    tab.open("about:blank")
    tab.open(f"{served.url}/console/boxes.html#token={token or served.token}")
    tab.until("document.querySelectorAll('#verdicts .row').length === 3")


def rows(tab: Browser) -> list[list[str]]:
    """What the table of boxes shows, without ages."""
    read = "[...document.querySelectorAll('#boxes tr')].map((r) => [...r.children].map((c) => c.textContent))"
    return [[*row[:3], *row[4:7]] for row in tab.run(f"return {read}")]


def test_the_stock_is_shown_by_model_serial_state_and_place(tab: Browser, served: Served) -> None:
    opened(tab, served)
    assert rows(tab) == [
        ["SN1", "h200x8", "installed", "berlin/r1", "tiny1", "accepted"],
        ["SN2", "h200x8", "installed", "berlin/r1", "tiny2", "refused"],
        ["SN3", "h200x8", "stored", "–", "–", "–"],
        ["SN4", "mi300x8", "ordered", "–", "–", "–"],
    ]
    counted = tab.run("return [...document.querySelectorAll('#tally li')].map((li) => li.textContent)")
    assert counted == ["h200x8installed2stored1", "mi300x8ordered1"]
    assert "token" not in tab.run("return location.href")


def test_a_box_is_found_by_any_of_its_words(tab: Browser, served: Served) -> None:
    opened(tab, served)
    look = "const find = document.querySelector('#find'); find.value = arguments[0]; find.dispatchEvent(new Event('input'))"
    tab.run(look, "BERLIN tiny2")
    assert [row[0] for row in rows(tab)] == ["SN2"]
    assert tab.text("#stock-count") == "1 of 4"
    tab.run(look, "nowhere")
    assert (rows(tab), tab.text("#stock-told")) == ([], "No box is like that.")
    tab.run(look, "")
    assert len(rows(tab)) == 4


def test_verdicts_say_what_is_wrong_and_each_limit_and_markup_is_inert(tab: Browser, served: Served) -> None:
    opened(tab, served)
    told = tab.run("return [...document.querySelectorAll('#verdicts .row')].map((row) => row.textContent)")
    assert [text[:5] for text in told] == ["tiny2", "tiny3", "tiny1"]  # what is wrong first
    assert "gpu3 PCIe width: x8, not at least x16" in told[0]
    assert "measuring" in told[1]
    assert "1 limits kept" in told[2]
    tab.run("document.querySelector('#verdicts .row .quiet').click()")
    tab.until("document.querySelector('dialog[open] tbody')")
    lines = tab.run("return [...document.querySelectorAll('dialog tbody tr')].map((row) => row.textContent)")
    assert lines == ["gpu3 PCIe widthnot okat least x16x8reseat the card", "GPUsok88"]
    assert INERT in tab.run("return document.querySelector('#boxes').textContent")
    found = tab.run("return [typeof window.owned, document.querySelectorAll('main img').length]")
    assert found == ["undefined", 0]


def test_what_happens_is_drawn_without_being_asked_for(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    with Client(served.url, served.token) as client:
        added = client.add_box("SN5", "h200x8", place="shelf 3")
        tab.until("document.querySelectorAll('#boxes tr').length === 5")
        client.move_box(added.id, {"state": "scrapped"})
    tab.until("document.querySelector('#boxes').textContent.includes('scrapped')")


def test_who_does_not_operate_nodes_sees_the_verdicts_alone(
    tab: Browser, served: Served, tokens: dict[str, str]
) -> None:
    opened(tab, served, tokens["viewer"])
    assert tab.text("#stock-told") == "The stock is shown to those who operate nodes."
    assert rows(tab) == []
    assert all("403" in each for each in tab.complaints())  # it asked, and was refused
    with Client(served.url, tokens["viewer"]) as client:
        assert [(each.node, each.state) for each in client.acceptances(state="refused").items] == [
            ("tiny2", "refused")
        ]
        first = client.acceptances(limit=1)
        assert [each.node for each in first.items] == ["tiny1"]
        assert len(client.acceptances(after=int(first.next or 0)).items) == 2
        with pytest.raises(ApiError, match="403"):
            client.boxes()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_of_the_page(tab: Browser, served: Served, width: int) -> None:
    tab.resize(width, 800)
    opened(tab, served)
    assert tab.run("return document.documentElement.scrollWidth - innerWidth") <= 0
    nameless = "(e) => !(e.textContent.trim() || e.getAttribute('aria-label'))"
    assert tab.run(f"return [...document.querySelectorAll('button, a')].filter({nameless}).length") == 0


def test_without_a_token_the_page_says_where_to_sign_in(tab: Browser, served: Served) -> None:
    tab.open(served.url + "/console/boxes.html")
    tab.run("sessionStorage.clear()")
    tab.open("about:blank")
    tab.open(served.url + "/console/boxes.html")
    assert "Sign in" in tab.until("document.querySelector('#problem:not([hidden])')?.textContent")
