"""The agent under attack: job kind `kernel` does what its document says under "do"."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from fleet.agents.tasks.context import Report, TaskContext, Tasks
from tests.attacks import processes
from tests.attacks.catalogue import BY_NAME
from tests.attacks.kernel_calls import share_memory, take_memory
from tests.attacks.trial import Target, tried


def install(tasks: Tasks) -> Tasks:
    """For --setup."""
    return replace(tasks, by_kind={**tasks.by_kind, "kernel": run})


def spec(do: str, **fields: Any) -> dict[str, Any]:
    """A job spec that makes an agent so set up attack."""
    return {"kind": "kernel", "kernel": {"json": {"do": do, **fields}}}


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Try one attack, or each of those listed, or do what is judged from outside."""
    document = dict(spec["kernel"]["json"])
    do = document.pop("do")
    if do in JUDGED_OUTSIDE:
        return JUDGED_OUTSIDE[do](workdir, report, **document)
    names = document.pop("names", [do])
    target = Target.of(document, workdir)
    return {name: tried(BY_NAME[name].act, target) for name in names}


def leave_daemons(work: Path, report: Report) -> dict[str, Any]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        processes.hide_from_the_agent(_nowhere(work))
        os._exit(0)
    while len(list((work / "pids").glob("*"))) < 2:
        os.sched_yield()
    return {}


def wait_for_gate(work: Path, report: Report, segment: int) -> dict[str, Any]:
    """Be another attempt for as long as it takes, one that shares memory with everybody where it can."""
    (work / "canary").write_text("canary")
    with contextlib.suppress(OSError):
        share_memory(segment)
    report({"step": "at the gate"})
    while not (work / "gate").exists():
        signal.sigtimedwait([signal.SIGUSR2], 0.02)
    return {"canary": (work / "canary").read_text(), "here": sorted(os.listdir(work))}


def talk_endlessly(work: Path, report: Report) -> dict[str, Any]:
    line = b"x" * (1 << 16)
    while True:
        os.write(1, line)


def ignore_the_end(work: Path, report: Report) -> dict[str, Any]:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave_daemons(work, report)
    report({"step": "settled in"})
    while True:
        signal.pause()


def leave_sparse_artifact(work: Path, report: Report) -> dict[str, Any]:
    with (work / "artifacts" / "sparse.bin").open("wb") as file:
        file.truncate(1 << 30)  # within what a file may have, over what artifacts may
    (work / "artifacts" / "small.txt").write_text("small")
    return {}


def fill_the_disk(work: Path, report: Report, deleted: bool) -> dict[str, Any]:
    """Take 512 MiB in files that are each within what a file may have, deleted ones at wish, and stay."""
    held = []
    for number in range(16):
        path = work / f"piece{number}"
        file = path.open("wb")
        os.posix_fallocate(file.fileno(), 0, 32 << 20)
        held.append(file)
        if deleted:
            path.unlink()
    report({"step": "full"})
    while True:
        signal.pause()


