"""One program inside the real bubblewrap, with Landlock and seccomp raised in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.walls import calls, seccomp, within
from fleet.agents.walls.bubblewrap import SHM, Enclosure, Unwrapped, View, begun, namespaces
from fleet.agents.walls.landlock import EXECUTE, LIST, OWN, READ, TRUNCATE, WRITE, Rule
from fleet.agents.walls.machine import code
from fleet.agents.walls.ways import open_ways
from tests.fleet.agents.conftest import ROOT, gone, until
from tests.forked import in_fork
from tests.parts import need

SOMEBODY = 210_000 + os.getpid()
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
DEADLINE_S = 30


@pytest.fixture
def work() -> Iterator[Path]:
    """An attempt's folder, of a user who is nobody else."""
    need("bwrap", install="bubblewrap")
    folder = Path(tempfile.mkdtemp(prefix="bubble-", dir="/tmp"))
    folder.chmod(0o711)
    found = folder / "state" / "attempts" / "1-1" / "work"
    for name in ("tmp", SHM):
        (found / name).mkdir(parents=True)
    if os.geteuid() == 0:
        for path in (found, found / "tmp", found / SHM):
            os.chown(path, SOMEBODY, SOMEBODY)
    yield found
    shutil.rmtree(folder)


def view(work: Path, **more: Any) -> View:
    run = READ | LIST | EXECUTE
    rules = [Rule(Path(path), run) for path in SYSTEM] + [Rule(path, run) for path in code()]
    rules += [Rule(Path("/proc"), READ | LIST), Rule(Path("/sys"), READ | LIST)]
    rules += [Rule(Path("/dev/null"), READ | WRITE | TRUNCATE), Rule(work, OWN | EXECUTE)]
    return View(tuple(rules), work, **more)


