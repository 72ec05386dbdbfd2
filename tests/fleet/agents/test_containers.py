"""Commands in containers, by a real podman: the image's files, the attempt's folder, and the same rules as without."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.protocol import AttemptReport, DataFile, DataList, Outcome, blob_address
from tests import containers
from tests.fleet.agents.conftest import Node, _starter, gone, until
from tests.fleet.agents.far_end import FarEnd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node on which containers run, and that has one image."""
    environ = containers.image(tmp_path_factory.mktemp("images"))
    far_end = FarEnd().open()
    for start in _starter(tmp_path_factory.mktemp("node") / "state"):
        agent = start(far_end, TINYFLEET_CONTAINERS="on", TINYFLEET_JOB_NETWORK="1", **environ)
        yield Node(far_end, agent)
    far_end.close()


def ran(node: Node, *, timeout_s: float = 60.0, blobs: list[str] | None = None, **spec: Any) -> AttemptReport:
    """How a command in a container of the one image ended."""
    told = {"kind": "command", "container": containers.NAME, **spec}
    return node.far_end.wait_exit(node.far_end.submit(told, timeout_s=timeout_s, blobs=blobs or []))


def printed(node: Node, ended: AttemptReport, letter: str = "o") -> str:
    return node.far_end.stream(ended.attempt_id, letter).decode()


def test_the_node_offers_containers(node: Node) -> None:
    node.far_end.wait(lambda: node.far_end.observed, "the first word of the node")
    first = node.far_end.observed[0].inventory
    assert first is not None
    assert first.features == ["containers", "network"], node.agent.output.read_text()


def test_a_command_finds_the_images_files_and_its_own_folder(node: Node) -> None:
    content = b"1 2 3\n"
    node.far_end.blobs[blob_address(content)] = content
    script = """
    cat /etc/image-release input/numbers.txt
    echo $OF_IMAGE $GREETING; pwd; echo $HOME $TINYFLEET_ARTIFACTS
    echo to me >&2
    echo kept > artifacts/own.txt; mkdir out; echo too > out/b.txt; ln -s /etc/passwd out/link.txt
    ls /usr /home /root /work /var/lib 2>/dev/null
    exit 3
    """
    ended = ran(
        node,
        script=script,
        files=[{"path": "input/numbers.txt", "blob": blob_address(content)}],
        blobs=[blob_address(content)],
        env={"GREETING": "hello"},
        artifacts=["out/*.txt"],
    )
    assert ended.result == {"exit_status": 3, "signal": None}, (ended, printed(node, ended, "e"))
    lines = printed(node, ended).splitlines()
    work = lines[3]
    assert lines[:3] == ["of the image", "1 2 3", "yes hello"]
    assert lines[4] == f"{work} {work}/artifacts"
    assert printed(node, ended, "e") == "to me\n"
    assert sorted(ended.artifacts) == ["out/b.txt", "own.txt"]
    assert node.far_end.blobs[ended.artifacts["own.txt"]] == b"kept\n"