def take_all_names(work: Path, report: Report) -> dict[str, Any]:
    """Make files until somebody minds."""
    for number in count():
        folder = work / "names" / str(number // 1000)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).touch()
    return {}


def nest_folders(work: Path, report: Report) -> dict[str, Any]:
    """A way to what is too deep for a path, and stay."""
    os.chdir(work)
    for _ in range(1500):
        os.mkdir("deeper")
        os.chdir("deeper")
    while True:
        signal.pause()


def leave_many_artifacts(work: Path, report: Report) -> dict[str, Any]:
    for number in range(10_000):
        (work / "artifacts" / f"{number:05d}").touch()
    return {}


def leave_strange_names(work: Path, report: Report) -> dict[str, Any]:
    for name in (
        b"new\nline",
        b"\x1b[31mred",
        "\u202egnp.exe".encode(),
        b"\xff\xfe",
        b"..%2f..%2fetc",
        b"-rf",
    ):
        Path(os.fsdecode(os.path.join(os.fsencode(work / "artifacts"), name))).touch()
    return {}


def leave_links(work: Path, report: Report, secret: str) -> dict[str, Any]:
    (work / "artifacts" / "link").symlink_to(secret)
    (work / "plain").write_text("plain")
    os.link(work / "plain", work / "artifacts" / "twice")
    return {}


def put_a_link_for_the_folder(work: Path, report: Report, secret: str) -> dict[str, Any]:
    shutil.rmtree(work / "artifacts")
    (work / "artifacts").symlink_to(Path(secret).parent)
    return {}


def leave_what_cannot_be_removed(work: Path, report: Report) -> dict[str, Any]:
    os.chdir(work)
    for _ in range(1500):
        os.mkdir("deeper")
        os.chdir("deeper")
    os.chmod(work / "tmp", 0)
    os.chmod(work / "blobs", 0)
    return {}


def speak_nonsense(work: Path, report: Report) -> dict[str, Any]:
    """Everything that would break whoever believes it, and then a result that is well-formed."""
    with processes.voice_of_supervisor(work) as voice:
        deep = '{"progress": {"a": ' + "[" * 2000 + "]" * 2000 + "}}"
        lone, endless = '{"progress": {"a": "\\ud800"}}', '{"progress": {"a": 1e999}}'
        for packet in (b"\xff", b"[]", b"{", b"{}" * 10, deep.encode(), lone.encode(), endless.encode()):
            voice.send(packet)
        for _ in range(20):
            voice.send(json.dumps({"progress": {"fill": "x" * 150_000}}).encode())
    return {"said": True}


def forge_an_outcome(work: Path, report: Report, outcome: str) -> dict[str, Any]:
    """Claim what only the supervisor may say."""
    with processes.voice_of_supervisor(work) as voice:
        voice.send(json.dumps({"result": {"outcome": outcome, "result": {"forged": True}}}).encode())
    os._exit(0)


def native(work: Path, report: Report, source: str, compiler: str, arguments: list[str]) -> dict[str, Any]:
    return dict(processes.compile_and_run(work, source, compiler, arguments))


def describe(work: Path, report: Report) -> dict[str, Any]:
    """Who and where it is."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    wanted = ("CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    return {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "python": sys.version} | {
        name: status[name] for name in wanted
    }


def list_processes(work: Path, report: Report) -> dict[str, Any]:
    """The command lines of all processes that it can see."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            found[name] = Path(f"/proc/{name}/cmdline").read_bytes().decode(errors="replace")
    return {"found": found, "own": os.getpid()}


def look_around(work: Path, report: Report, path: str) -> dict[str, Any]:
    """What can be learnt of a file that cannot be read, and of its own control group."""
    try:
        Path(path).read_bytes()
    except OSError as error:
        return {
            "read": error.errno,
            "bytes": os.stat(path).st_size,
            "group": Path("/proc/self/cgroup").read_text(),
        }
    return {"read": 0}


def leave_shared_memory(work: Path, report: Report, segment: int) -> dict[str, Any]:
    """Fill a page under this number, unless somebody has left one: then say what is in it."""
    try:
        return {"found": take_memory(segment)}
    except OSError as error:
        share_memory(segment)
        return {"found": None, "errno": error.errno}


def _nowhere(work: Path) -> Target:
    return Target(work, work, work, 0, 0, 0, 0, "", "", 0)


JUDGED_OUTSIDE: dict[str, Callable[..., dict[str, Any]]] = {
    function.__name__: function
    for function in (
        leave_daemons,
        wait_for_gate,
        talk_endlessly,
        ignore_the_end,
        leave_sparse_artifact,
        fill_the_disk,
        take_all_names,
        nest_folders,
        leave_many_artifacts,
        leave_strange_names,
        leave_links,
        put_a_link_for_the_folder,
        leave_what_cannot_be_removed,
        speak_nonsense,
        forge_an_outcome,
        native,
        describe,
        list_processes,
        look_around,
        leave_shared_memory,
    )
}
