"""Commands run by a whole agent, in its walls: what they read, print, leave behind, and how they are ended."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.attempts import Limits
from fleet.agents.protocol import AttemptReport, DataFile, DataList, Outcome, blob_address
from tests.fleet.agents.conftest import Node, Start, gone, seen_from_here, until
from tests.fleet.agents.far_end import FarEnd

pytestmark = pytest.mark.slow

# A tree that does what it can to stay: daemons by double fork in sessions of their own, all deaf to SIGTERM.
STUBBORN = """#!/usr/bin/env python3
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
def linger(name):
    open(f"pids/{name}-{os.getpid()}", "w").close()
    while True:
        time.sleep(60)
os.mkdir("pids")
for name in ("daemon", "other"):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid() if name == "other" else None
            linger(name)
        os._exit(0)
if os.fork() == 0:
    linger("child")
linger("parent")
"""


def ran(node: Node, *, blobs: list[str] | None = None, **spec: Any) -> AttemptReport:
    """How a command ended."""
    attempt = node.far_end.submit({"kind": "command", **spec}, blobs=blobs or [])
    return node.far_end.wait_exit(attempt)


def printed(node: Node, ended: AttemptReport, letter: str = "o") -> str:
    return node.far_end.stream(ended.attempt_id, letter).decode()


def test_a_command_succeeds_with_status_0_and_its_streams_stay_apart(node: Node) -> None:
    ended = ran(node, argv=["/bin/sh", "-c", "echo to you; echo to me >&2; echo again"])
    assert ended.outcome is Outcome.SUCCEEDED
    assert ended.result == {"exit_status": 0, "signal": None}
    assert printed(node, ended) == "to you\nagain\n"
    assert printed(node, ended, "e") == "to me\n"


def test_a_command_may_open_its_streams_by_name(node: Node) -> None:
    ended = ran(node, script="echo to you > /dev/stdout; echo to me > /dev/stderr; cat < /dev/stdin")
    assert (printed(node, ended), printed(node, ended, "e")) == ("to you\n", "to me\n")
    assert ended.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("argv", "result", "error"),
    [
        (["sh", "-c", "exit 7"], {"exit_status": 7, "signal": None}, "ended with exit status 7"),
        (["sh", "-c", "kill -SEGV $$"], {"exit_status": None, "signal": "SIGSEGV"}, "killed by SIGSEGV"),
        (["no-such-program"], {"exit_status": 127, "signal": None}, "No such file or directory"),
        (["/usr"], {"exit_status": 126, "signal": None}, "Permission denied"),
    ],
    ids=["status", "signal", "missing", "no program"],
)
def test_a_command_that_fails_says_how(
    node: Node, argv: list[str], result: dict[str, Any], error: str
) -> None:
    ended = ran(node, argv=argv)
    assert ended.outcome is Outcome.FAILED
    assert ended.result == result
    assert error in ended.error


def test_a_script_is_the_shells_or_its_interpreters(node: Node) -> None:
    assert printed(node, ran(node, script="echo $((6 * 7))")) == "42\n"
    assert printed(node, ran(node, script="#!/usr/bin/env python3\nprint(6 * 7)")) == "42\n"


def test_files_and_variables_are_there_and_nothing_of_the_agents(node: Node) -> None:
    tool, data = b"#!/bin/sh\ncat input/numbers.txt\n", b"1 2 3\n"
    blobs = [blob_address(tool), blob_address(data)]
    node.far_end.blobs |= {blob_address(content): content for content in (tool, data)}
    files = [
        {"path": "bin/tool", "blob": blobs[0], "executable": True},
        {"path": "input/numbers.txt", "blob": blobs[1]},
    ]
    ended = ran(
        node,
        argv=["sh", "-c", "bin/tool; pwd; env"],
        files=files,
        blobs=blobs,
        env={"GREETING": "hello world", "PATH": "/usr/bin:/bin"},
    )
    lines = printed(node, ended).splitlines()
    assert lines[0] == "1 2 3"
    said = dict(line.split("=", 1) for line in lines[2:])
    assert said["GREETING"] == "hello world"
    assert said["PATH"] == "/usr/bin:/bin"
    assert said["TINYFLEET_JOB_ID"] == str(ended.attempt_id)
    assert said["HOME"] == lines[1]
    allowed = {"PATH", "LANG", "HOME", "TMPDIR", "XDG_CACHE_HOME", "GREETING", "PWD", "OLDPWD", "SHLVL", "_"}
    assert {name for name in said if not name.startswith("TINYFLEET_")} <= allowed
    assert "TINYFLEET_JOIN_TOKEN" not in said


def test_artifacts_are_named_by_patterns_and_kept_though_the_command_failed(node: Node) -> None:
    script = """
    mkdir -p out/deep/er other
    echo 1 > out/a.png; echo 2 > out/deep/er/b.png; echo 3 > out/c.txt; echo 4 > other/d.png
    echo 5 > artifacts/own.json
    ln -s /etc/hostname out/link.png
    exit 3
    """
    ended = ran(node, script=script, artifacts=["out/**/*.png", "*.log"])
    assert ended.outcome is Outcome.FAILED
    assert sorted(ended.artifacts) == ["out/a.png", "out/deep/er/b.png", "own.json"]
    assert node.far_end.blobs[ended.artifacts["out/deep/er/b.png"]] == b"2\n"
    notes = printed(node, ended, "s")
    assert "artifact 'out/link.png' is not kept: not a plain file" in notes
    assert "no artifact matches '*.log'" in notes


def test_a_log_over_its_quota_keeps_its_last_words(node: Node) -> None:
    script = "head -c 9000000 /dev/zero | tr '\\0' x; echo; echo the reason; echo why >&2; kill -ABRT $$"
    ended = ran(node, script=script)
    assert ended.result == {"exit_status": None, "signal": "SIGABRT"}
    notes = printed(node, ended, "s")
    assert f"output cut here: over the limit of {Limits.log_bytes} bytes" in notes
    assert "bytes of output were dropped" in notes
    head, _, tail = printed(node, ended).partition("\n[tinyfleet: ")
    assert head == "x" * Limits.log_bytes
    missing, _, tail = tail.partition(" bytes of stdout are missing here]\n")
    assert tail.endswith("x\nthe reason\n")
    assert len(head) + int(missing) + len(tail) == 9_000_000 + len("\nthe reason\n")
    assert printed(node, ended, "e") == "why\n"


@pytest.mark.real
def test_a_cancelled_tree_that_wants_to_stay_is_gone_within_two_seconds(node: Node) -> None:
    far_end, agent = node
    attempt = far_end.submit({"kind": "command", "script": STUBBORN})
    folder = agent.directory(attempt) / "work" / "pids"
    until(lambda: folder.exists() and len(list(folder.iterdir())) == 4)
    pids = seen_from_here(folder)
    assert not any(map(gone, pids))
    asked = time.monotonic()
    far_end.withdraw(attempt)
    assert far_end.wait_exit(attempt).outcome is Outcome.CANCELLED
    assert time.monotonic() - asked < 2.0
    assert all(map(gone, pids))


@pytest.mark.real
def test_a_command_over_its_timeout_may_clean_up_within_its_grace(node: Node) -> None:
    script = "trap 'echo saved; echo yes > artifacts/checkpoint; exit 0' TERM; sleep 600 & wait"
    attempt = node.far_end.submit({"kind": "command", "script": script, "grace_s": 20.0}, timeout_s=1.0)
    ended = node.far_end.wait_exit(attempt)
    assert ended.outcome is Outcome.TIMED_OUT
    assert 1.0 <= ended.elapsed_s < 10
    assert printed(node, ended) == "saved\n"
    assert list(ended.artifacts) == ["checkpoint"]
    assert "not finished after its timeout of 1 s" in printed(node, ended, "s")


def test_what_the_kernel_says_of_a_fault_is_attached(node: Node, tmp_path: Path) -> None:
    if not os.access("/dev/kmsg", os.R_OK):
        pytest.skip("/dev/kmsg cannot be read here")
    fault = "import ctypes; ctypes.string_at(8)"
    ended = ran(node, argv=["python3", "-c", fault])
    assert ended.result == {"exit_status": None, "signal": "SIGSEGV"}
    if Path("/proc/sys/debug/exception-trace").read_text().strip() == "1":
        assert "kernel: python3[" in ended.error
        assert "segfault at 8" in printed(node, ended, "s")


def test_secrets_are_variables_that_its_log_does_not_show_and_no_file_holds(node: Node) -> None:
    far_end, agent = node
    value = "s3cr3t-canary/with=signs"
    script = 'echo before $TOKEN after; printf %s $TOKEN | cut -c1-8; printf s3cr; sleep 0.3; echo 3t-canary/with=signs >&1; grep -rlaF "$TOKEN" .; printenv TOKEN | wc -c'
    attempt = max(far_end.reports, default=0) + 1
    far_end.secrets[attempt] = {"TOKEN": value}
    assert far_end.submit({"kind": "command", "script": script, "secrets": {"TOKEN": "deploy"}}) == attempt
    ended = far_end.wait_exit(attempt)
    assert ended.outcome is Outcome.SUCCEEDED
    log = far_end.stream(attempt, "o").decode()
    assert log == f"before [secret] after\ns3cr3t-c\n[secret]\n{len(value) + 1}\n"
    written = [
        path for path in agent.state.rglob("*") if path.is_file() and value.encode() in path.read_bytes()
    ]
    assert written == []
    assert value not in agent.output.read_text()


def test_a_secret_that_is_gone_fails_the_command_by_name(node: Node) -> None:
    ended = ran(node, argv=["true"], secrets={"TOKEN": "deploy"})
    assert ended.outcome is Outcome.FAILED
    assert ended.error.startswith("secrets: GET /v1/agents/attempts/")


# ------------------------------------------------------------------------------------ inside another attempt

WAITS = "echo mine > own.txt; echo ready; while [ ! -e gate ]; do sleep 0.05; done"


def hosting(node: Node, **more: Any) -> int:
    """An attempt that waits at a gate."""
    host = node.far_end.submit({"kind": "command", "script": WAITS, **more})
    node.far_end.wait(lambda: node.far_end.stream(host, "o") == b"ready\n", "the host is ready")
    return host


def inside(host: int) -> dict[str, Any]:
    return {"inside": {"attempt_id": host, "fence": 1}}


def test_a_guest_runs_in_its_hosts_folder_as_its_hosts_user_and_leaves_it_running(node: Node) -> None:
    host = hosting(node)
    state = node.agent.attempt(host)
    guest = ran(
        node,
        script="cat own.txt; id -u; pwd; cat /proc/self/cgroup; ls /root; kill -0 1; exit 4",
        **inside(host),
    )
    assert guest.result == {"exit_status": 4, "signal": None}
    lines = printed(node, guest).splitlines()
    folder = node.agent.directory(host) / "work"
    assert (lines[0], lines[2]) == ("mine", str(folder))
    if state.traces.uid is not None:
        assert lines[1] == str(state.traces.uid)
    if state.traces.group is not None:
        root = "0::/"  # as in bubblewrap it is the root of all
        name = "/" + Path(state.traces.group).name
        assert any(line.endswith(name) or line == root for line in lines[3:])
    assert "Permission denied" in printed(node, guest, "e")  # its walls are raised
    ran(node, argv=["touch", "gate"], **inside(host))
    assert node.far_end.wait_exit(host).outcome is Outcome.SUCCEEDED


@pytest.mark.real
def test_a_cancelled_guest_leaves_nothing_behind_and_its_host_alone(node: Node) -> None:
    far_end, agent = node
    host = hosting(node)
    guest = far_end.submit({"kind": "command", "script": STUBBORN, **inside(host)})
    folder = agent.directory(host) / "work" / "pids"
    until(lambda: folder.exists() and len(list(folder.iterdir())) == 4)
    pids = seen_from_here(folder)
    far_end.withdraw(guest)
    assert far_end.wait_exit(guest).outcome is Outcome.CANCELLED
    assert all(map(gone, pids))
    assert far_end.exit(host) is None
    (agent.directory(host) / "work" / "gate").touch()
    assert far_end.wait_exit(host).outcome is Outcome.SUCCEEDED


def test_a_guest_ends_with_its_host(node: Node) -> None:
    far_end, agent = node
    host = hosting(node)
    guest = far_end.submit(
        {"kind": "command", "script": "echo here; trap '' TERM; sleep 600", **inside(host)}
    )
    far_end.wait(lambda: far_end.stream(guest, "o") == b"here\n", "the guest is there")
    (agent.directory(host) / "work" / "gate").touch()
    assert far_end.wait_exit(host).outcome is Outcome.SUCCEEDED
    ended = far_end.wait_exit(guest)
    assert ended.outcome is Outcome.FAILED
    assert "the attempt in which it ran has ended" in ended.error


def test_a_guest_of_nobody_fails(node: Node) -> None:
    ended = ran(node, argv=["true"], inside={"attempt_id": 4711, "fence": 1})
    assert ended.outcome is Outcome.FAILED
    assert "attempt 4711, in which it was to run, does not run here" in ended.error


# --------------------------------------------------------------------------------------------- data sets


def pushed(node: Node, files: dict[str, bytes]) -> str:
    """A data set that the far end has."""
    node.far_end.blobs |= {blob_address(content): content for content in files.values()}
    listed = [
        DataFile(path=path, size=len(content), parts=[blob_address(content)])
        for path, content in files.items()
    ]
    text = DataList(files=listed).text()
    node.far_end.blobs[blob_address(text)] = text
    return blob_address(text)


def test_a_data_set_is_staged_once_and_read_by_every_command(node: Node) -> None:
    address = pushed(node, {"train/a.txt": b"one\n", "train/b.txt": b"two\n"})
    ended = ran(
        node, script="cat data/images/train/*.txt; echo x > data/images/train/a.txt", data={"images": address}
    )
    assert printed(node, ended) == "one\ntwo\n"
    assert "cannot create" in printed(node, ended, "e")
    node.far_end.wait(
        lambda: any(
            observed.data and [each.data_set for each in observed.data] == [address]
            for observed in node.far_end.observed
        ),
        "the node says what it keeps",
    )
    kept = node.far_end.blobs.pop(blob_address(b"one\n"))  # not asked for again
    ended = ran(node, script="cat data/again/train/a.txt", data={"again": address})
    assert printed(node, ended) == "one\n"
    node.far_end.blobs[blob_address(kept)] = kept


@pytest.mark.parametrize(
    ("content", "outcome", "error"),
    [(None, Outcome.FAILED, "404"), (b"{}", Outcome.INVALID, "lists no data set")],
    ids=["gone", "no list"],
)
def test_a_data_set_that_cannot_be_had_ends_the_command(
    node: Node, content: bytes | None, outcome: Outcome, error: str
) -> None:
    address = blob_address(b"nothing" if content is None else content)
    if content is not None:
        node.far_end.blobs[address] = content
    ended = ran(node, argv=["true"], data={"images": address})
    assert ended.outcome is outcome
    assert f"data set {address}" in ended.error
    assert error in ended.error


# --------------------------------------------------------------------------------------------- the network

ASKS = """#!/usr/bin/env python3
import socket, sys
for family in (socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET):
    try:
        socket.socket(family, socket.SOCK_RAW if family != socket.AF_UNIX else socket.SOCK_STREAM)
        print("open", family)
    except OSError:
        pass
