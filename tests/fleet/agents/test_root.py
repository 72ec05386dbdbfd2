"""Root's part of a node: its socket, its closed list of verbs, and the two slots, all on a machine of a folder's size."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.agents import root as root_part
from fleet.agents import root_slots, rooted
from fleet.agents.root import VERBS, Server
from fleet.agents.root_verbs import Refusal, Root, Verb, order, version
from fleet.agents.rooted import NoRoot, ask
from infra.release import archive_root_part, make_key
from tests import releases
from tests.parts import need
from tests.whole import until

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _ssh_keygen() -> None:
    need("ssh-keygen", install="openssh-client")


@pytest.fixture
def machine(tmp_path: Path) -> Root:
    """A machine whose agent is this user's, and whose restarts are lines in a file."""
    folder = tmp_path / "machine"
    folder.mkdir()
    restart = (sys.executable, "-c", f"open({str(tmp_path / 'restarts')!r}, 'a').write('restart\\n')")
    return Root(folder, restart, os.getuid(), 60.0)


@contextmanager
def serving(root: Root, **options: object) -> Iterator[Path]:
    """Root's part answers at this path."""
    path = root.at("/run/socket")
    server = Server(root, path, **options)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield path
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases 1.0.0 and 1.1.0, and the key that signed them."""
    need("ssh-keygen", install="openssh-client")
    folder = tmp_path_factory.mktemp("releases")
    for number in ("1.0.0", "1.1.0"):
        releases.small_release(folder, number, folder / "key")
    return folder


@pytest.fixture
def installed(machine: Root, made: Path) -> Root:
    """The machine with 1.0.0 running and 1.1.0 fetched by its agent."""
    releases.signers(machine.at(root_slots.SIGNERS), made / "key")
    root_slots.activate(machine, root_slots.stage(machine, made / "1.0.0"), restart=False)
    releases.copied(made / "1.1.0", machine.at(root_slots.UPDATES) / "1.1.0")
    return machine


def says(root: Root) -> str:
    """What the command of the running slot prints."""
    program = root.at(root_slots.HOME) / "current" / "bin" / "tinyfleet"
    return subprocess.run([program, "agent"], capture_output=True, text=True, check=True).stdout.strip()


# ------------------------------------------------------------------------------------------- the socket


def test_the_socket_is_its_owners_alone(machine: Root) -> None:
    with serving(machine) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert path.stat().st_uid == machine.agent
    assert not path.exists()


def test_a_process_of_another_user_is_refused_though_the_socket_is_open(machine: Root) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    asks = (
        "import os, socket, sys; os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "print(s.recv(999).decode())"
    )
    with tempfile.TemporaryDirectory() as name, serving(Root(Path(name), (), 12345)) as path:
        for place in (path, path.parent, Path(name)):
            place.chmod(0o777)
        done = subprocess.run([sys.executable, "-c", asks, path], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout) == {"refused": "user 65534 is not the agent's, 12345"}


def test_where_nobody_listens_the_agent_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoRoot, match="does not answer"):
        ask("slots", path=tmp_path / "socket")


@pytest.mark.parametrize(
    ("request_line", "why"),
    [
        (b"nonsense\n", "one line of JSON"),
        (b"[]\n", "is an object"),
        (b'{"verb": "sh", "command": "id"}\n', "there is no verb 'sh'"),
        (b'{"verb": ["slots"]}\n', "there is no verb"),
        (b'{"verb": "slots", "path": "/"}\n', "takes no field 'path'"),
        (b'{"verb": "stage"}\n', "needs the field 'version'"),
        (b'{"verb": "stage", "version": "../../etc"}\n', "give a version such as"),
        (b'{"verb": "stage", "version": 1}\n', "give a version such as"),
        (b'{"verb": "slots"}', "ended before its line did"),
    ],
)
def test_what_is_not_on_the_list_is_refused(machine: Root, request_line: bytes, why: str) -> None:
    with serving(machine) as path, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        answer = json.loads(connection.makefile().readline())
    assert why in answer["refused"]


def test_the_list_of_verbs_is_this_one() -> None:
    """A verb more is more that whoever has the agent can do as root: say so here."""
    assert set(VERBS) == {
        "slots",
        "stage",
        "activate",
        "confirm",
        "restart",
        "access.apply",
        "access.look",
        "gpu.reset",
    }


def test_a_verb_of_another_line_does_not_wait(machine: Root) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(*_: object) -> dict[str, object]:
        begun.set()
        assert go.wait(20)
        return {}

    verbs = {"slow": Verb(slow, "one"), "quick": Verb(lambda *_: {"it": "did"}, "other")}
    with serving(machine, verbs=verbs, todo=[]) as path:
        waiting = threading.Thread(target=ask, args=("slow",), kwargs={"path": path})
        waiting.start()
        assert begun.wait(20)
        assert ask("quick", path=path) == {"it": "did"}
        go.set()
        waiting.join(20)


def test_a_verb_that_fails_is_told_and_the_next_one_is_answered(machine: Root) -> None:
    def broken(*_: object) -> dict[str, object]:
        raise ZeroDivisionError("by nothing")

    with serving(machine, verbs={**VERBS, "broken": Verb(broken, "x")}) as path:
        with pytest.raises(Refusal, match="by nothing"):
            ask("broken", path=path)
        assert ask("slots", path=path)["running"] is None


def test_roots_part_is_one_file_that_needs_python_alone(tmp_path: Path) -> None:
    archive_root_part(tmp_path / "root.pyz", 0)
    command = [sys.executable, "-I", "-S", str(tmp_path / "root.pyz"), "--root", str(tmp_path), "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(done.stdout)["running"] is None


# -------------------------------------------------------------------------------------------- versions


def test_versions_are_ordered_as_people_mean_them() -> None:
    rising = ["0.9", "1.2", "1.3.0a1", "1.3.0b2", "1.3.0rc1", "1.3", "1.10.0", "2.0"]
    falling = rising[::-1]
    assert sorted(falling, key=order) == rising
    assert order("1.2") == order("1.2.0")


@pytest.mark.parametrize(
    "text", ["", "1", "v1.2", "1.2-3", "1.2.3.4.5", "1..2", "1.2\n", "../1.2", None, 1.2]
)
def test_what_is_no_version_is_refused(text: object) -> None:
    with pytest.raises(Refusal):
        version(text)


# ------------------------------------------------------------------------------------------- the slots


@pytest.mark.slow
def test_a_new_version_that_reports_stays(installed: Root, tmp_path: Path) -> None:
    assert says(installed) == "1.0.0 agent"
    with serving(installed) as path:
        assert ask("stage", path=path, within_s=300.0, version="1.1.0")["other"] == "1.1.0"
        assert says(installed) == "1.0.0 agent"
        assert ask("activate", path=path, version="1.1.0")["trial"] == "1.1.0"
        assert says(installed) == "1.1.0 agent"
        found = ask("confirm", path=path, version="1.1.0")
    assert (found["running"], found["other"], found["trial"], found["failed"]) == (
        "1.1.0",
        "1.0.0",
        None,
        None,
    )
    assert (tmp_path / "restarts").read_text() == "restart\n"


@pytest.fixture
def planted(machine: Root) -> Root:
    """The machine with 1.0.0 running, and 1.1.0 in the other slot."""
    slots = root_slots.Slots(machine)
    for slot, number in (("a", "1.0.0"), ("b", "1.1.0")):
        slots.folder(slot).mkdir(parents=True)
        (slots.folder(slot) / "VERSION").write_text(f"{number}\n")
    slots.switch("a")
    return machine


def test_a_new_version_that_does_not_report_goes_and_the_old_one_runs_again(
    planted: Root, tmp_path: Path
) -> None:
    with serving(replace(planted, trial_s=0.2)) as path:
        ask("activate", path=path, version="1.1.0")
        until(lambda: ask("slots", path=path)["trial"] is None, "the trial ends")
        found = ask("slots", path=path)
        until(lambda: (tmp_path / "restarts").read_text() == "restart\nrestart\n", "both restarts")
    assert (found["running"], found["other"]) == ("1.0.0", "1.1.0")
    failed = found["failed"]
    assert (failed["version"], failed["why"]) == ("1.1.0", "it did not report within 0.2 s")
    assert failed["at"] > 0


def test_a_trial_goes_on_when_roots_part_is_killed_in_it(planted: Root) -> None:
    root_slots.activate(planted, "1.1.0")
    with serving(replace(planted, trial_s=0.1)) as path:
        until(lambda: ask("slots", path=path)["running"] == "1.0.0", "it returns")


def test_a_slot_that_is_not_whole_cannot_run(planted: Root) -> None:
    (root_slots.Slots(planted).folder("b") / "VERSION").unlink()
    with pytest.raises(Refusal, match="in no slot"):
        root_slots.activate(planted, "1.1.0")


def test_the_version_that_ran_before_can_be_had_again_and_an_older_one_cannot(
    planted: Root, made: Path
) -> None:
    releases.signers(planted.at(root_slots.SIGNERS), made / "key")
    root_slots.activate(planted, "1.1.0")
    with pytest.raises(Refusal, match="is on trial"):
        root_slots.activate(planted, "1.0.0")
    root_slots.confirm(planted, "1.1.0")
    with pytest.raises(Refusal, match="a downgrade is refused"):
        root_slots.stage(planted, made / "1.0.0")
    with pytest.raises(Refusal, match=r"0\.9\.0 is in no slot"):
        root_slots.activate(planted, "0.9.0")
    assert root_slots.activate(planted, "1.0.0")["running"] == "1.0.0"


def test_only_the_version_on_trial_can_confirm_it(planted: Root) -> None:
    root_slots.activate(planted, "1.1.0")
    with pytest.raises(Refusal, match=r"1\.1\.0 is on trial, not 1\.0\.0"):
        root_slots.confirm(planted, "1.0.0")


def test_a_release_of_another_version_than_was_asked_for_is_refused(planted: Root, made: Path) -> None:
    releases.signers(planted.at(root_slots.SIGNERS), made / "key")
    releases.copied(made / "1.0.0", planted.at(root_slots.UPDATES) / "1.1.0")
    with serving(planted) as path, pytest.raises(Refusal, match=r"the release is 1\.0\.0, not 1\.1\.0"):
        ask("stage", path=path, version="1.1.0")


# ------------------------------------------------------------------------------- what is not believed


def _larger(folder: Path) -> None:
    (wheel,) = folder.glob("tinyfleet-*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"x")


def _link(folder: Path) -> None:
    (wheel,) = folder.glob("tinyfleet-*.whl")
    wheel.unlink()
    wheel.symlink_to("/etc/passwd")


def _pipe(folder: Path) -> None:
    (folder / "VERSION").unlink()
    os.mkfifo(folder / "VERSION")


def _swapped(folder: Path) -> None:
    (folder / "VERSION").write_text("9.9.9\n")


def _unsigned(folder: Path) -> None:
    (folder / "SHA256SUMS").write_text((folder / "SHA256SUMS").read_text() + f"{'0' * 64}  extra\n")


def _stranger(folder: Path) -> None:
    make_key(folder.parent / "stranger")
    releases.resign(folder, folder.parent / "stranger")


@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (_larger, "is not what SHA256SUMS vouches for"),
        (_link, "cannot be copied"),
        (_pipe, "is no plain file"),
        (_swapped, "is not what SHA256SUMS vouches for"),
        (_unsigned, "the signature of SHA256SUMS is not good"),
        (_stranger, "the signature of SHA256SUMS is not good"),
    ],
)
def test_a_release_that_was_tampered_with_is_not_installed(
    machine: Root, made: Path, tmp_path: Path, tamper: Callable[[Path], None], why: str
) -> None:
    releases.signers(machine.at(root_slots.SIGNERS), made / "key")
    folder = releases.copied(made / "1.1.0", tmp_path / "tampered")
    tamper(folder)
    with pytest.raises(Refusal, match=why):
        root_slots.stage(machine, folder)
    home = machine.at(root_slots.HOME)
    assert [path.name for path in home.iterdir()] == []


def test_a_signature_for_another_purpose_counts_for_nothing(
    machine: Root, made: Path, tmp_path: Path
) -> None:
    releases.signers(machine.at(root_slots.SIGNERS), made / "key")
    folder = releases.copied(made / "1.1.0", tmp_path / "other")
    (folder / "SHA256SUMS.sig").unlink()
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", made / "key", "-n", "git", folder / "SHA256SUMS"]
    subprocess.run(sign, check=True, capture_output=True)
    with pytest.raises(Refusal, match="is not good"):
        root_slots.stage(machine, folder)


def test_a_machine_that_knows_no_signer_installs_nothing(machine: Root, made: Path) -> None:
    with pytest.raises(Refusal, match="run the installer again"):
        root_slots.stage(machine, made / "1.1.0")


def test_the_command_line_says_why_it_refuses(made: Path, machine: Root) -> None:
    command = [sys.executable, "-m", "fleet.agents.root", "--root", machine.folder, "install", "--from", made]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert str(rooted.SOCKET) == root_part.SOCKET
