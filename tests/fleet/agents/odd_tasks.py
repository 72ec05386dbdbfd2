"""Tasks that misbehave, for agents under test: the job kind `kernel` does what its document says under "do"."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.errors import InvalidGraph
from fleet.agents.tasks.context import Failed, Report, TaskContext, Tasks


def install(tasks: Tasks) -> Tasks:
    """For --setup."""
    return replace(tasks, by_kind={**tasks.by_kind, "kernel": run})


def spec(do: str, **fields: Any) -> dict[str, Any]:
    """A job spec that makes an agent so set up do something odd."""
    return {"kind": "kernel", "kernel": {"json": {"do": do, **fields}}}


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Call the function of this module that the document names."""
    document = dict(spec["kernel"]["json"])
    result: dict[str, Any] = ODD[document.pop("do")](workdir, report, **document)
    return result


def wait_for_gate(workdir: Path, report: Report) -> dict[str, Any]:
    """Succeed once a file `gate` is in the working directory."""
    print("waiting at the gate")
    report({"step": "at the gate"})
    while not (workdir / "gate").exists():
        threading.Event().wait(0.01)
    return {"passed": True}


def refuse_to_end(workdir: Path, report: Report) -> dict[str, Any]:
    """Ignore SIGTERM, with daemons that ignore it too: one forked, one executed in an environment of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    leave_daemons(workdir, report)
    (workdir / "pids" / str(os.getpid())).touch()
    report({"step": "settled in"})
    while True:
        signal.pause()


def write_a_will(workdir: Path, report: Report) -> dict[str, Any]:
    """Write down that it was ended."""
    report({"step": "working"})
    try:
        while True:
            signal.pause()
    finally:
        (workdir / "will").write_text("it was not my fault")


def leave_daemons(workdir: Path, report: Report) -> dict[str, Any]:
    """Succeed and leave two daemons; their pids are the names of the files in `pids`."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (workdir / "pids").mkdir()
    _daemonise(workdir, [])
    _daemonise(workdir, ["/usr/bin/env", "-i", sys.executable, "-c", "import signal; signal.pause()"])
    while len(list((workdir / "pids").iterdir())) < 2:
        threading.Event().wait(0.01)
    return {}


def _daemonise(workdir: Path, command: list[str]) -> None:
    middle = os.fork()
    if middle:
        os.waitpid(middle, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    (workdir / "pids" / str(os.getpid())).touch()
    os.closerange(0, 1024)
    if command:
        os.execv(command[0], command)
    while True:
        signal.pause()


def chatter(workdir: Path, report: Report, lines: int, width: int = 0) -> dict[str, Any]:
    """Print numbered lines, padded to a width."""
    for number in range(lines):
        print(f"line {number}".ljust(width))
    return {}


def make_artifacts(workdir: Path, report: Report) -> dict[str, Any]:
    """Leave one good artifact and several that are not."""
    folder = workdir / "artifacts"
    (folder / "good.json").write_text('{"good": true}')
    (folder / "big.bin").write_bytes(bytes(4096))
    (folder / "a link").symlink_to("/etc/passwd")
    (folder / "link.txt").symlink_to("/etc/passwd")
    (folder / "folder").mkdir()
    return {}


def read_inputs(workdir: Path, report: Report) -> dict[str, Any]:
    """Return the inputs."""
    return {path.name: path.read_text() for path in (workdir / "blobs").iterdir()}


def return_much(workdir: Path, report: Report) -> dict[str, Any]:
    """A result that is too large to travel with a report."""
    return {"numbers": list(range(50_000))}


def crash(workdir: Path, report: Report) -> dict[str, Any]:
    """Die as bad native code does."""
    print("about to crash")
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def leave(workdir: Path, report: Report, status: int) -> dict[str, Any]:
    """End the process without a result."""
    os._exit(status)


def fail_with_result(workdir: Path, report: Report) -> dict[str, Any]:
    """Fail and still have something to show."""
    raise Failed("nearly", {"so far": 1})


def refuse_spec(workdir: Path, report: Report) -> dict[str, Any]:
    """Find the spec impossible, as the engine does with shapes that do not fit."""
    raise InvalidGraph("sizes 3 and 4 do not fit", field="kernel.shape")


def describe_process(workdir: Path, report: Report) -> dict[str, Any]:
    """What a task can see of where it runs."""
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "session": os.getsid(0) == os.getpid(),
        "environment": dict(os.environ),
        "input": sys.stdin.read(),
    }


ODD = {
    function.__name__: function
    for function in (
        wait_for_gate,
        refuse_to_end,
        write_a_will,
        leave_daemons,
        chatter,
        make_artifacts,
        read_inputs,
        return_much,
        crash,
        leave,
        fail_with_result,
        refuse_spec,
        describe_process,
    )
}
