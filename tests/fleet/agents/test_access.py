"""The agent's side of logins: what it is told goes to the root part, how it stands goes back, once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from fleet.agents.access import AccessKeeper, Beside, keeper
from fleet.agents.access_spec import AccessGrant, AccessReport, AccessSpec
from fleet.agents.root import VERBS, Server
from fleet.agents.root_access import VERBS as LOGIN_VERBS
from fleet.agents.root_logins import FIRST_UID, Logins
from fleet.agents.root_verbs import Refusal, Root
from tests import sshd
from tests.sshkeys import public_key
from tests.whole import ROOT, until

GRANT = AccessGrant(grant_id=1, account="tf-alice", uid=FIRST_UID, key=public_key(1).line, until=4e9)


class Rendering:
    """A root part that remembers what it was asked, and does it."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, AccessSpec]] = []
        self.now = AccessReport()

    def apply(self, spec: AccessSpec, generation: int = 0) -> AccessReport:
        self.asked.append((generation, spec))
        self.now = AccessReport(generation=generation, grants=[grant.grant_id for grant in spec.grants])
        return self.now

    def look(self) -> AccessReport:
        return self.now


def test_what_is_wanted_is_rendered_once_and_told() -> None:
    root, told = Rendering(), threading.Event()
    kept = AccessKeeper(root, told.set)
    kept.start()
    try:
        kept.want(3, AccessSpec(grants=[GRANT]))
        until(lambda: (found := kept.report()) is not None and found.grants == [1], "it is in force", 5)
        assert told.is_set()
        kept.want(2, AccessSpec())  # an older word
        kept.want(4, AccessSpec(grants=[GRANT]))  # nothing new but the number
        until(lambda: kept.report().generation == 4, "the number is told", 5)
        kept.want(5, None)
        kept.want(6, AccessSpec())
        until(lambda: kept.report().generation == 6, "the last word", 5)
        assert [generation for generation, _ in root.asked] == [3, 6]
    finally:
        kept.stop()


def test_logins_are_looked_after_only_where_it_is_meant() -> None:
    assert keeper({}, lambda: None) is None
    assert keeper({"TINYFLEET_SSH": "off"}, lambda: None) is None


BAD = {
    "no prefix": {"account": "root"},
    "another's uid": {"uid": 0},
    "out of the range": {"uid": 1000},
    "a path": {"account": "tf-../../root"},
    "a line break": {"account": "tf-a\nroot"},
    "options": {"key": f'command="id" {public_key(1).line}'},
    "a second line": {"key": f"{public_key(1).line}\nssh-ed25519 AAAA"},
    "no end": {"until": float("nan")},
    "more": {"shell": "/bin/sh"},
}


@pytest.mark.parametrize("wrong", BAD.values(), ids=BAD.keys())
def test_the_root_part_checks_everything_again(wrong: dict[str, object]) -> None:
    given = {**GRANT.model_dump(), **wrong}
    with pytest.raises(Refusal):
        Logins.of({"grants": [given]})


def test_the_root_part_takes_what_the_wire_takes() -> None:
    spec = AccessSpec(grants=[GRANT], user_ca=public_key(2).line, revoked="AAAA")
    assert Logins.of(spec.model_dump()).document()["grants"][0] == GRANT.model_dump()


def test_roots_part_loads_nothing_but_the_standard_library() -> None:
    """It runs on the system's Python, from one file."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fleet.agents.root_access\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, str(ROOT)], capture_output=True, text=True, check=True
    )
    assert not {"pydantic", "httpx", "cryptography"} & set(done.stdout.split())


@pytest.mark.slow
def test_an_agent_that_is_not_root_lets_people_in_by_roots_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way over the socket, as another user, with a real sshd behind it."""
    with sshd.opened() as box, tempfile.TemporaryDirectory(dir="/run") as folder:
        for name, value in box.environ.items():
            monkeypatch.setenv(name, value)
        key = box.key("alice")
        grant = box.grant("alice", key)
        Path(folder).chmod(0o755)
        server = Server(Root(agent=65534), Path(folder) / "root" / "socket", LOGIN_VERBS)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            asks = (
                "import json, os, sys; os.setgid(65534); os.setuid(65534)\n"
                "from fleet.agents.access import Beside; from fleet.agents.access_spec import AccessSpec\n"
                "from pathlib import Path\n"
                "spec = AccessSpec.model_validate_json(sys.argv[2])\n"
                "print(Beside(Path(sys.argv[1])).apply(spec, 5).model_dump_json())"
            )
            spec = AccessSpec(grants=[AccessGrant.model_validate(vars(grant))]).model_dump_json()
            socket = str(Path(folder) / "root" / "socket")
            command = [sys.executable, "-c", asks, socket, spec]
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            if subprocess.run(
                [sys.executable, "-c", "import os; os.setuid(65534); import pydantic"], env=environ
            ).returncode:
                done = Beside(Path(socket)).apply(AccessSpec.model_validate_json(spec), 5)
            else:
                ran = subprocess.run(command, capture_output=True, text=True, env=environ)
                assert ran.returncode == 0, ran.stderr
                done = AccessReport.model_validate_json(ran.stdout)
            assert (done.generation, done.grants, done.problem) == (5, [1], "")
            assert box.logs_in(grant.account, key)
            assert Beside(Path(socket)).apply(AccessSpec(), 6).grants == []
            assert not box.logs_in(grant.account, key)
            assert set(LOGIN_VERBS) <= set(VERBS)
        finally:
            server.stop()
            thread.join(10.0)
