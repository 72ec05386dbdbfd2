"""A node changes its version: a real root part, real releases over real HTTP, and the agent's half between them."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleet.agents import root_slots, rooted
from fleet.agents.client import ControlPlane
from fleet.agents.root import Server
from fleet.agents.root_verbs import Root
from fleet.agents.rooted import NoRoot
from fleet.agents.update_spec import UpdateReport, UpdateSpec
from fleet.agents.updates import Updates, updatable
from tests import releases
from tests.parts import need
from tests.signing import Pen
from tests.whole import until

WANTED = UpdateSpec(version="1.1.0")


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line for each."""

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server with the release 1.1.0 (good) and 1.2.0 (spoiled); its URL, and the folder of both."""
    need("ssh-keygen", install="openssh-client")
    folder = tmp_path_factory.mktemp("site")
    files = folder / "v1" / "releases"
    for number in ("1.0.0", "1.1.0", "1.2.0"):
        releases.small_release(files, number, folder / "key")
    with (files / "1.2.0" / "tinyfleet-1.2.0-py3-none-any.whl").open("ab") as file:
        file.write(b"x")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Node:
    """A node whose slots are real and whose agent is played by its `Updates`."""

    root: Root
    socket: Path
    control: ControlPlane
    asked: list[str] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.root.at("/var/lib/tinyfleet")

    def ask(self, verb: str, *, within_s: float = 30.0, **fields: Any) -> Any:
        self.asked.append(verb)
        return rooted.ask(verb, path=self.socket, within_s=within_s, **fields)

    def agent(self, version: str) -> Updates:
        """The agent of this version, just started."""
        found = Updates(self.control, self.state, version, lambda: None, self.ask)
        found.start()
        return found


@pytest.fixture
def node(tmp_path: Path, site: tuple[str, Path]) -> Iterator[Node]:
    """A node with 1.0.0 in its first slot and nothing in the other."""
    url, folder = site
    restart = (sys.executable, "-c", f"open({str(tmp_path / 'restarts')!r}, 'a').write('restart\\n')")
    root = Root(tmp_path / "machine", restart, os.getuid(), 60.0)
    slots = root_slots.Slots(root)
    slots.folder("a").mkdir(parents=True)
    (slots.folder("a") / "VERSION").write_text("1.0.0\n")
    slots.switch("a")
    root.at("/var/lib/tinyfleet").mkdir(parents=True)
    releases.signers(root.at(root_slots.SIGNERS), folder / "key")
    server = Server(root, tmp_path / "socket")
    thread = threading.Thread(target=server.run)
    thread.start()
    with ControlPlane(url, Pen()) as control:
        yield Node(root, tmp_path / "socket", control)
    server.stop()
    thread.join(10)


def said(updates: Updates) -> tuple[str, str]:
    """What the agent has to say: version and state; empty for nothing."""
    report = updates.report()
    return ("", "") if report is None else (report.version, report.state)


@pytest.mark.slow
def test_a_version_is_fetched_staged_and_run_once_the_node_is_idle(node: Node, tmp_path: Path) -> None:
    old = node.agent("1.0.0")
    old.heard(None, None)
    old.want(WANTED, idle=False)
    until(lambda: said(old) == ("1.1.0", "staged"), "it is staged")
    assert root_slots.Slots(node.root).version("a") == "1.0.0"
    assert "activate" not in node.asked
    old.want(WANTED, idle=True)
    until((tmp_path / "restarts").exists, "the agent is restarted")
    old.stop()
    assert root_slots.status(node.root)["trial"] == "1.1.0"
    new = node.agent("1.1.0")
    assert new.report() is None
    new.heard(None, WANTED)
    until(lambda: root_slots.status(node.root)["trial"] is None, "it is confirmed")
    new.stop()
    assert root_slots.status(node.root)["running"] == "1.1.0"
    assert not (node.state / "updates").exists()


def test_a_version_that_was_before_needs_no_fetching(node: Node, tmp_path: Path) -> None:
    slots = root_slots.Slots(node.root)
    slots.folder("b").mkdir()
    (slots.folder("b") / "VERSION").write_text("1.1.0\n")
    agent = node.agent("1.0.0")
    agent.want(WANTED, idle=True)
    until((tmp_path / "restarts").exists, "the agent is restarted")
    agent.stop()
    assert "stage" not in node.asked


def test_a_release_that_is_not_what_its_sums_say_fails_and_is_said_until_it_is_heard(node: Node) -> None:
    agent = node.agent("1.0.0")
    spoiled = UpdateSpec(version="1.2.0")
    agent.want(spoiled, idle=True)
    until(lambda: said(agent) == ("1.2.0", "failed"), "it failed")
    report = agent.report()
    assert report is not None
    assert "is not what its sums say" in report.error
    agent.heard(report, spoiled)  # the control plane has not drawn its conclusion yet
    assert agent.report() == report
    agent.heard(report, None)
    assert agent.report() is None
    agent.stop()


def test_a_version_that_went_back_is_told_after_the_restart_and_once(node: Node) -> None:
    slots = root_slots.Slots(node.root)
    slots.folder("b").mkdir()
    (slots.folder("b") / "VERSION").write_text("1.1.0\n")
    root_slots.activate(node.root, "1.1.0")
    trial = slots.trial
    assert trial is not None
    root_slots.roll_back(node.root, trial, "it did not report within 60 s")
    again = node.agent("1.0.0")
    failure = UpdateReport(version="1.1.0", state="failed", error="it did not report within 60 s")
    assert again.report() == failure
    again.want(
        WANTED, idle=True
    )  # as long as it is asked for, it is not tried again behind the operator's back
    again.heard(failure, None)
    again.stop()
    assert node.agent("1.0.0").report() is None
    assert root_slots.status(node.root)["running"] == "1.0.0"


def test_a_node_without_roots_part_cannot_be_updated(tmp_path: Path, node: Node) -> None:
    def nobody(verb: str, *, within_s: float = 1.0, **fields: Any) -> Any:
        raise NoRoot("nobody is there")

    assert not updatable(nobody)
    assert updatable(node.ask)
    agent = Updates(node.control, tmp_path, "1.0.0", lambda: None, nobody)
    assert agent.report() is None
