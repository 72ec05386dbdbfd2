"""The operator's path on a real Debian with its own systemd: install, work, update, go back, remove."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet import releases
from fleet.client import Client
from infra import release
from tests import debian
from tests.parts import missing, need
from tests.releases import small_wheel
from tests.whole import ROOT, Fleet, gemm, running_fleet, until

pytestmark = [pytest.mark.slow, pytest.mark.real, pytest.mark.timeout(3000)]
PYTHON, MACHINE = "3.11", "x86_64"  # the Debian's
# An agent that starts and never reports.
SILENT = "import time\n\ndef main():\n    time.sleep(3600)\n"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real releases of this tree, 1.0.0 and 1.1.0, and 1.2.0, whose agent never reports."""
    need("ssh-keygen", install="openssh-client")
    work = tmp_path_factory.mktemp("shelf")
    key = work / "key"
    release.make_key(key)
    built = work / "dist" / "release"
    make = ["--python", PYTHON, "--machine", MACHINE, "--key", str(key), "--into", str(built)]
    if release.main([*make, "--version", "1.0.0"]):  # as `make release` does
        missing("no release can be built here: see above")
    needed = [path for path in (built / "1.0.0").glob("*.whl") if not path.name.startswith("tinyfleet-")]
    newer = release.build_wheel(work / "1.1.0", "1.1.0", 1_700_000_000)
    for wheel in (newer, small_wheel(work / "1.2.0", "1.2.0", SILENT)):
        number = wheel.name.split("-")[1]
        kinds = {f"cp{PYTHON.replace('.', '')}-{MACHINE}": [wheel, *needed]}
        release.assemble(built / number, number, kinds, key, 1_700_000_000)
    return work


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server on this machine's loopback, which is the Debian's too."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> Iterator[debian.Machine]:
    """A Debian that runs."""
    with debian.machine(tmp_path_factory.mktemp("box")) as running:
        yield running


PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
README = (ROOT / "README.md").read_text(encoding="utf-8")


def documented(beginning: str) -> str:
    """The one command of the page that begins so."""
    (found,) = [command for command in COMMANDS if command.startswith(beginning)]
    return found


