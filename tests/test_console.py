"""The web console in a real browser, over the real application and a seeded database."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import db, models, tenants
from fleet.agents.protocol import NoopSpec, canonical_hash
from fleet.blobs import Blobs
from fleet.client import Client
from fleet.settings import Settings
from tests.serving import Served, serving
from tests.webdriver import Browser, browser

pytestmark = pytest.mark.slow

INERT = "<script>window.owned = 1</script><img src=x onerror='window.owned = 1'>"
KERNEL = {"program": "gemm", "shape": [512, 512, 512], "dtype": "float32"}
FLOPS = 2.0 * 512**3
BEST = [["UPCAST", "out", 0, 6, None], ["VEC", "out", 1, 16, None], ["SPLIT", "r0", 0, 64, "LOOP"]]
SOURCE = "// the winner\nvoid gemm(void *const *bufs, long first, long last) {\n  float acc = 0.5f;\n}\n"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser; every test has its own origin, and so its own storage."""
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Browser]:
    """The browser at 1280×800; a test fails when its page complained (a CSP violation is a complaint)."""
    chromium.open("about:blank")
    chromium.complaints()
    chromium.resize(1280, 800)
    yield chromium
    complaints = chromium.complaints()
    chromium.open("about:blank")
    assert complaints == []


@pytest.fixture
def served(settings: Settings, admin_token: str, tab: Browser) -> Iterator[Served]:
    """A server over an empty fleet; it stays until the page has left it."""
    with serving(settings, admin_token) as found:
        yield found
        tab.open("about:blank")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[Served]:
    """A server over a fleet with a node, jobs with hostile names, and a search that is done. Tests only look."""
    settings = Settings.from_env({"TINYFLEET_DATA": str(tmp_path_factory.mktemp("busy"))})
    shutil.copy(migrated_database, settings.data / "fleet.db")
    engine = db.engine_for(settings.database_url)
    with db.session_factory(engine).begin() as session:
        now = db.now(session)
        token = tenants.mint(session, name="root", role="admin", now=now)[1]
        source = Blobs(settings.blobs, settings.max_blob_bytes).put(session, SOURCE.encode(), now)
        for rows in seeds(source, now):
            session.add_all(rows)
            session.flush()
    engine.dispose()
    with serving(settings, token) as found:
        yield found


def seeds(source: str, now: float) -> Iterator[list[models.Table]]:
    """Everything in the busy fleet; a later list refers to earlier ones."""
    yield [tiny_node(now), models.Kernel(hash=canonical_hash(KERNEL), document={}, created_at=now)]
    yield [models.Standing(node_id=1, trust_at=now), tiny_cpu(), hostile_job(now), done_search(now)]
    yield [compared_job(now)]
    yield [seeded_round(1, now), seeded_round(2, now), tuned(source, now)]


def tiny_node(now: float) -> models.Node:
    """A node that reported just now."""
    seen = {"state_at": now, "enrolled_at": now, "last_seen": now, "boot_id": "boot-1", "sequence": 1}
    size = {"cores": 2, "memory_bytes": 8 << 30, "os": "", "hostname": "tiny.local", "agent_version": "0.1.0"}
    return models.Node(id=1, name="tiny1", state="ready", **seen, **size)


def tiny_cpu() -> models.Device:
    """Its one device."""
    about = {"kind": "cpu", "model": "Acme One", "arch": "acme-6-1+avx2", "target": {}, "problem": ""}
    return models.Device(node_id=1, name="cpu", slots=2, memory_bytes=8 << 30, **about)


def hostile_job(now: float) -> models.Job:
    """A job whose every text is markup."""
    return seeded_job(
        INERT, now, state="failed", outcome="failed", error=INERT, spec={"kind": "noop"}, kind="noop"
    )


def compared_job(now: float) -> models.Job:
    """A kernel job that measured the heuristic and NumPy on the search's kernel."""
    spec = {"kind": "kernel", "kernel": KERNEL, "threads": 1}
    rows = [row("heuristic", 40.0), row("none", 2.0), row("numpy", 120.0)]
    result = {"kernel_hash": canonical_hash(KERNEL), "rows": rows}
    return seeded_job(
        "compare", now, state="succeeded", outcome="succeeded", result=result, spec=spec, kind="kernel"
    )


