"""The installer as the server gives it out, releases as it takes them in, and an operator's word on versions."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from api.app import create_app
from api.cli import app as verbs
from api.deps import Parts
from api.rates import Buckets, RateLimits
from fleet import authority, releases, update_ticks
from fleet.client import ApiError, Client
from fleet.db import now
from fleet.errors import AlreadyExists, InvalidSpec
from infra.release import make_key
from tests import releases as making
from tests.api.agent import Agent, exited
from tests.fleet.acting import inventory
from tests.parts import need


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases 1.0.0 and 1.1.0 as they were built."""
    need("ssh-keygen", install="openssh-client")
    folder = tmp_path_factory.mktemp("built")
    for number in ("1.0.0", "1.1.0"):
        making.small_release(folder, number, folder / "key")
    return folder


@pytest.fixture
def stocked(parts: Parts, built: Path) -> Path:
    """The server's folder of releases with both of them."""
    folder = parts.settings.fleet.releases
    for number in ("1.0.0", "1.1.0"):
        releases.add(built / number, folder)
    return folder


# --------------------------------------------------------------------------------------- the installer


def test_without_a_release_there_is_no_installer(http: TestClient) -> None:
    reply = http.get("/install.sh")
    assert reply.status_code == 404
    assert "tinyfleet release add" in reply.json()["detail"]


def test_the_installer_knows_the_server_that_it_comes_from(http: TestClient, stocked: Path) -> None:
    reply = http.get("/install.sh", headers={"Host": "fleet.lab:8000"})
    assert reply.headers["content-type"].startswith("text/x-shellscript")
    lines = reply.text.splitlines()
    assert "SERVER='http://fleet.lab:8000'" in lines
    assert "VERSION='1.1.0'" in lines
    assert "CA=''" in lines


def test_a_server_that_was_told_its_address_says_that_one(parts: Parts, stocked: Path) -> None:
    object.__setattr__(parts.settings, "public_url", "https://fleet.example/tiny")
    with TestClient(create_app(parts, run_controllers=False)) as http:
        assert "SERVER='https://fleet.example/tiny'" in http.get("/install.sh").text


@pytest.mark.parametrize(
    "host", ["x';reboot;'", "a b", "x$(id)", "x`id`", 'x"', "evil.example/../../", "x:99999999", "[::1", ""]
)
def test_a_host_that_would_be_shell_is_refused(http: TestClient, stocked: Path, host: str) -> None:
    reply = http.get("/install.sh", headers={"Host": host})
    assert reply.status_code == 422
    assert "install" not in reply.text


def test_behind_a_labs_certificate_the_installer_brings_its_authority(
    parts: Parts, stocked: Path, tmp_path: Path
) -> None:
    authority.init(tmp_path / "ca", "the lab", authority.PERMITTED)
    cert = tmp_path / "server.pem"
    authority.issue(authority.load(tmp_path / "ca"), ["localhost"], cert, tmp_path / "server.key")
    object.__setattr__(parts.settings, "tls_cert", cert)
    with TestClient(create_app(parts, run_controllers=False)) as http:
        text = http.get("/install.sh", headers={"Host": "localhost:8000"}).text
    assert f"CA='{(tmp_path / 'ca' / 'ca.pem').read_text().strip()}'" in text
    assert "SERVER='https://localhost:8000'" in text
    script = tmp_path / "install.sh"
    script.write_text(text)
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


def test_a_releases_files_are_given_to_anybody_and_nothing_else_is(http: TestClient, stocked: Path) -> None:
    name = "tinyfleet-1.0.0-py3-none-any.whl"
    reply = http.get(f"/v1/releases/1.0.0/{name}")
    assert reply.status_code == 200
    assert reply.content == (stocked / "1.0.0" / name).read_bytes()
    for path in (
        "1.0.0/../signers",
        "1.0.0/..%2Fsigners",
        "..%2F..%2Fadmin-token/x",
        "9.9.9/VERSION",
        "1.0.0/nope",
    ):
        assert http.get(f"/v1/releases/{path}").status_code == 404, path


def test_an_address_that_fetches_without_end_is_told_to_wait(parts: Parts, stocked: Path) -> None:
    object.__setattr__(parts, "downloads", Buckets(0.001, 3.0))
    with TestClient(create_app(parts, run_controllers=False)) as http:
        found = [http.get("/v1/releases/1.0.0/VERSION").status_code for _ in range(4)]
        assert found == [200, 200, 200, 429]
        assert http.get("/install.sh").headers["retry-after"]
    assert RateLimits().download_burst > 2 * 40  # two installations at once from one address


