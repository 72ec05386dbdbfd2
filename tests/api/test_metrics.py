"""What nodes push and Prometheus scrapes."""

from __future__ import annotations

import gzip
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event
from starlette.testclient import TestClient

from api.app import create_app
from api.deps import Parts
from api.scrapers import RENEWED_S, Scrapers
from fleet import expositions
from fleet.client import Client
from fleet.simulation.boxes import BOXES
from fleet.simulation.exposed import Exposed
from fleet.simulation.faults import Active
from fleet.simulation.hardware import SimulatedBox
from tests.api.agent import Agent
from tests.parts import need
from tests.whole import ROOT, until

GPU = 'gpu="0",uuid="GPU-1"'
TEXT = f"""# HELP fleet_gpu_power_watts Power.
# TYPE fleet_gpu_power_watts gauge
fleet_gpu_up{{{GPU}}} 1
fleet_gpu_power_watts{{{GPU}}} 312.5
fleet_gpu_sm_active_ratio{{{GPU}}} 0.75
fleet_gpu_temperature_celsius{{{GPU},sensor="gpu"}} 61
fleet_gpu_temperature_celsius{{{GPU},sensor="memory"}} 74
fleet_node_power_watts{{source="ipmi"}} 950
fleet_node_power_watts{{source="pdu"}} 990
"""


def push(http: TestClient, agent: Agent, text: str | bytes, encoding: str = "gzip") -> httpx.Response:
    """One push of an agent."""
    content = text.encode() if isinstance(text, str) else text
    headers = {"Content-Type": "text/plain; version=0.0.4", "Content-Encoding": encoding}
    sent = gzip.compress(content) if encoding == "gzip" else content
    return http.request("PUT", "/v1/agents/metrics", content=sent, headers=headers, auth=agent.auth)


@pytest.fixture
def scraper(bearer: Callable[[str], dict[str, str]]) -> dict[str, str]:
    """The headers of who scrapes."""
    return bearer("viewer")


def scrape(http: TestClient, agent: Agent, scraper: dict[str, str], accept: str = "gzip") -> httpx.Response:
    """The node's text as Prometheus asks for it."""
    headers = {**scraper, "Accept-Encoding": accept}
    return http.get(f"/v1/nodes/{agent.node_id}/metrics", headers=headers)


@pytest.mark.parametrize("encoding", ["gzip", "identity", ""])
@pytest.mark.parametrize("accept", ["gzip", "identity"])
def test_what_a_node_pushes_is_what_is_scraped(
    http: TestClient, agent: Agent, scraper: dict[str, str], encoding: str, accept: str
) -> None:
    pushed = push(http, agent, TEXT, encoding)
    assert (pushed.status_code, pushed.json()) == (200, {"interval_s": 10.0})
    reply = scrape(http, agent, scraper, accept)
    assert reply.status_code == 200, reply.text
    assert reply.headers.get("content-encoding", "identity") == accept
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.text == TEXT


@pytest.fixture
def still(parts: Parts) -> Iterator[TestClient]:
    """The application, where no time passes for those who scrape."""
    app = create_app(replace(parts, scrapers=Scrapers(lambda: 0.0)), run_controllers=False)
    with TestClient(app, base_url="http://127.0.0.1") as found:
        yield found


def test_a_scrape_asks_the_database_nothing_once_its_token_was_looked_up(
    still: TestClient, parts: Parts, client: Client, agent: Agent
) -> None:
    minted = client.mint_token("prometheus", "viewer", kind="service", scopes=["metrics"])
    headers = {"Authorization": f"Bearer {minted.secret}"}
    push(still, agent, TEXT)
    asked = list[str]()
    with parts.read() as session:
        engine = session.get_bind().engine
    assert scrape(still, agent, headers).status_code == 200
    event.listen(engine, "before_cursor_execute", lambda *about: asked.append(about[2]))
    assert [scrape(still, agent, headers).text for _ in range(3)] == [TEXT] * 3
    assert asked == []