def row(name: str, gflops: float) -> dict[str, Any]:
    """A row of a kernel job's result."""
    numbers = {"gflops": gflops, "best_s": FLOPS / gflops / 1e9, "max_error": 1e-6, "tolerance": 1e-5}
    return {"name": name, "outcome": "ok", "schedule": [], "detail": "", **numbers}


def seeded_job(name: str, now: float, **fields: Any) -> models.Job:
    """A finished job's row."""
    times = {"state_at": now, "created_at": now - 9, "started_at": now - 8, "finished_at": now}
    limits = {"priority": 0, "requirement": "", "threads": 1, "timeout_s": 60, "max_retries": 0}
    return models.Job(name=name, tenant="default", created_by="user:root", **times, **limits, **fields)


def done_search(now: float) -> models.Search:
    """A search of 8 candidates in two rounds."""
    times = {"state_at": now, "created_at": now - 40, "started_at": now - 38, "finished_at": now - 8}
    limits = {"width": 4, "budget_s": 30.0, "per_round": 16, "max_rounds": 32, "seed": 0, "threads": 1}
    found = {"flops": FLOPS, "bytes": 3e6, "best_s": FLOPS / 58.8e9, "best_hash": schedule_hash(2, 1)}
    keys = {"ref_key": "r", "join_key": "j", "kernel_hash": canonical_hash(KERNEL), "target_id": "t"}
    state = {"state": "done", "phase": "confirm", "round": 2, "source": "search", "tuned_kernel_id": 1}
    return models.Search(
        tenant="default",
        kernel=KERNEL,
        arch=None,
        created_by="user:root",
        **times,
        **limits,
        **found,
        **keys,
        **state,
    )


def schedule_hash(number: int, position: int) -> str:
    """The hash of a seeded candidate."""
    return canonical_hash([number, position])


def seeded_round(number: int, now: float) -> models.Round:
    """Four candidates: two right, one wrong (its reason is markup), one that does not compile."""
    outcomes = ["ok", "ok", "wrong", "compile_failed"]
    hashes = [schedule_hash(number, position) for position in range(4)]
    candidates = [{"hash": h, "schedule": BEST, "score": float(i)} for i, h in enumerate(hashes)]
    rates = [10.0 * number, 30.0 * number, None, None]
    results = [
        {"hash": h, "schedule": BEST, "outcome": outcome, "time_s": FLOPS / rate / 1e9 if rate else None}
        | ({"detail": INERT, "max_error": 0.5, "tolerance": 1e-5} if outcome == "wrong" else {})
        for h, outcome, rate in zip(hashes, outcomes, rates, strict=True)
    ]
    counts = {"ok": 2, "wrong": 1, "compile_failed": 1}
    return models.Round(
        search_id=1,
        number=number,
        started_at=now - 30,
        finished_at=now - 20,
        counts=counts,
        best_s=FLOPS / (30e9 * number),
        candidates=candidates,
        results=results,
        hashes=hashes,
    )


def tuned(source: str, now: float) -> models.TunedKernel:
    """The winner of the search."""
    keys = {
        "kernel_hash": canonical_hash(KERNEL),
        "target_id": "0" * 64,
        "threads": 1,
        "schedule_hash": "1" * 64,
    }
    speed = {"time_s": FLOPS / 58.8e9, "flops": FLOPS, "bytes": 3e6, "max_error": 1e-6, "tolerance": 1e-5}
    return models.TunedKernel(
        kernel=KERNEL,
        arch="acme",
        schedule=BEST,
        source_blob=source,
        search_id=1,
        node_id=1,
        created_at=now,
        tenant="default",
        confirmed_at=now,
        confirmed_by=1,
        **keys,
        **speed,
    )


# ------------------------------------------------------------------------------------------ signing in