def ran(fleet: Fleet, folder: Path, beginning: str) -> str:
    """A documented command of the control plane's machine, beside the running server."""
    words = shlex.split(documented(beginning))
    assert words[0] == "tinyfleet"
    environ = {"TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "fleet.command", *words[1:]],
        cwd=folder,
        env={**os.environ, **environ, "TINYFLEET_DATA": str(fleet.folder / "data")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def on_node(fleet: Fleet, beginning: str) -> str:
    """A documented command of the node, where root is: the server's address is this one's."""
    return documented(beginning).replace("https://fleet.lab.internal:8000", fleet.url).replace("sudo ", "")


def version(client: Client) -> tuple[str, str]:
    """What the box runs, and its part in the rollout."""
    (node,) = client.updates().nodes
    return node.version, node.state


def test_the_operators_path(fleet: Fleet, box: debian.Machine, shelf: Path) -> None:
    assert documented("make ") == "make release VERSION=1.0.0"
    block = re.search(r"## A box in the fleet\n.*?```text\n(.*?)\n```", README, re.DOTALL)
    assert block is not None
    assert block[1] == documented("curl")
    ran(fleet, shelf, "tinyfleet release add dist/release/1.0.0")
    ran(fleet, shelf, "tinyfleet join-token create")
    shutil.copy2(shelf / "join-token", box.root / "root" / "join-token")
    install = f"cd /root && {on_node(fleet, 'curl')}"
    with fleet.client() as client:
        _install(box, fleet, client, install)
        _work(fleet, client)
        _again(box, client, install)
        _update(box, fleet, client, shelf)
        _work(fleet, client)
        _go_back(box, fleet, client, shelf)
        _refuse_the_past(box, fleet)
        _remove(box, fleet, shelf)


def _install(box: debian.Machine, fleet: Fleet, client: Client, install: str) -> None:
    """One command to a node in the fleet."""
    said = box.run(f"{install} -s -- --name box1")
    assert "installed 1.0.0" in said
    assert token_of(box) not in said
    soon(box, lambda: fleet.node("box1", contact="online"), "the box joins")
    assert version(client) == ("1.0.0", "")
    pid = int(box.show("tinyfleet-agent", "MainPID"))
    status = box.run(f"cat /proc/{pid}/status")
    user = int(box.run("id -u tinyfleet"))
    assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
    assert box.run("stat -c '%a %U' /run/tinyfleet-root/socket").split() == ["700", "tinyfleet"]
    assert token_of(box) not in box.run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '; journalctl --no-pager")
    assert box.run("systemctl is-enabled tinyfleet-agent tinyfleet-root").split() == ["enabled", "enabled"]


def token_of(box: debian.Machine) -> str:
    return (box.root / "root" / "join-token").read_text().strip()


def soon(box: debian.Machine, condition: Callable[[], object], what: str, within_s: float = 240.0) -> None:
    """Wait for something that the box brings about; when it does not, its journal says why."""
    try:
        until(condition, what, within_s)
    except AssertionError:
        units = "-u tinyfleet-agent -u tinyfleet-root"
        print(box.run(f"journalctl --no-pager -n 80 {units}; ps aux 2>/dev/null", check=False))
        raise


def _work(fleet: Fleet, client: Client) -> None:
    """A job in a box without a C compiler, inside its walls."""
    job = client.submit_job({"kind": "kernel", "kernel": gemm(64), "compare": ["numpy"], "time_s": 0.1})
    done = fleet.wait_job(job.id, "succeeded", "failed", within_s=90.0)
    assert done.state == "succeeded", done.error
    node = fleet.node("box1")
    assert node is not None
    print({wall.name: wall.state for wall in node.walls})
    assert {wall.name for wall in node.walls if wall.state in ("up", "partial")} >= {
        "landlock",
        "seccomp",
        "rights",
        "limits",
        "namespaces",
        "bubblewrap",
    }
    inside = client.submit_job({"kind": "command", "script": "readlink /proc/1/exe; ls /srv"})
    done = fleet.wait_job(inside.id, "succeeded", "failed", within_s=90.0)
    assert done.result == {"exit_status": 2, "signal": None}, done.error  # there is no /srv in it


def _again(box: debian.Machine, client: Client, install: str) -> None:
    """The same command again changes nothing, and restarts nothing."""
    before = box.show("tinyfleet-agent", "MainPID")
    assert "nothing to change" in box.run(install)
    assert box.show("tinyfleet-agent", "MainPID") == before


def _update(box: debian.Machine, fleet: Fleet, client: Client, shelf: Path) -> None:
    """The control plane names a version; the node has it soon, and keeps the one before."""
    ran(fleet, shelf, "tinyfleet release add dist/release/1.1.0")
    ran(fleet, shelf, "tinyfleet updates set")
    ran(fleet, shelf, "tinyfleet updates pause")
    assert "lunch" in ran(fleet, shelf, "tinyfleet updates status")
    ran(fleet, shelf, "tinyfleet updates resume")
    soon(box, lambda: version(client) == ("1.1.0", "updated"), "the update")
    status = "python3 -I /opt/tinyfleet/root/tinyfleet-root.pyz status"
    soon(box, lambda: '"trial": null' in box.run(status), "the version is confirmed")
    assert '"running": "1.1.0"' in box.run(status)
    assert '"other": "1.0.0"' in box.run(status)
    until(lambda: client.updates().stage == "rest", "the canary has shown enough")


def _go_back(box: debian.Machine, fleet: Fleet, client: Client, shelf: Path) -> None:
    """A version whose agent never reports is gone after a minute, and nobody else is asked."""
    releases.add(shelf / "dist" / "release" / "1.2.0", fleet.folder / "data" / "releases")
    client.set_updates("1.2.0", canary=["box1"])
    ran(fleet, shelf, "tinyfleet updates promote")
    soon(box, lambda: version(client) == ("1.1.0", "failed"), "the node goes back")
    until(lambda: client.updates().paused, "the rollout is paused")
    assert "did not report within 60 s" in client.updates().reason
    until(lambda: fleet.node("box1", contact="online"), "the node is back")


def _refuse_the_past(box: debian.Machine, fleet: Fleet) -> None:
    """An older version is not installed over a newer one."""
    offered = f"curl -fsSL {fleet.url}/install.sh | sh -s -- --version 1.0.0"
    said = box.run(offered, check=False)
    assert "a downgrade is refused" in said
    assert box.show("tinyfleet-agent", "ActiveState") == "active"


def commands(box: debian.Machine) -> str:
    """What runs in the box, by its command lines."""
    return box.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '", check=False)


def _remove(box: debian.Machine, fleet: Fleet, shelf: Path) -> None:
    """Uninstalled, nothing of it runs and its identity stays: installed again from a folder, it is the same node.
    Purged, nothing is left."""
    user = box.run("id -u tinyfleet").strip()
    with fleet.client() as client:
        job = client.submit_job({"kind": "command", "argv": ["sleep", "3600"]})
    until(lambda: "sleep 3600" in commands(box), "an attempt runs")
    box.run(f"curl -fsSL {fleet.url}/install.sh | sh -s -- --uninstall")
    assert box.run(f"grep -sl '^Uid:.{user}' /proc/[0-9]*/status", check=False).strip() == ""
    assert "sleep 3600" not in commands(box)
    with fleet.client() as client:
        client.cancel_job(job.id)
    assert (box.root / "var/lib/tinyfleet/identity.json").exists()
    until(lambda: not fleet.node("box1", contact="online"), "the node is gone")
    shutil.copytree(shelf / "dist" / "release" / "1.1.0", box.root / "root" / "usb")
    box.run(f"sh /root/usb/install.sh --offline /root/usb --server {fleet.url} --name box1")
    soon(box, lambda: fleet.node("box1", contact="online"), "the node is back")
    box.run(f"curl -fsSL {fleet.url}/install.sh | sh -s -- --uninstall --purge && rm -r /root/usb")
    left = box.run(
        "find / -xdev -iname '*tinyfleet*' -not -path '/proc/*'; getent passwd tinyfleet", check=False
    )
    assert left.strip() == ""