def test_a_token_that_another_server_revoked_is_refused_once_it_is_looked_up_anew(
    parts: Parts, client: Client, agent: Agent
) -> None:
    times = [0.0]
    app = create_app(replace(parts, scrapers=Scrapers(lambda: times[-1])), run_controllers=False)
    minted = client.mint_token("prometheus", "viewer", kind="service", scopes=["metrics"])
    headers = {"Authorization": f"Bearer {minted.secret}"}
    with TestClient(app, base_url="http://127.0.0.1") as http:
        push(http, agent, TEXT)
        assert scrape(http, agent, headers).status_code == 200
        client.revoke_token(minted.id)  # by other parts: nothing is forgotten here
        times.append(RENEWED_S)
        assert scrape(http, agent, headers).status_code == 200
        until(lambda: scrape(http, agent, headers).status_code == 401, "it is looked up anew")


def test_a_scrapes_token_that_is_revoked_is_refused_at_once(
    still: TestClient, client: Client, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    minted = client.mint_token("prometheus", "viewer", kind="service", scopes=["metrics"])
    headers = {"Authorization": f"Bearer {minted.secret}"}
    push(still, agent, TEXT)
    assert scrape(still, agent, headers).status_code == 200
    assert still.delete(f"/v1/tokens/{minted.id}", headers=bearer("admin")).status_code < 300
    assert scrape(still, agent, headers).status_code == 401


def test_a_node_that_never_pushed_is_503_and_one_that_is_not_there_404(
    http: TestClient, agent: Agent, scraper: dict[str, str]
) -> None:
    assert scrape(http, agent, scraper).status_code == 503
    assert http.get("/v1/nodes/99/metrics", headers=scraper).status_code == 404


def test_a_text_older_than_two_intervals_is_served_no_more(
    http: TestClient, parts: Parts, agent: Agent, scraper: dict[str, str]
) -> None:
    push(http, agent, TEXT)
    kept = parts.telemetry.latest(agent.node_id)
    assert kept is not None
    parts.telemetry.put(
        agent.node_id,
        replace(kept, received_at=kept.received_at - 19.0, signed_at=kept.signed_at + 1),
    )
    assert scrape(http, agent, scraper).status_code == 200
    parts.telemetry.put(
        agent.node_id,
        replace(kept, received_at=kept.received_at - 21.0, signed_at=kept.signed_at + 2),
    )
    reply = scrape(http, agent, scraper)
    assert reply.status_code == 503
    assert "older than 20 s" in reply.json()["detail"]


def test_what_was_signed_before_what_is_kept_is_refused_and_no_nonce_is_spent(
    http: TestClient, parts: Parts, agent: Agent, scraper: dict[str, str]
) -> None:
    with TestClient(http.app) as other:
        recorded: list[dict[str, str]] = []
        first = push(http, agent, TEXT)
        recorded.append({"Authorization": first.request.headers["Authorization"]})
        again = other.request(
            "PUT",
            "/v1/agents/metrics",
            content=first.request.content,
            headers={**recorded[0], "Content-Encoding": "gzip"},
        )
    assert again.status_code == 409
    assert again.json()["type"].endswith("stale-write")
    assert scrape(http, agent, scraper).text == TEXT


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("fleet_gpu_up 1", "line 1", "does not end"),
        ("fleet_gpu_up 1\nfleet_gpu_up{gpu=0} 1\n", "line 2", "no sample"),
        ("fleet_gpu_up 1 1700000000000\n", "line 1", "without a timestamp"),
        ("process_cpu_seconds_total 1\n", "line 1", "fleet_"),
        ('fleet_gpu_up{gpu="0",rack="r1"} 1\n', "line 1", "rack"),
        ("fleet_rack_power_budget_watts 1\n", "line 1", "API alone"),
        ('fleet_gpu_info{serial="a\\"b"} one\n', "line 1", "no sample"),
        (f'fleet_gpu_info{{serial="{"x" * 5000}"}} 1\n', "line 1", "shorten"),
        ("fleet_gpu_up 1\n" * 20_001, "body", "more than 20000"),
        (b"fleet_gpu_up\xff 1\n", "body", "UTF-8"),
    ],
)
def test_a_text_that_would_spoil_the_scrape_is_refused_by_its_line(
    http: TestClient, agent: Agent, text: str | bytes, field: str, said: str
) -> None:
    reply = push(http, agent, text)
    assert reply.status_code == 422, reply.text
    [error] = reply.json()["errors"]
    assert error["field"] == field
    assert said in error["message"]