# ------------------------------------------------------------------------------------ taking releases in


def test_the_first_release_says_whose_are_taken(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    assert releases.add(built / "1.0.0", folder).version == "1.0.0"
    other = making.small_release(tmp_path / "other", "2.0.0", tmp_path / "other-key")
    with pytest.raises(InvalidSpec, match="signed by another key"):
        releases.add(other, folder)
    assert [each.version for each in releases.listed(folder)] == ["1.0.0"]


def test_a_release_that_was_tampered_with_is_not_taken(built: Path, tmp_path: Path) -> None:
    spoiled = making.copied(built / "1.0.0", tmp_path / "spoiled")
    with (spoiled / "tinyfleet-root.pyz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InvalidSpec, match="is not what SHA256SUMS vouches for"):
        releases.add(spoiled, tmp_path / "releases")
    make_key(tmp_path / "stranger")
    making.resign(spoiled, tmp_path / "stranger")
    with pytest.raises(InvalidSpec, match="is not good"):
        releases.add(spoiled, tmp_path / "releases")
    assert releases.listed(tmp_path / "releases") == []


def test_a_version_has_the_same_bytes_for_ever(built: Path, tmp_path: Path) -> None:
    releases.add(built / "1.0.0", tmp_path / "releases")
    releases.add(built / "1.0.0", tmp_path / "releases")
    again = making.small_release(tmp_path / "again", "1.0.0", built / "key", "def main(): pass\n")
    with pytest.raises(AlreadyExists):
        releases.add(again, tmp_path / "releases")


def test_the_verbs_of_the_server_add_list_and_remove(built: Path, tmp_path: Path) -> None:
    run, data = CliRunner().invoke, ["--data", str(tmp_path / "data")]
    assert "1.0.0" in run(verbs, ["release", "add", str(built / "1.0.0"), *data]).output
    assert '"version": "1.0.0"' in run(verbs, ["release", "list", *data, "--json"]).output
    assert run(verbs, ["release", "remove", "1.0.0", *data]).exit_code == 0
    assert run(verbs, ["release", "remove", "1.0.0", *data]).exit_code == 2
    refused = run(verbs, ["release", "add", str(tmp_path), *data])
    assert refused.exit_code == 2
    assert "is no good release" in refused.output


# ------------------------------------------------------------------------------------------- updates


class Box(Agent):
    """A node that the installer set up."""

    def boot(self, version: str, boot: str) -> Any:
        """The agent starts with this version, and reports."""
        said = inventory().model_dump(mode="json") | {"agent_version": version, "updatable": True}
        self.boot_id = boot
        return self.sync(inventory=said)


@pytest.fixture
def box(http: TestClient, client: Client) -> Callable[[str], Box]:
    """A function from a name to a new node of version 1.0.0."""

    def join(name: str) -> Box:
        found = Box.enrolled(http, client.join_token().secret, name)
        assert isinstance(found, Box)
        found.boot("1.0.0", "b1")
        return found

    return join


def tick(parts: Parts, at: float = 0.0) -> None:
    """One pass of the controllers, `at` seconds from now."""
    with parts.read() as session:
        moment = now(session) + at
    update_ticks.tick(parts.read, parts.write, parts.settings.fleet.timings, 0.0, moment)


def versions(client: Client) -> dict[str, tuple[str, str]]:
    return {node.name: (node.version, node.state) for node in client.updates().nodes}


def test_a_version_goes_to_the_canary_then_by_time_to_the_rest(
    client: Client, parts: Parts, stocked: Path, box: Callable[[str], Box]
) -> None:
    first, second = box("tiny1"), box("tiny2")
    assert client.updates().wanted is None
    assert first.sync().update is None
    client.set_updates("1.1.0", soak_s=0)
    tick(parts)
    assert versions(client) == {"tiny1": ("1.0.0", "offered"), "tiny2": ("1.0.0", "")}
    asked = first.sync().update
    assert asked is not None
    assert asked.version == "1.1.0"
    assert second.sync().update is None
    first.sync(update={"version": "1.1.0", "state": "staged"})
    assert client.updates().nodes[0].note == "staged"
    assert first.boot("1.1.0", "b2").update is None
    assert versions(client)["tiny1"] == ("1.1.0", "updated")
    tick(parts)
    assert client.updates().stage == "rest"
    tick(parts)
    assert second.sync().update is not None
    second.boot("1.1.0", "b2")
    assert set(versions(client).values()) == {("1.1.0", "updated")}


def test_a_node_that_goes_back_pauses_all_until_somebody_has_looked(
    client: Client, parts: Parts, stocked: Path, box: Callable[[str], Box]
) -> None:
    first, second = box("tiny1"), box("tiny2")
    client.set_updates("1.1.0", canary=["tiny1"])
    tick(parts)
    first.sync()
    first.boot("1.1.0", "b2")  # it reported, and root's part was not told of it
    first.boot("1.0.0", "b3")
    first.sync(update={"version": "1.1.0", "state": "failed", "error": "it did not report within 60 s"})
    tick(parts)
    found = client.updates()
    assert (found.paused, found.reason) == (True, "tiny1 went back: it did not report within 60 s")
    tick(parts, 3600.0)
    assert second.sync().update is None
    client.pause_updates(False)
    client.promote_updates()
    tick(parts)
    assert second.sync().update is not None
    assert first.sync().update is None


def test_a_node_that_is_asked_takes_no_new_work(
    client: Client, parts: Parts, stocked: Path, box: Callable[[str], Box]
) -> None:
    first = box("tiny1")
    running = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    (attempt,) = first.sync().attempts
    client.set_updates("1.1.0")
    tick(parts)
    waiting = client.submit_job({"kind": "noop"})
    parts.controllers.tick()
    assert client.job(waiting.id).state == "queued"
    assert "is about to change its version" in client.job(waiting.id).reason
    first.sync(attempts=[exited(attempt, result={"slept_s": 0.0})])
    first.boot("1.1.0", "b2")
    parts.controllers.tick()
    assert client.job(waiting.id).state == "leased"
    assert client.job(running.id).state == "succeeded"


def test_another_version_takes_the_offer_back(
    client: Client, parts: Parts, stocked: Path, box: Callable[[str], Box]
) -> None:
    first = box("tiny1")
    client.set_updates("1.1.0")
    tick(parts)
    before = first.sync()
    assert before.update is not None
    client.set_updates("1.0.0")
    after = first.sync()
    assert after.update is None
    assert after.generation > before.generation


def test_a_paused_rollout_asks_nobody(
    client: Client, parts: Parts, stocked: Path, box: Callable[[str], Box]
) -> None:
    first = box("tiny1")
    client.set_updates("1.1.0")
    assert client.pause_updates(reason="lunch").reason == "lunch"
    tick(parts)
    assert first.sync().update is None


def test_a_node_that_nobody_can_update_says_so(
    client: Client, stocked: Path, http: TestClient, parts: Parts
) -> None:
    Agent.enrolled(http, client.join_token().secret, "byhand")
    client.set_updates("1.1.0")
    tick(parts)
    (found,) = client.updates().nodes
    assert found.note == "was not set up by the installer: update it by hand"


def test_what_cannot_be_wanted_is_refused_by_field(client: Client, stocked: Path) -> None:
    with pytest.raises(ApiError, match=r"there is no release 3\.0\.0; there is 1\.1\.0, 1\.0\.0"):
        client.set_updates("3.0.0")
    with pytest.raises(ApiError, match="there is no node 'nobody'"):
        client.set_updates("1.1.0", canary=["nobody"])
    with pytest.raises(ApiError, match="409"):
        client.promote_updates()


def test_the_installer_installs_the_version_that_is_wanted(
    client: Client, http: TestClient, stocked: Path
) -> None:
    client.set_updates("1.0.0")
    assert "VERSION='1.0.0'" in http.get("/install.sh").text
    assert os.listdir(stocked)


def test_a_new_node_is_no_canary(
    client: Client, http: TestClient, parts: Parts, stocked: Path, box: Callable[[str], Box]
) -> None:
    """Nor does it get a version that has just failed: it would have none to go back to."""

    def served() -> str:
        (found,) = [line for line in http.get("/install.sh").text.splitlines() if line.startswith("VERSION=")]
        return found

    first, second = box("tiny1"), box("tiny2")
    client.set_updates("1.1.0", canary=["tiny1"])
    assert served() == "VERSION='1.0.0'"
    tick(parts)
    first.boot("1.1.0", "b2")
    first.boot("1.0.0", "b3")
    first.sync(update={"version": "1.1.0", "state": "failed", "error": "it did not report within 60 s"})
    tick(parts)
    assert client.updates().paused
    assert served() == "VERSION='1.0.0'"
    client.pause_updates(False)
    client.promote_updates()
    assert served() == "VERSION='1.1.0'"
    client.pause_updates(True)
    assert served() == "VERSION='1.0.0'"
    for each in (first, second):
        each.boot("1.1.0", "b4")
    assert served() == "VERSION='1.1.0'"
