"""Whether containers run here, by running one: `python -m fleet.agents.container_trial --state DIR --walls all`.

In a cell like any attempt's, with the machine's own programs for an image. What works is written down for the attempts of
this node, and said as JSON: {"works": …, "detail": …}.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from fleet.agents.containers import ABOUT, ENGINE, FILES, Box, Engine, candidates
from fleet.agents.durable import write_json
from fleet.agents.processes import descendants, kill
from fleet.agents.unpacking import place
from fleet.agents.walls import calls
from fleet.agents.walls.cell import Cell, Unbuildable
from fleet.agents.walls.machine import Survey, enter_namespaces, needed, survey
from fleet.agents.walls.policy import Policy
from fleet.agents.walls.ways import open_ways

_TRIAL_S = 20.0
_PR_SET_CHILD_SUBREAPER = 36
_MACHINE = ("usr", "bin", "sbin", "lib", "lib32", "lib64")
_PLACES = ("proc", "sys", "dev", "tmp", "run", "etc", "var/tmp")


def tried(state: Path, walls: Survey) -> tuple[Engine | None, str]:
    """The first way that works, and else what the last said. In a process of one thread, for it forks."""
    if walls.state("uid") != "up" and os.geteuid() == 0:
        return None, "containers are for an agent with the wall uid, or one that is not root"
    ways = candidates()
    said = "" if ways else "there is no podman, or no crun or runc, or no catatonit"
    for engine in ways:
        said = _in_fork(state, walls, engine)
        if not said:
            return engine, ""
    return None, said


def _in_fork(state: Path, walls: Survey, engine: Engine) -> str:
    """What went wrong; empty when the container ran. A fork, since the walls round all attempts are raised for good."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = _trial(state, walls, engine)
        except Exception as error:  # noqa: BLE001 - the top of a process: whatever it was is the answer
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode(errors="replace")[:2000])
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read().decode(errors="replace")


def _trial(state: Path, walls: Survey, engine: Engine) -> str:
    calls.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    if walls.has("uid"):
        open_ways(needed(state))
    enter_namespaces(walls, state)
    attempts = state / "attempts"
    attempts.mkdir(mode=0o711, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".trial-", dir=attempts))
    cell = Cell(walls, f"tinyfleet-trial-{os.getpid()}-")
    try:
        directory.chmod(0o711)
        box, mounts = _laid_out(directory, engine, state)
        cell.reserve()
        cell.fit(Policy(programs=True, container=True), directory / "work")
        return _run(cell, box, mounts)
    except Unbuildable as error:
        return str(error)
    finally:
        _end(cell)
        shutil.rmtree(directory, ignore_errors=True)


def _laid_out(directory: Path, engine: Engine, state: Path) -> tuple[Box, list[str]]:
    """An attempt's folder whose image is an empty one, with the machine's programs mounted in it."""
    for folder in ("work", "work/tmp"):
        (directory / folder).mkdir(mode=0o700)
    files = directory / "machine" / FILES
    mounts = []
    for name in (*_PLACES, *_MACHINE, str(state).lstrip("/")):
        here = Path("/", name)
        if name in _MACHINE and here.is_symlink():
            (files / name).symlink_to(here.readlink())
        elif name not in _MACHINE or here.is_dir():
            files.mkdir(parents=True, exist_ok=True)
            place(files, name)
            mounts += [f"{here}:{here}:ro"] if name in _MACHINE else []
    for name in ("etc/hosts", "etc/resolv.conf", "etc/hostname"):
        (files / name).touch(mode=0o644)
    (files / "etc" / "mtab").symlink_to("/proc/mounts")
    write_json(directory / "machine" / ABOUT, {"env": []}, mode=0o644)
    for path in (directory / "machine", *(directory / "machine").rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    box = Box(directory, engine)
    box.prepare(directory / "machine")
    return box, mounts


def _run(cell: Cell, box: Box, mounts: list[str]) -> str:
    trial = os.getpid()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            cell.enter(trial)
            command, environ = box.run(["sh", "-c", "test $(id -u) = 0"], {}, mounts=mounts)
            done = subprocess.run(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=write,
                stderr=write,
                timeout=_TRIAL_S,
                check=False,
            )
            os._exit(0 if done.returncode == 0 else 1)
        os.write(write, str(sys.exc_info()[1] or "podman did not end").encode())
        os._exit(1)
    os.close(write)
    cell.step_out()
    ended, status = 0, 0
    while (
        ended != pid
    ):  # podman waits until its monitor, which is this process's by now, is no zombie any more
        ended, status = os.waitpid(-1, 0)
    _end_processes(cell)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read(65536).decode(errors="replace").strip()
    if status == 0:
        return ""
    return f"{box.engine.runtime}: {said.splitlines()[-1][-300:] if said else 'no word'}"


def _end_processes(cell: Cell) -> None:
    for _ in range(100):
        cell.kill(cell.survivors())
        kill(descendants(os.getpid()), signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            if not cell.survivors():
                return


def _end(cell: Cell) -> None:
    _end_processes(cell)
    cell.demolish()


def main(arguments: list[str]) -> None:
    """Try, write down what works, and say it."""
    parser = argparse.ArgumentParser(prog="python -m fleet.agents.container_trial", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the agent's state directory")
    parser.add_argument("--walls", default="all", help="which walls are meant")
    options = parser.parse_args(arguments)
    engine, detail = tried(options.state, survey(options.state, options.walls))
    if engine is None:
        (options.state / ENGINE).unlink(missing_ok=True)
    else:
        engine.save(options.state)
        (options.state / ENGINE).chmod(0o644)
    print(json.dumps({"works": engine is not None, "detail": detail}))


if __name__ == "__main__":
    main(sys.argv[1:])