try:
    link = socket.create_connection(("127.0.0.1", int(sys.argv[1] if len(sys.argv) > 1 else PORT)), timeout=5)
    link.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    print(link.recv(8))
except OSError as error:
    print("shut", type(error).__name__)
"""


def test_the_network_is_for_commands_that_ask_where_the_operator_allows_it(
    far_end: FarEnd, start_agent: Start
) -> None:
    script = ASKS.replace("PORT", far_end.url.rpartition(":")[2])
    start_agent(far_end, TINYFLEET_JOB_NETWORK="1")
    shut = far_end.submit({"kind": "command", "script": script})
    let = far_end.submit({"kind": "command", "script": script, "network": True})
    assert far_end.wait_exit(let).outcome is Outcome.SUCCEEDED
    assert far_end.stream(let, "o") == b"b'HTTP/1.1'\n"
    assert far_end.wait_exit(shut).outcome is Outcome.SUCCEEDED
    assert far_end.stream(shut, "o") == b"shut PermissionError\n"
    first = far_end.observed[0].inventory
    assert first is not None
    assert first.features == ["network"]


def test_without_the_operators_word_nobody_has_the_network(node: Node) -> None:
    ended = ran(node, argv=["true"], network=True)
    first = node.far_end.observed[0].inventory
    assert first is not None
    assert first.features == []
    assert ended.outcome is Outcome.INFRA_FAILED
    assert "--job-network" in ended.error