def test_escapes_exponents_and_odd_numbers_are_read() -> None:
    text = 'fleet_gpu_info{serial="a\\"b\\\\c\\nd, rack=\\"x"} 1\nfleet_gpu_up 1e-3\nfleet_gpu_up{} +Inf\n\n# x\n'
    assert expositions.check(text.encode()) == text
    [info] = expositions.Reader("fleet_gpu_info").read(text)
    assert info.label("serial") == 'a"b\\c\nd, rack="x'


def test_a_body_that_unpacks_to_too_much_or_is_no_gzip_is_refused(http: TestClient, agent: Agent) -> None:
    assert push(http, agent, b"#" + b" " * (5 << 20)).status_code == 413
    headers = {"Content-Encoding": "gzip"}
    for content in (b"fleet_gpu_up 1\n", gzip.compress(TEXT.encode())[:-4]):
        reply = http.request("PUT", "/v1/agents/metrics", content=content, headers=headers, auth=agent.auth)
        assert reply.status_code == 422
    unknown = push(http, agent, TEXT, "br")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "Content-Encoding")


def test_discovery_names_every_live_node_with_its_path_and_where_it_stands(
    http: TestClient, client: Client, agent: Agent, bearer: Callable[[str], dict[str, str]]
) -> None:
    other = Agent.enrolled(http, client.join_token().secret, "tiny2")
    place = {"site": "berlin", "rack": "r1", "nameplate_watts": 3200}
    admin = bearer("operator")
    assert http.put(f"/v1/nodes/{agent.node_id}/place", json=place, headers=admin).status_code == 200
    http.put("/v1/racks/berlin/r1", json={"power_budget_watts": 12000}, headers=admin).raise_for_status()
    found = http.get("/v1/discovery/prometheus", headers=bearer("viewer")).json()
    assert found == [
        {
            "targets": ["127.0.0.1"],
            "labels": {
                "__metrics_path__": f"/v1/nodes/{agent.node_id}/metrics",
                "instance": "tiny1",
                "node": "tiny1",
                "site": "berlin",
                "rack": "r1",
            },
        },
        {
            "targets": ["127.0.0.1"],
            "labels": {
                "__metrics_path__": f"/v1/nodes/{other.node_id}/metrics",
                "instance": "tiny2",
                "node": "tiny2",
            },
        },
    ]
    [rack] = http.get("/v1/racks", headers=bearer("viewer")).json()["items"]
    assert (rack["name"], rack["power_budget_watts"], rack["nodes"]) == ("r1", 12000, 1)


def test_the_control_plane_tells_of_itself(
    http: TestClient, parts: Parts, client: Client, agent: Agent, scraper: dict[str, str]
) -> None:
    client.submit_job({"kind": "noop"}, name="waits")
    parts.controllers.tick()
    push(http, agent, TEXT)
    text = http.get("/metrics", headers=scraper).text
    families = {each.name: each for each in text_string_to_metric_families(text)}
    values = {
        (s.name, *sorted(s.labels.items())): s.value for each in families.values() for s in each.samples
    }
    assert values["fleet_jobs", ("state", "leased"), ("tenant", "default")] == 1
    assert values[("fleet_queue_wait_seconds_count",)] == 1
    assert values["fleet_leases", ("exclusive", "false"), ("kind", "cpu")] == 1
    assert values["fleet_nodes", ("contact", "online"), ("state", "ready")] == 1
    push_key = ("method", "PUT"), ("route", "/v1/agents/metrics"), ("status", "2xx")
    assert values["fleet_http_request_seconds_count", *push_key] == 1
    assert 0 <= values["fleet_node_metrics_age_seconds", ("node", "tiny1"), ("rack", ""), ("site", "")] < 60


