"""The console's page of racks in a real browser, over a real server that simulated nodes pushed to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet import db, tenants
from fleet.client import Client
from fleet.settings import Settings
from fleet.simulation.boxes import BOXES
from fleet.simulation.crowd import Crowd, Wanted
from fleet.simulation.faults import parse_all
from tests.serving import Served, serving
from tests.webdriver import Browser, browser

pytestmark = pytest.mark.slow
CELLS = "document.querySelectorAll('#racks .cell').length"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser; a page that complained (a CSP violation is a complaint) fails the last test."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.open("about:blank")
        opened.complaints()
        opened.resize(1280, 800)
        yield opened
        assert opened.complaints() == []


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tab: Browser) -> Iterator[Served]:
    """A server with six nodes in two racks, whose measurements stay fresh for the whole test; one GPU is lost, one
    node never said anything."""
    folder = tmp_path_factory.mktemp("racks")
    settings = Settings.from_env({"TINYFLEET_DATA": str(folder / "data"), "TINYFLEET_METRICS_S": "600"})
    engine = db.engine_for(settings.database_url)
    db.upgrade(engine)
    with db.session_factory(engine).begin() as session:
        _, token = tenants.mint(session, name="root", role="admin", now=db.now(session))
    engine.dispose()
    with serving(replace(settings), token) as found, Client(found.url, token) as client:
        crowd = Crowd(
            Wanted(6, [BOXES["h200x8"], BOXES["rtx4090x6"]], load=1.0, per_rack=3), found.url, folder / "s"
        )
        crowd.join(client)
        crowd.set_faults(parse_all("gpu-lost:sim-001:2\nsilent:sim-006\ndrive-gone:sim-003:0"))
        for node in crowd.nodes:
            node.next_sync = node.next_push = 0.0
            node.step()
        crowd.stop()
        yield found
        tab.open("about:blank")


def opened(tab: Browser, served: Served, fragment: str = "") -> None:
    """The page of racks with the token, which leaves the address."""
    tab.open(f"{served.url}/console/racks.html#token={served.token}{fragment}")


def test_each_rack_has_its_nodes_and_each_gpu_a_cell(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.until(f"{CELLS} > 0")
    assert tab.run("return [...document.querySelectorAll('#racks h2')].map((one) => one.textContent)") == [
        "r01",
        "r02",
    ]
    assert tab.run(f"return {CELLS}") == 8 + 6 + 8 + 6 + 8  # of a node that said nothing none is known
    assert "6 nodes" in tab.text("#told")
    assert "1 stale" in tab.text("#told")
    assert tab.run("return location.hash") == ""


def test_the_colour_is_sm_active_first_and_what_is_not_known_is_hatched(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.until(f"{CELLS} > 0")
    assert tab.run("return document.querySelector('#metrics input:checked').value") == "work"
    label = "document.querySelector('#racks .cell').getAttribute('aria-label')"
    assert "SM active" in tab.run(f"return {label}")
    assert (
        tab.run("return document.querySelectorAll('#racks .cell.unknown').length") == 6 + 6 + 1
    )  # GeForces, and the lost one


@pytest.mark.parametrize(
    ("metric", "said"), [("power", " W of "), ("faults", "failed"), ("stale", "measured")]
)
def test_the_map_shows_what_is_chosen(tab: Browser, served: Served, metric: str, said: str) -> None:
    opened(tab, served)
    tab.until(f"{CELLS} > 0")
    tab.run(f"document.querySelector('#metrics input[value={metric}]').click()")
    tab.until(f"document.querySelector('#racks .cell.{metric}')")
    labels = tab.run(
        "return [...document.querySelectorAll('#racks .cell')].map((one) => one.getAttribute('aria-label'))"
    )
    assert any(said in label for label in labels), labels[:9]


def test_what_is_wrong_is_marked_beside_its_node(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.until("document.querySelector('#racks .wrong.failed')")
    titles = tab.run("return [...document.querySelectorAll('#racks .wrong.failed')].map((one) => one.title)")
    assert any("gpu2 is failed: XID 79" in title for title in titles), titles
    assert any("it does not answer; replace it" in title for title in titles), titles


def test_a_node_has_a_page_with_its_last_hour_and_what_is_wrong(tab: Browser, served: Served) -> None:
    opened(tab, served)
    tab.until(f"{CELLS} > 0")
    tab.run(
        "[...document.querySelectorAll('.node-row > a')].find((one) => one.textContent === 'sim-001').click()"
    )
    tab.until("!document.querySelector('#machine').hidden && document.querySelector('#machine .lines')")
    assert tab.text("#machine h1") == "sim-001"
    assert "gpu2 is failed: XID 79; reboot the node" in tab.text("#machine .findings")
    charts = tab.run(
        "return [...document.querySelectorAll('#machine figcaption b')].map((one) => one.textContent)"
    )
    assert charts[:2] == ["SM active", "Power"]
    assert charts[-1] == "Node power"


def test_a_gpu_has_a_page_and_the_way_back_leads_to_its_node_and_the_racks(
    tab: Browser, served: Served
) -> None:
    opened(tab, served)
    tab.until(f"{CELLS} > 0")
    tab.click("#racks .cell")
    tab.until("document.querySelector('#machine .lines')")
    assert tab.text("#machine h1").endswith("gpu0")
    assert "Tensor active" in tab.text("#machine .facts-grid")
    tab.click("#machine p a")
    tab.until("document.querySelector('#machine .gpu-links a')")
    tab.click("#machine p a")
    tab.until("!document.querySelector('#overview').hidden")


def test_without_a_token_the_page_says_where_to_sign_in(tab: Browser, served: Served) -> None:
    tab.open("about:blank")
    tab.open(f"{served.url}/console/racks.html")
    tab.run("sessionStorage.clear(); location.reload()")
    assert "Sign in" in tab.until("document.querySelector('#problem').textContent")


def test_the_page_fits_a_phone(tab: Browser, served: Served, tmp_path: Path) -> None:
    tab.resize(390, 800)
    opened(tab, served)
    tab.until(f"{CELLS} > 0")
    assert tab.run("return document.documentElement.scrollWidth <= innerWidth")
    tab.resize(1280, 800)