def test_the_token_leaves_the_address_for_the_tabs_storage(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    assert tab.run("return location.href") == f"{served.url}/console"
    assert tab.run("return sessionStorage.getItem('tinyfleet.token')") == served.token
    assert tab.run("return [localStorage.length, document.cookie]") == [0, ""]


def test_without_a_token_nothing_is_shown_but_a_sign_in_field(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console")
    tab.until("!document.querySelector('#sign-in').hidden")
    assert tab.run("return document.querySelector('#fleet').hidden")
    assert tab.run("return document.activeElement.id") == "token"


def test_a_wrong_token_is_refused_and_the_right_one_opens_the_page(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console")
    sign_in(tab, "tfu_wrong")
    assert "not known" in tab.until("document.querySelector('#sign-in-problem').textContent")
    assert any("401" in complaint for complaint in tab.complaints())
    sign_in(tab, served.token)
    tab.until("!document.querySelector('#fleet').hidden")
    assert tab.until("document.querySelector('#stat-nodes').textContent === '0 / 0'")


def sign_in(tab: Browser, token: str) -> None:
    """Fill in the form and send it."""
    tab.until("!document.querySelector('#sign-in').hidden")
    tab.run("document.querySelector('#token').value = arguments[0]", token)
    tab.click("#sign-in button")


def test_signing_out_forgets_the_token(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    tab.click("#sign-out")
    tab.until("!document.querySelector('#sign-in').hidden")
    assert tab.run("return sessionStorage.length") == 0


# -------------------------------------------------------------------------------------- what it shows


def test_an_empty_fleet_says_what_to_do_next(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    tab.until("document.querySelector('#nodes .empty')")
    assert "tinyfleet join-token create" in tab.text("#nodes")
    assert "tinyfleet jobs submit" in tab.text("#jobs")
    assert "tinyfleet searches run" in tab.text("#search-body")


def test_nodes_jobs_and_the_best_kernel_are_summed_up(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    tab.until("document.querySelector('#stat-best').textContent === '58.8 GFLOP/s'")
    assert tab.text("#stat-nodes") == "1 / 1"
    assert "Acme One" in tab.text("#nodes")
    assert tab.run("return document.querySelectorAll('#jobs tbody tr').length") == 2


def test_markup_in_texts_of_others_is_inert(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    tab.until("document.querySelectorAll('#jobs tbody tr').length === 2")
    tab.click("#tab-quarantine")
    assert tab.until("document.querySelector('#jobs tbody').textContent.includes(argument)", INERT)
    assert tab.until("document.querySelector('.quarantine .reason').textContent === argument", INERT)
    tab.run("[...document.querySelectorAll('#jobs button')].at(-1).click()")
    assert tab.until("document.querySelector('dialog[open] .problem')?.textContent === argument", INERT)
    assert tab.run("return [typeof window.owned, document.querySelectorAll('main img').length]") == [
        "undefined",
        0,
    ]


def test_a_search_is_plotted_with_every_candidate_and_the_references(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    tab.until("document.querySelectorAll('.plot .mark').length === 8")
    assert tab.run("return document.querySelectorAll('.plot .mark.quarantined').length") == 2
    labels = tab.run("return [...document.querySelectorAll('.plot .labels text')].map((t) => t.textContent)")
    assert labels == ["NumPy 120.0", "round best 60.0", "heuristic 40.0", "unoptimized 2.0"]
    assert tab.text(".figures .lead dd") == "58.8"  # at full shape, in a race
    assert tab.text(".figures .lead dt") == "GFLOP/s, confirmed"
    chips = tab.run("return [...document.querySelectorAll('.best-schedule .opt')].map((o) => o.textContent)")
    assert chips == ["UPCASTout.0×6", "VECout.1×16", "SPLITr0.0×64loop"]


def test_the_table_lists_the_fastest_candidates_first(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    tab.until("document.querySelectorAll('.candidates tbody tr').length === 6")
    assert tab.run("return document.querySelector('.candidates tbody b').textContent") == "60.0"
    tab.click("#panel-candidates .quiet")
    assert tab.run("return document.querySelectorAll('.candidates tbody tr').length") == 8


def test_the_winners_source_is_shown_in_colour(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    assert tab.until("document.querySelector('.source code').textContent") == SOURCE
    words = tab.run(
        "return [...document.querySelectorAll('.source code span')].map((s) => [s.className, s.textContent])"
    )
    assert ["comment", "// the winner"] in words
    assert ["type", "void"] in words
    assert ["number", "0.5f"] in words


def test_tabs_are_moved_through_with_the_arrow_keys(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    tab.until("document.querySelector('#tab-candidates')")
    press = "new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true })"
    tab.run(f"document.querySelector('#tab-candidates').dispatchEvent({press})")
    assert tab.run("return document.activeElement.id") == "tab-quarantine"
    assert tab.run("return document.querySelector('#panel-candidates').hidden")


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_of_the_page(tab: Browser, busy: Served, width: int) -> None:
    tab.resize(width, 800)
    tab.open(busy.address)
    tab.until("document.querySelectorAll('.plot .mark').length === 8")
    assert tab.run("return document.documentElement.scrollWidth - innerWidth") <= 0


def test_every_control_has_a_name_and_ids_are_unique(tab: Browser, busy: Served) -> None:
    tab.open(busy.address)
    tab.until("document.querySelectorAll('.plot .mark').length === 8")
    nameless = "(e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)"
    assert (
        tab.run(f"return [...document.querySelectorAll('button, a, input')].filter({nameless}).length") == 0
    )
    ids = tab.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


# ------------------------------------------------------------------------------------------ staying up


def test_a_new_job_appears_without_a_reload(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    with Client(served.url, served.token) as client:
        client.submit_job(NoopSpec(), name="just-now")
    tab.until("document.querySelector('#jobs tbody').textContent.includes('just-now')")
    assert tab.until("document.querySelector('#activity').textContent.includes('job 1')")


def test_a_server_that_is_gone_is_said_to_be_gone(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    served.stop()
    tab.until("document.querySelector('#link').dataset.link === 'offline'")
    tab.until("!document.querySelector('#problem').hidden")
    # Requests under way end in many ways (refused, reset, empty, a 5xx); none may be a script's or the CSP's.
    strange = [c for c in tab.complaints() if "net::ERR_" not in c and "status of 5" not in c]
    assert strange == []
    tab.open("about:blank")  # what the page tries again meanwhile is no complaint of this test
    tab.complaints()


def test_a_token_that_is_revoked_ends_the_session(tab: Browser, served: Served) -> None:
    with Client(served.url, served.token) as client:
        minted = client.mint_token("short-lived", role="viewer")
        tab.open(f"{served.url}/console#token={minted.secret}")
        tab.until("document.querySelector('#link').dataset.link === 'live'")
        client.revoke_token(minted.id)
        client.submit_job(NoopSpec())  # its event makes the page ask again
    tab.until("!document.querySelector('#sign-in').hidden")
    assert "refused" in tab.text("#sign-in-problem")
    assert all("401" in complaint for complaint in tab.complaints())


# ------------------------------------------------------------------------------------ modules by hand


def test_events_are_found_however_the_stream_is_cut(tab: Browser, served: Served, tmp_path: Path) -> None:
    tab.open(f"{served.url}/console")
    body = """
      const stream = ': still here\\n\\nid: 7\\nevent: job.queued\\ndata: {"a":1}\\n\\nid: 8\\ndata: {\\ndata: }\\n\\n';
      return [...stream].map((_, cut) => {
        const feed = m.parser();
        return JSON.stringify([...feed(stream.slice(0, cut)), ...feed(stream.slice(cut))]);
      });
    """
    seen = set(tab.module("/console/events.js", body))
    assert seen == {
        '[{"id":"7","event":"job.queued","data":"{\\"a\\":1}"},{"id":"8","event":"message","data":"{\\n}"}]'
    }


def test_the_node_of_a_job_is_where_it_ran_else_where_it_must_run(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console")
    body = """
      const job = (id, fields) => ({ id, kind: "noop", spec: { kind: "noop" }, created_at: "2026-01-01T00:00:00Z",
        state: "queued", finished_at: null, ran_on: null, node: null, ...fields });
      const ended = { state: "succeeded", finished_at: "2026-01-01T00:00:01Z" };
      const jobs = [job(1, { ...ended, ran_on: "tiny1" }), job(2, { node: "tiny2" }), job(3, {}),
        job(4, { ...ended, state: "cancelled" })];
      m.drawJobs({ jobs, nodes: [], attempts: new Map(), now: () => 0 });
      return [...document.querySelectorAll("#jobs tbody tr")].map((row) => row.cells[5].textContent);
    """
    assert tab.module("/console/jobs.js", body) == ["tiny1", "tiny2", "any", "–"]


def test_ticks_are_round_numbers_that_hold_the_most(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console")
    ticks = tab.module(
        "/console/plot.js", "return [0.7, 3, 61, 149.9, 12345].map((most) => m.niceTicks(most))"
    )
    assert ticks[2] == [0, 20, 40, 60, 80]
    assert all(4 <= len(each) <= 6 for each in ticks)
    assert [each[-1] >= most for each, most in zip(ticks, [0.7, 3, 61, 149.9, 12345], strict=True)] == [
        True
    ] * 5


def test_what_a_search_took_is_never_more_than_a_budget_it_is_said_to_be_of(
    tab: Browser, served: Served
) -> None:
    tab.open(f"{served.url}/console")
    shown = tab.module(
        "/console/nouns.js",
        """
        const at = (state, phase, elapsed) => m.spent({ state, phase, budget_s: 5, source: "search" }, elapsed);
        return [at("queued", "", 0), at("running", "measure", 2), at("running", "confirm", 3), at("running", "measure", 6),
          at("running", "confirm", 22.5), at("done", "confirm", 22.5), at("cancelled", "measure", 2)];
        """,
    )
    assert shown == [
        "budget 5 s",
        "2.0 s of 5 s",
        "3.0 s of 5 s · confirming",
        "budget 5 s used · ending the round",
        "budget 5 s used · confirming",
        "took 22.5 s, budget 5 s",
        "took 2.0 s, budget 5 s",
    ]


def test_a_cancelled_job_looks_unlike_a_failed_one(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console")
    body = """
      return ["failed", "cancelled"].map((state) => {
        const chip = document.body.appendChild(m.chip(state));
        const { backgroundColor, color, textDecorationLine } = getComputedStyle(chip);
        const dot = getComputedStyle(chip, "::before");
        return [backgroundColor, color, textDecorationLine, dot.borderRadius, dot.backgroundColor];
      });
    """
    failed, cancelled = tab.module("/console/parts.js", body)
    assert all(one != other for one, other in zip(failed, cancelled, strict=True))


def test_a_lost_answer_does_not_end_the_stream(tab: Browser, served: Served) -> None:
    tab.open(served.address)
    tab.until("document.querySelector('#link').dataset.link === 'live'")
    body = """
      const store = new m.Store();
      store.setLink("live");
      store.fail(Object.assign(new api.ApiError(0, "lost")));
      const lost = store.link;
      await store.readNodes();
      store.stop();
      return [lost, store.link];
    """
    imported = f"const api = await import('/console/api.js'); {body}"
    assert tab.module("/console/store.js", imported) == ["offline", "live"]


def test_a_stream_that_falls_silent_is_given_up(tab: Browser, served: Served) -> None:
    tab.open(f"{served.url}/console")
    body = """
      const heard = new m.Watchdog(60000), silent = new m.Watchdog(20);
      await new Promise((resolve) => silent.signal.addEventListener("abort", resolve));
      heard.restart();
      heard.stop();
      return [heard.signal.aborted, silent.signal.aborted];
    """
    assert tab.module("/console/events.js", body) == [False, True]


def test_the_page_comes_back_by_itself_when_the_server_does(
    tab: Browser, settings: Settings, admin_token: str
) -> None:
    with serving(settings, admin_token) as first:
        tab.open(first.address)
        tab.until("document.querySelector('#link').dataset.link === 'live'")
        port = int(first.url.rsplit(":", 1)[1])
        first.stop()
        tab.until("document.querySelector('#link').dataset.link === 'offline'")
    with serving(settings, admin_token, port) as again:
        tab.until("document.querySelector('#link').dataset.link === 'live'")
        with Client(again.url, again.token) as client:
            client.submit_job(NoopSpec(), name="afterwards")
        tab.until("document.querySelector('#jobs tbody').textContent.includes('afterwards')")
        tab.open("about:blank")
    tab.complaints()  # of the connections that were refused meanwhile