def test_what_ends_between_two_scrapes_is_counted_once(
    http: TestClient, parts: Parts, client: Client, agent: Agent, scraper: dict[str, str]
) -> None:
    job = client.submit_job({"kind": "noop"}, name="ends")
    client.cancel_job(job.id)
    for _ in range(2):
        assert (
            'fleet_jobs_finished_total{state="cancelled"} 1.0' in http.get("/metrics", headers=scraper).text
        )


def test_the_last_hour_holds_what_was_measured_and_nothing_that_was_not(
    http: TestClient, agent: Agent, scraper: dict[str, str]
) -> None:
    push(http, agent, TEXT)
    found = http.get(f"/v1/nodes/{agent.node_id}/telemetry", headers=scraper).json()
    assert len(found["at"]) == 1
    assert found["power_watts"] == [990]
    assert found["gpus"]["gpu0"]["temperature_celsius"] == [74]
    assert "tensor_active_ratio" not in found["gpus"]["gpu0"]
    latest = found["latest"]
    assert (latest["stale"], latest["power_source"], latest["findings"]) == (False, "pdu", [])
    assert (latest["gpus"][0]["sm_active_ratio"], latest["gpus"][0]["tensor_active_ratio"]) == (0.75, None)
    [listed] = http.get("/v1/telemetry", headers=scraper).json()["items"]
    assert listed == latest


def test_a_gpu_that_is_gone_is_found_told_and_forgotten_when_it_is_back(
    http: TestClient, client: Client, agent: Agent, scraper: dict[str, str]
) -> None:
    push(http, agent, TEXT)
    push(http, agent, TEXT.replace(f"fleet_gpu_up{{{GPU}}} 1", f"fleet_gpu_up{{{GPU}}} 0"))
    [listed] = http.get("/v1/telemetry", headers=scraper).json()["items"]
    [finding] = listed["findings"]
    assert (finding["device"], finding["verdict"], finding["action"]) == ("gpu0", "failed", "reboot the node")
    push(http, agent, TEXT)
    kinds = [each.kind for each in client.events(limit=200).items]
    assert [kind for kind in kinds if kind.startswith("node.device_")] == [
        "node.device_failed",
        "node.device_ok",
    ]


def test_prometheus_finds_nothing_to_say_against_what_is_scraped(
    http: TestClient, client: Client, agent: Agent, scraper: dict[str, str]
) -> None:
    promtool = need("promtool", install="prometheus")
    box = SimulatedBox(BOXES["h200x8"], "seed", 1000.0, load=1.0)
    box.advance(1010.0, (), Active())
    push(http, agent, Exposed(box, "SIM").text({0: 1}))
    for text in (scrape(http, agent, scraper).text, http.get("/metrics", headers=scraper).text):
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_warning_that_comes_and_goes_is_shown_and_makes_no_event(
    http: TestClient, client: Client, agent: Agent
) -> None:
    hot = TEXT + f'fleet_gpu_throttled{{{GPU},reason="hw_thermal"}} 1\n'
    for text in (hot, TEXT, hot):
        push(http, agent, text)
    [found] = client.telemetry().items
    assert [(each.device, each.verdict) for each in found.findings] == [("gpu0", "warned")]
    assert [each for each in client.events(limit=200).items if each.kind.startswith("node.device_")] == []


def test_every_series_of_the_control_plane_is_documented(
    http: TestClient, scraper: dict[str, str], agent: Agent
) -> None:
    http.get("/metrics", headers=scraper)  # so that a request has been counted
    said = set(re.findall(r"^# TYPE (\w+)", http.get("/metrics", headers=scraper).text, re.MULTILINE))
    documented = set(re.findall(r"`(fleet_\w+)`", (ROOT / "docs" / "monitoring.md").read_text("utf-8")))
    assert {name.removesuffix("_created") for name in said} - documented == set()