def test_the_walls_stand_inside_too(node: Node) -> None:
    script = """
    id -u
    touch /written 2>/dev/null && echo wrote to the image
    touch /etc/written 2>/dev/null && echo wrote to the image
    mount -t tmpfs none /tmp 2>/dev/null && echo mounted
    unshare -U true 2>/dev/null && echo made a namespace
    ls /sys/class/net
    grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
    touch /tmp/fine /var/tmp/fine /run/fine && echo temporary files
    """
    lines = printed(node, ran(node, script=script)).split("\n")
    assert lines[0] == "0"
    assert "lo" in lines
    said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert said == {
        "CapEff": "0000000000000000",
        "CapBnd": "0000000000000000",
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    assert "temporary files" in lines
    assert not [line for line in lines if line.startswith(("wrote", "made", "mounted"))]


def test_outside_it_is_the_attempts_own_user_in_its_own_group(node: Node) -> None:
    attempt = node.far_end.submit(
        {"kind": "command", "container": containers.NAME, "script": "echo up; exec sleep 600", "grace_s": 0.0}
    )
    node.far_end.wait(lambda: node.far_end.stream(attempt, "o") == b"up\n", "the container is up")
    traces = node.agent.attempt(attempt).traces
    found = [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _argv(pid) == ["sleep", "600"]
    ]
    assert found
    if traces.uid is not None:
        assert traces.uid in {os.stat(f"/proc/{pid}").st_uid for pid in found}
    node.far_end.withdraw(attempt)
    assert node.far_end.wait_exit(attempt).outcome is Outcome.CANCELLED
    assert all(map(gone, found))


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().strip("\0").split("\0")
    except OSError:
        return []


def test_its_network_is_none_unless_it_asks(node: Node) -> None:
    port = node.far_end.url.rpartition(":")[2]
    script = f"exec 2>&1; busybox wget -q -O - http://127.0.0.1:{port}/ || echo refused"
    assert "refused" in printed(node, ran(node, script=script))
    asked = printed(node, ran(node, script=script, network=True))
    assert "401" in asked, asked  # an answer of the far end, to whom nobody has shown a key


def test_variables_of_several_lines_and_secrets_arrive_and_no_log_shows_these(node: Node) -> None:
    value = "s3cr3t-canary\nin two lines"
    attempt = max(node.far_end.reports, default=0) + 1
    node.far_end.secrets[attempt] = {"TOKEN": value}
    spec = {
        "kind": "command",
        "container": containers.NAME,
        "script": 'echo "$TOKEN"; printf %s "$TOKEN" | wc -c; echo "$LINES_OF"; echo "$PLAIN"; echo $LD_PRELOAD',
        "secrets": {"TOKEN": "deploy"},
        "env": {"LINES_OF": "a\n  b", "PLAIN": " x = 'y' # \"z\" ", "LD_PRELOAD": "/nowhere.so"},
    }
    assert node.far_end.submit(spec) == attempt
    ended = node.far_end.wait_exit(attempt)
    assert ended.outcome is Outcome.SUCCEEDED, (ended, printed(node, ended, "e"))
    log = printed(node, ended)
    assert "s3cr3t" not in log
    assert f"{len(value)}\na\n  b\n x = 'y' # \"z\" \n/nowhere.so\n" in log


def test_a_variable_of_several_lines_that_podman_would_heed_is_refused_by_name(node: Node) -> None:
    ended = ran(node, argv=["true"], env={"LD_PRELOAD": "a\nb"})
    assert ended.outcome is Outcome.FAILED
    assert "LD_PRELOAD cannot have several lines" in ended.error


def test_data_sets_are_there_read_only(node: Node) -> None:
    content = b"one\n"
    listed = DataList(files=[DataFile(path="a.txt", size=4, parts=[blob_address(content)])]).text()
    node.far_end.blobs |= {blob_address(content): content, blob_address(listed): listed}
    script = "cat data/images/a.txt; echo x > data/images/a.txt"
    ended = ran(node, script=script, data={"images": blob_address(listed)})
    assert printed(node, ended) == "one\n", printed(node, ended, "e")
    assert "Read-only file system" in printed(node, ended, "e")


@pytest.mark.parametrize(
    ("argv", "status"), [(["no-such-program"], 127), (["/etc"], 126)], ids=["missing", "no program"]
)
def test_what_cannot_be_run_is_said_as_without_a_container(node: Node, argv: list[str], status: int) -> None:
    ended = ran(node, argv=argv)
    assert ended.outcome is Outcome.FAILED
    assert ended.result == {"exit_status": status, "signal": None}, printed(node, ended, "e")


def test_an_image_that_is_not_here_is_the_nodes_fault_and_says_what_to_do(node: Node) -> None:
    ended = ran(node, argv=["true"], container="localhost/nobody/nothing:2")
    assert ended.outcome is Outcome.INFRA_FAILED
    assert "image localhost/nobody/nothing:2 is not on this node" in ended.error
    assert "--pull-images" in ended.error


STUBBORN = """
trap '' TERM HUP
mkdir pids
for each in 1 2 3; do
  setsid sh -c 'trap "" TERM HUP; echo $0 > pids/$0; while :; do sleep 1; done' $each &
done
while :; do sleep 1; done
"""


@pytest.mark.real
def test_a_cancelled_tree_that_wants_to_stay_is_gone(node: Node) -> None:
    far_end, agent = node
    attempt = far_end.submit({"kind": "command", "container": containers.NAME, "script": STUBBORN})
    folder = agent.directory(attempt) / "work" / "pids"
    until(lambda: folder.exists() and len(list(folder.iterdir())) == 3)
    supervisor = agent.attempt(attempt).supervisor
    assert supervisor is not None
    tree = [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if _of(pid, agent.directory(attempt))
    ]
    assert len(tree) >= 4
    far_end.withdraw(attempt)
    assert far_end.wait_exit(attempt).outcome is Outcome.CANCELLED
    assert all(map(gone, tree))


def _of(pid: int, directory: Path) -> bool:
    """Whether a process belongs to an attempt, by where it works."""
    try:
        return os.readlink(f"/proc/{pid}/cwd").startswith(f"{directory}/work")
    except OSError:
        return False


def test_it_is_asked_to_end_once_and_may_clean_up_within_its_grace(node: Node) -> None:
    script = "n=0; trap 'n=$((n+1)); echo asked $n' TERM; sleep 600 & wait; sleep 1; echo saved > artifacts/it; exit 0"
    ended = ran(node, script=script, grace_s=20.0, timeout_s=3.0)
    assert ended.outcome is Outcome.TIMED_OUT
    assert printed(node, ended) == "asked 1\n"
    assert list(ended.artifacts) == ["it"]


def test_a_guest_is_in_its_hosts_container(node: Node) -> None:
    far_end = node.far_end
    host = far_end.submit(
        {
            "kind": "command",
            "container": containers.NAME,
            "script": "echo mine > own.txt; echo ready; while [ ! -e gate ]; do sleep 0.1; done",
        }
    )
    far_end.wait(lambda: far_end.stream(host, "o") == b"ready\n", "the host is ready")
    inside = {"inside": {"attempt_id": host, "fence": 1}, "container": None}
    guest = ran(node, script="cat own.txt /etc/image-release; echo $0 >&2; id -u; exit 4", **inside)
    assert guest.result == {"exit_status": 4, "signal": None}, (guest, printed(node, guest, "e"))
    assert printed(node, guest) == "mine\nof the image\n0\n"
    stays = far_end.submit({"kind": "command", "script": "echo here; exec sleep 600", **inside})
    far_end.wait(lambda: far_end.stream(stays, "o") == b"here\n", "a second guest is there")
    far_end.withdraw(stays)
    assert far_end.wait_exit(stays).outcome is Outcome.CANCELLED
    assert far_end.exit(host) is None
    ran(node, argv=["touch", "gate"], **inside)
    assert far_end.wait_exit(host).outcome is Outcome.SUCCEEDED


def test_an_image_is_unpacked_once_for_everybody_and_belongs_to_nobody_here(node: Node) -> None:
    ran(node, argv=["true"])
    (unpacked,) = (node.agent.state / "images").glob("[0-9a-f]*")
    before = unpacked.stat().st_ino
    ran(node, argv=["true"])
    assert [path.stat().st_ino for path in (node.agent.state / "images").glob("[0-9a-f]*")] == [before]
    modes = {path.lstat().st_mode & 0o7000 for path in unpacked.rglob("*") if not path.is_symlink()}
    assert modes == {0}


def test_binary_output_of_some_length_arrives_whole(node: Node) -> None:
    ended = ran(node, script="head -c 3000000 /dev/zero; echo end >&2")
    assert node.far_end.stream(ended.attempt_id, "o") == bytes(3_000_000)
    assert printed(node, ended, "e") == "end\n"
