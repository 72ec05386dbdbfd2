"""The console's page of logins, in a real browser: what is shown, what a click does, and that texts of others are inert."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.client import Client
from fleet.settings import Settings
from tests.serving import Served, serving
from tests.sshkeys import public_key
from tests.webdriver import Browser, browser

pytestmark = pytest.mark.slow
INERT = "<img src=x onerror='window.owned = 1'>"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Browser]:
    """The browser; a test fails when its page complained."""
    chromium.open("about:blank")
    chromium.complaints()
    chromium.resize(1280, 800)
    yield chromium
    complaints = chromium.complaints()
    chromium.open("about:blank")
    assert complaints == []


@pytest.fixture
def served(settings: Settings, admin_token: str, tab: Browser) -> Iterator[Served]:
    """A server with a node that has never spoken of logins."""
    with serving(settings, admin_token) as found:
        yield found
        tab.open("about:blank")


@pytest.fixture
def asked(served: Served, node: object) -> int:
    """A login that waits for a decision; every text of its owner's is markup."""
    with Client(served.url, served.token) as client:
        client.add_ssh_key(public_key(1).line, INERT)
        return client.request_grant(INERT, node="tiny1").id


def page(served: Served) -> str:
    """The page's address, with the token in the fragment."""
    return f"{served.url}/console/access.html#token={served.token}"


def test_without_a_token_the_page_leads_to_the_sign_in(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console/access.html")
    tab.until("document.querySelector('#sign-in') && !document.querySelector('#sign-in').hidden")


def test_an_empty_page_says_what_to_do(tab: Browser, served: Served) -> None:
    tab.open(page(served))
    tab.until("document.querySelector('#keys .empty')")
    assert "tinyfleet keys add" in tab.text("#keys")
    assert "tinyfleet access request" in tab.text("#asked")


def test_a_request_is_approved_and_revoked_by_clicks(tab: Browser, served: Served, asked: int) -> None:
    tab.open(page(served))
    tab.until("document.querySelector('#asked .primary')")
    tab.click("#asked .primary")
    tab.until("document.querySelector('#held .chip.is-active')")
    assert "does not look after logins" in tab.text("#held")
    tab.click("#held button")
    tab.until("document.querySelector('#ask').open")
    tab.run("document.querySelector('#reason').value = 'it is over'")
    tab.click("#ask-go")
    tab.until("document.querySelector('#held .chip.is-revoked')")
    assert "it is over" in tab.text("#held")
    with Client(served.url, served.token) as client:
        assert client.grant(asked).state == "revoked"


def test_markup_in_what_people_wrote_is_inert(tab: Browser, served: Served, asked: int) -> None:
    tab.open(page(served))
    tab.until("document.querySelector('#asked .row')")
    tab.until("document.querySelector('#keys .row')")
    assert INERT in tab.text("#asked")
    assert INERT in tab.text("#keys")
    assert tab.run("return [window.owned ?? null, document.images.length]") == [None, 1]


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_sticks_out_of_the_page(
    tab: Browser, served: Served, asked: int, width: int, tmp_path: Path
) -> None:
    tab.resize(width, 800)
    tab.open(page(served))
    tab.until("document.querySelector('#asked .row')")
    assert tab.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def told(tab: Browser, form: str, **fields: str) -> None:
    """Fill a form in and send it, as a person does."""
    for field, value in fields.items():
        place = f"document.querySelector('#{form} [name={field}]')"
        tab.run(f"const f = {place}; f.value = arguments[0]; f.dispatchEvent(new Event('input'))", value)
    tab.click(f"#{form} [type=submit]")


def test_a_contributor_adds_a_key_asks_for_a_login_and_removes_the_key(
    tab: Browser, served: Served, node: object
) -> None:
    with Client(served.url, served.token) as admin:
        secret = admin.mint_token("alice").secret
    tab.open(f"{served.url}/console/access.html#token={secret}")
    tab.until("document.querySelector('#keys .empty')")
    tab.click("#key-offer summary")
    told(tab, "key-form", public_key=f"{public_key(1).line} alice@laptop", label="laptop")
    tab.until("document.querySelector('#keys button')")
    assert "alice laptop" in tab.text("#keys")
    tab.click("#login-offer summary")
    tab.until("document.querySelector('#targets option')")
    told(tab, "login-form", target="tiny1", days="2", reason="to measure")
    tab.until("document.querySelector('#asked .row')")
    assert "alice on node tiny1" in tab.text("#asked")
    assert tab.run("return document.querySelector('#asked button')") is None  # she does not decide
    with Client(served.url, served.token) as admin:
        (asked,) = admin.grants("requested").items
        assert (asked.person, asked.node, asked.duration_s) == ("alice", "tiny1", 172_800.0)
    tab.click("#keys button")
    tab.until("document.querySelector('#ask').open")
    tab.click("#ask-go")
    tab.until("document.querySelector('#keys .empty')")
    with Client(served.url, served.token) as admin:
        assert admin.grant(asked.id).state == "denied"


def test_a_key_that_is_not_accepted_says_why_on_the_page(tab: Browser, served: Served) -> None:
    tab.open(page(served))
    tab.until("document.querySelector('#keys .empty')")
    tab.click("#key-offer summary")
    told(tab, "key-form", public_key="-----BEGIN OPENSSH PRIVATE KEY-----")
    tab.until("!document.querySelector('#problem').hidden")
    assert "was not sent" in tab.text("#problem")
    assert tab.complaints() == []
    told(tab, "key-form", public_key="ssh-dss AAAA")
    tab.until("document.querySelector('#problem').textContent.includes('DSA keys are not accepted')")
    complained = tab.complaints()  # the browser itself says that the server answered 422
    assert len(complained) == 1
    assert "422" in str(complained)
