"""Run a program or a script of the job's owner, and end as it ended. Its output is this process's output."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet.agents.attempts import DATA
from fleet.agents.containers import Box
from fleet.agents.processes import MARKER
from fleet.agents.protocol import AttemptSpec, CommandSpec, Gang
from fleet.agents.tasks.context import Failed, Report, TaskContext
from fleet.agents.walls.bubblewrap import Enclosure, Unwrapped

# As shells have it.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELL = "/bin/sh"
_KEPT = (MARKER, "HOME", "TMPDIR", "XDG_CACHE_HOME")  # of what the supervisor has set


def run(spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext) -> dict[str, Any]:
    """Result: {exit_status, signal}; one of them is null. Failed, with that result, unless the exit status is 0."""
    wanted = CommandSpec.model_validate(spec)
    lay_out(wanted, workdir)
    told = _pass_over_term()
    command = argv(wanted, workdir)
    box = Box.of(workdir)
    if box is not None:
        return _boxed(box, wanted, command, context, report)
    environ = environment(wanted, context)
    try:
        if told.to_end:
            raise Failed("it was told to end before it began", {"exit_status": None, "signal": None})
        if context.enclosure is not None:
            pid = context.enclosure.run(command, environ)
            report({"phase": "running", "pid": pid})
            return _of_enclosure(context.enclosure)
        process = subprocess.Popen(command, cwd=workdir, env=environ, stdin=subprocess.DEVNULL)
    except Unwrapped as error:
        if wanted.inside is not None:  # what it came into was its host's to spoil
            raise Failed(
                f"it cannot run inside its host: {error}", {"exit_status": None, "signal": None}
            ) from error
        raise  # the machine's fault, and said as such
    except OSError as error:
        raise _unrunnable(command[0], error) from error
    report({"phase": "running", "pid": process.pid})
    return ended(process.wait())


def _of_enclosure(enclosure: Enclosure) -> dict[str, Any]:
    """Where all was killed at once this process goes the same way: why is for its supervisor to find out."""
    code = enclosure.wait()
    if code is None:
        os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit(1)
    return ended(code)


def _unrunnable(program: str, error: OSError) -> Failed:
    status = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return Failed(f"{program!r} cannot be run: {error.strerror}", {"exit_status": status, "signal": None})


def _boxed(
    box: Box, wanted: CommandSpec, command: list[str], context: TaskContext, report: Report
) -> dict[str, Any]:
    """In the attempt's container: a guest in its host's. A container that does not begin is the machine's fault."""
    told = {name: value for name, value in environment(wanted, context).items() if name != "PATH"}
    told |= {"PATH": wanted.env["PATH"]} if "PATH" in wanted.env else {}
    try:
        box.check(command[0], told)
        if wanted.inside is not None:
            line, environ = box.enter(command, told)
        else:
            line, environ = box.run(
                command,
                told,
                gpus=context.gpus,
                network=wanted.network,
                readable=[box.directory.parent.parent / DATA / address for address in wanted.data.values()],
            )
    except (FileNotFoundError, PermissionError) as error:
        raise _unrunnable(command[0], error) from error
    except ValueError as error:
        raise Failed(str(error), {"exit_status": None, "signal": None}) from error
    process = subprocess.Popen(line, cwd=box.directory / "work", env=environ, stdin=subprocess.DEVNULL)
    report({"phase": "running", "pid": process.pid})
    code = process.wait()
    if code != 0 and not box.ran():
        raise OSError(errno.EIO, f"podman could not start the container (exit status {code}); see the log")
    return ended(code)


class _Told:
    """Whether this process has had SIGTERM, which it passes over."""

    to_end = False

    def __call__(self, *_: object) -> None:
        self.to_end = True


def _pass_over_term() -> _Told:
    """What ends the command is for the command: this process waits for it, and its supervisor for both.

    A handler and not SIG_IGN, which the command would inherit.
    """
    told = _Told()
    signal.signal(signal.SIGTERM, told)
    return told


def lay_out(wanted: CommandSpec, workdir: Path) -> None:
    """Put the input files where the command expects them."""
    for file in wanted.files:
        path = workdir / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(workdir / "blobs" / file.blob, path)
        path.chmod(0o700 if file.executable else 0o600)


def argv(wanted: CommandSpec, workdir: Path) -> list[str]:
    """What is executed: the argv as it is, or the script, laid in the folder for temporary files."""
    if wanted.argv is not None:
        return wanted.argv
    assert wanted.script is not None, "a command has one of the two"
    descriptor, path = tempfile.mkstemp(
        prefix="script-", dir=workdir / "tmp"
    )  # a guest's folder has its host's too
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(wanted.script)
        os.fchmod(descriptor, 0o700)
    return [path] if wanted.script.startswith("#!") else [_SHELL, path]


def environment(wanted: CommandSpec, context: TaskContext) -> dict[str, str]:
    """Little of the agent's, what the job says, and who it is."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": _PATH, "LANG": "C.UTF-8", **kept, **wanted.env, **context.secrets, **context.surroundings}


def ended(code: int) -> dict[str, Any]:
    """The result of a command whose return code, as subprocess has it, is `code`. Failed unless it is 0."""
    if code == 0:
        return {"exit_status": 0, "signal": None}
    if code > 0:
        raise Failed(f"the command ended with exit status {code}", {"exit_status": code, "signal": None})
    name = signal_name(-code)
    raise Failed(f"the command was killed by {name}", {"exit_status": None, "signal": name})


def signal_name(number: int) -> str:
    """SIGSEGV; "signal 40" for a real-time one."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def surroundings(told: AttemptSpec, workdir: Path) -> Mapping[str, str]:
    """The variables that tell a command who it is, and with whom: of a gang also under the names that PyTorch reads."""
    found = {
        "TINYFLEET_JOB_ID": str(told.job_id),
        "TINYFLEET_ATTEMPT_ID": str(told.attempt_id),
        "TINYFLEET_DEVICE": told.device,
        "TINYFLEET_GPUS": ",".join(told.gpus),
        "TINYFLEET_CPUS": str(told.cpus),
        "TINYFLEET_ARTIFACTS": str(workdir / "artifacts"),
    }
    if told.array is not None:
        found |= {
            "TINYFLEET_ARRAY_ID": str(told.array.array_id),
            "TINYFLEET_ARRAY_INDEX": str(told.array.index),
            "TINYFLEET_ARRAY_SIZE": str(told.array.size),
        }
    return found | (_of_gang(told.gang) if told.gang is not None else {})


def _of_gang(gang: Gang) -> dict[str, str]:
    host, _, port = gang.rendezvous.rpartition(":")
    return {
        "RANK": str(gang.rank),
        "WORLD_SIZE": str(gang.ranks),
        "MASTER_ADDR": host.strip("[]"),
        "MASTER_PORT": port,
        "TINYFLEET_RANK": str(gang.rank),
        "TINYFLEET_RANKS": str(gang.ranks),
        "TINYFLEET_RENDEZVOUS": gang.rendezvous,
        "TINYFLEET_PEERS": ",".join(peer.address for peer in gang.peers),
    }