def apart(act: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `act` returns in a fork that is not root."""

    def as_somebody() -> dict[str, Any]:
        if os.geteuid() == 0:
            open_ways(code())
            os.setgroups([])
            os.setresgid(SOMEBODY, SOMEBODY, SOMEBODY)
            os.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
        return act()

    return in_fork(as_somebody, DEADLINE_S)


def ran(seen: View, argv: list[str], *, walls: bool = True, **environ: str) -> dict[str, Any]:
    """How a program ended, and what it printed."""

    def act() -> dict[str, Any]:
        column = calls.column()
        code = seccomp.assembled(seccomp.program(column)) if walls and column is not None else b""
        enclosure = Enclosure.begin(replace(seen, landlock=walls, code=code), {})
        read, write = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        known = {"PATH": "/usr/bin:/bin", **environ}
        pid = enclosure.run(argv, known, (nothing, write, write))
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            printed = pipe.read().decode(errors="replace")
        return {"code": enclosure.wait(), "printed": printed, "pid": pid, "gone": gone(enclosure.pid)}

    return apart(act)


def test_a_program_runs_in_its_folder_and_says_how_it_ended(work: Path) -> None:
    ended = ran(view(work), ["sh", "-c", 'pwd; echo "$GREETING"; exit 7'], GREETING="hello\nworld \udc80")
    assert (ended.get("code"), ended.get("gone")) == (7, True), ended
    assert ended["printed"].startswith(f"{work}\nhello\nworld ")


def test_it_has_a_session_of_its_own(work: Path) -> None:
    said = ran(
        view(work), [sys.executable, "-c", "import os; print(os.getsid(0) == os.getpgrp() == os.getpid())"]
    )
    assert said.get("printed") == "True\n", said


def test_a_signal_is_told_from_a_status(work: Path) -> None:
    assert ran(view(work), ["sh", "-c", "kill -SEGV $$"])["code"] == -signal.SIGSEGV
    assert ran(view(work), ["sh", "-c", "exit 139"])["code"] == 139


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("no-such-program", "FileNotFoundError"),
        ("/usr", "PermissionError"),
        ("/etc/hostname", "FileNotFound"),
    ],
)
def test_what_cannot_be_executed_is_said(work: Path, program: str, error: str) -> None:
    assert ran(view(work), [program])["error"].startswith(error)


def test_nothing_is_there_but_what_is_named(work: Path) -> None:
    secret = work.parent / "assignment.json"
    secret.write_text("canary")
    script = f"""
    cat {secret}; ls -d /etc /home /var/log {work.parent.parent.parent}/identity.json
    ls -A {work.parent}; for each in /proc/[0-9]*; do echo $each; done; hostname
    cat /proc/self/cgroup | grep -v ':/$'; ls /sys/fs/cgroup; cat /proc/self/net/dev | tail -n +4
    """
    printed = ran(view(work), ["sh", "-c", script], walls=False)["printed"]
    assert "canary" not in printed
    assert printed.count("No such file") == 5, printed
    kept = [line for line in printed.splitlines() if "No such file" not in line]
    assert kept[0] == "work"
    assert all(int(line.removeprefix("/proc/")) < 20 for line in kept[1:-1]), kept


def test_it_writes_its_own_folder_and_a_tmp_of_its_own(work: Path) -> None:
    script = """
    echo 1 > own; echo 2 > /tmp/two; echo 3 > /var/tmp/three; echo 4 > /dev/shm/four; ln own linked
    for place in / /usr /proc/sys/kernel/core_pattern /dev/planted "$HERE"/../planted; do echo x > $place; done
    """
    ended = ran(view(work), ["sh", "-c", script], HERE=str(work))
    written = sorted(str(path.relative_to(work)) for path in work.rglob("*") if path.is_file())
    own = [path for path in written if not path.endswith("/planted")]  # a folder of that name in its own /tmp
    assert own == ["linked", "own", "tmp/.shm/four", "tmp/three", "tmp/two"], ended
    assert ended["printed"].count("cannot create") >= 4, ended
    assert not (work.parent / "planted").exists()
    assert not Path("/tmp/two").exists()


def test_landlock_and_seccomp_are_raised_inside(work: Path) -> None:
    script = "grep -E 'Seccomp:|NoNewPrivs|CapEff' /proc/self/status; echo x > /dev/full; unshare -U true"
    printed = ran(view(work), ["sh", "-c", script])["printed"]
    assert "Seccomp:\t2" in printed
    assert "CapEff:\t0000000000000000" in printed
    assert "/dev/full: Permission denied" in printed, "no rule has it"
    assert "unshare failed: Operation not permitted" in printed


def test_the_first_process_is_behind_the_same_walls_and_its_program_does_not_reach_it(work: Path) -> None:
    script = "grep Seccomp: /proc/1/status; kill -INT 1; kill -USR1 1; true > /proc/1/mem; true < /proc/1/environ; echo on"
    printed = ran(view(work), ["sh", "-c", script])["printed"]
    assert "Seccomp:\t2" in printed
    assert printed.count("Permission denied") == 2
    assert printed.endswith("on\n")


def test_nothing_is_written_but_in_its_own_folder_even_without_landlock(work: Path) -> None:
    places = ("/", "/usr", "/dev")
    script = "; ".join(f"touch {place}/planted && echo through" for place in places)
    printed = ran(view(work), ["sh", "-c", f"{script}; kill -INT 1; echo on"], walls=False)["printed"]
    assert printed.count("Read-only file system") == len(places), printed
    assert printed.endswith("on\n")


def test_a_link_that_is_named_leads_where_it_does_outside(work: Path) -> None:
    """As /etc/resolv.conf does to /run, and /opt/rocm to the version that is installed."""
    root = work.parent
    for folder in ("etc", "run", "opt/rocm-6.0/bin"):
        (root / folder).mkdir(parents=True)
    (root / "run" / "stub.conf").write_text("nameserver 127.0.0.53\n")
    (root / "run" / "secret").write_text("not named\n")
    (root / "opt" / "rocm-6.0" / "bin" / "tool").write_text("#!/bin/sh\necho it runs\n")
    (root / "opt" / "rocm-6.0" / "bin" / "tool").chmod(0o755)
    for name, end in (
        ("etc/resolv.conf", "../run/stub.conf"),
        ("etc/rocm", "../opt/rocm-6.0"),
        ("opt/rocm", "../etc/rocm"),
    ):
        (root / name).symlink_to(end)
    (root / "opt" / "gone").symlink_to("nowhere")
    seen = view(work)
    links = [Rule(root / name, READ | LIST | EXECUTE) for name in ("etc/resolv.conf", "opt/rocm", "opt/gone")]
    script = f"cat {root}/etc/resolv.conf; {root}/opt/rocm/bin/tool; cat {root}/run/secret || ls {root}/opt"
    printed = ran(replace(seen, rules=(*links, *seen.rules)), ["sh", "-c", script])["printed"]
    assert printed.startswith("nameserver 127.0.0.53\nit runs\ncat: "), printed
    assert "not named" not in printed


def test_semaphores_of_python_work(work: Path) -> None:
    script = "import multiprocessing as m; lock = m.Lock(); print(lock.acquire(), m.Value('i', 7).value)"
    assert ran(view(work), [sys.executable, "-c", script])["printed"] == "True 7\n"


def test_the_pid_is_the_programs_and_what_it_leaves_dies_with_it(work: Path) -> None:
    script = "setsid sleep 600 & echo $!; readlink /proc/self/ns/pid"

    def act() -> dict[str, Any]:
        enclosure = Enclosure.begin(view(work), {})
        read, write = os.pipe()
        pid = enclosure.run(["sh", "-c", "read line"], {}, (read, write, write))
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        os.write(write, b"go\n")
        return {"name": name, "code": enclosure.wait()}

    assert apart(act) == {"name": "sh", "code": 0}
    ended = ran(view(work), ["sh", "-c", script])
    assert ended["code"] == 0, "and the descriptor that sleep held is closed, else this would not have ended"


def test_killed_from_outside_it_is_gone_with_all_it_holds(work: Path) -> None:
    def act() -> dict[str, Any]:
        enclosure = Enclosure.begin(view(work), {})
        pid = enclosure.run(["sleep", "600"], {"PATH": "/usr/bin:/bin"})
        os.kill(enclosure.pid, signal.SIGKILL)
        code = enclosure.wait()
        until(lambda: gone(pid))
        return {"code": code}

    assert apart(act) == {"code": None}


def test_a_guest_sees_its_host_and_leaves_it_alone(work: Path) -> None:
    script = (
        "cat tmp/from-host; tr '\\0' ' ' < /proc/2/cmdline; echo; setsid sleep 300 & kill -0 2 && echo seen; "
        "grep -h -e Seccomp: -e CapBnd /proc/$PPID/status; readlink /proc/self/ns/net; cat net"
    )

    def act() -> dict[str, Any]:
        filtered = seccomp.assembled(seccomp.program(calls.column() or 0))
        seen = view(work, code=filtered)
        host = Enclosure.begin(seen, {})
        path = {"PATH": "/usr/bin:/bin"}
        begins = "readlink /proc/self/ns/net > net; echo mine > /tmp/from-host; sleep 600"
        pid = host.run(["sh", "-c", begins], path)
        until(lambda: (work / "tmp" / "from-host").exists())
        (first,) = map(int, Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split())
        assert begun(first)
        guest = Enclosure.begin(seen, {}, namespaces(first))
        read, write = os.pipe()
        guest.run(["sh", "-c", script], path, (0, write, write))
        os.close(write)
        code = guest.wait()
        with os.fdopen(read, "rb") as pipe:  # closed by the sleep too, which is no more
            printed = pipe.read().decode()
        alone = not gone(pid)
        os.kill(host.pid, signal.SIGKILL)
        return {"code": code, "printed": printed, "alone": alone, "host": host.wait()}

    found = apart(act)
    first_line, cmdline, *rest = found.get("printed", str(found)).splitlines()
    assert (first_line, cmdline.split()[:2]) == ("mine", ["sh", "-c"])
    assert rest[:3] == ["seen", "CapBnd:\t0000000000000000", "Seccomp:\t2"], (
        "it is so before its code is read"
    )
    assert rest[3] == rest[4]
    assert rest[3].startswith("net:")
    assert (found["code"], found["alone"], found["host"]) == (0, True, None)


def test_bubblewraps_own_complaint_is_passed_on(work: Path) -> None:
    (work / SHM).rmdir()
    error = ran(view(work), ["true"])["error"]
    assert error.startswith("Unwrapped: [Errno 5] bwrap: Can't find source path"), error


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_as_root_it_is_not_started(work: Path) -> None:
    with pytest.raises(Unwrapped, match="not started as root"):
        Enclosure.begin(view(work), {})


def test_what_is_told_is_read_as_it_was_written() -> None:
    odd = [b"", b"a\nb", b"\xff", "ü".encode(), b"x" * 200_000]
    for rules in (None, [], [(b"/usr", 13), (b"/dev/null", 16386)]):
        told = within.Told(
            b"/work", [b"printf", *odd], {b"EMPTY": b"", b"ODD": b"\xff=\n"}, rules, b"\0\1", tcp=False
        )
        assert vars(within.Told.read(told.written())) == vars(told)


def test_a_nul_is_refused_as_no_program_can_be_given_one() -> None:
    for told in (within.Told(b"/", [b"a\0b"], {}, None), within.Told(b"/", [b"a"], {b"A": b"\0"}, None)):
        with pytest.raises(ValueError, match="NUL"):
            told.written()


def test_the_first_process_imports_nothing_that_is_slow() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import fleet.agents.walls.within; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(ROOT)], capture_output=True, text=True, check=True
    )
    slow = {"dataclasses", "inspect", "json", "pathlib", "platform", "re", "subprocess", "typing"}
    assert slow & set(done.stdout.split()) == set()


@pytest.mark.parametrize(
    "word", [b"status", b"status x", b"status -1", b"status 99999999", b"began", b"status \xb2", b""]
)
def test_nonsense_of_the_program_is_no_status(work: Path, word: bytes) -> None:
    """Whoever runs inside as the same user may speak in its place: what is no wait status is none."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    read, write = os.pipe()
    os.close(write)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with theirs:
        theirs.send(word)
    assert Enclosure(view(work), pid, ours, read).wait() == (-signal.SIGKILL if word else None)
