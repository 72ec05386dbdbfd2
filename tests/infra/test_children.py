"""Nothing that the demo starts outlives it, wherever it went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent
# A child that leaves its group and its session, ignores SIGTERM, and loses its parent: a daemon.
DAEMON = """
import os, signal, sys
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0)
os.wait()
"""
PARENT = f"""
import os, sys, time
from pathlib import Path
from infra import children

folder = Path(sys.argv[1])
children.adopt_orphans()
children.start([sys.executable, "-c", {DAEMON!r}], folder / "log", os.environ, folder)
while not (folder / "log").read_text().strip():
    time.sleep(0.01)
pid = int((folder / "log").read_text())
print(pid in children.descendants(os.getpid()))
children.stop_all(grace_s=0.2)
print(os.path.exists(f"/proc/{{pid}}"), children.descendants(os.getpid()))
"""


def test_a_daemon_that_ignores_sigterm_is_found_and_ended(tmp_path: Path) -> None:
    told = [sys.executable, "-c", PARENT, str(tmp_path)]
    shown = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.split("\n")[:2] == ["True", "False []"]


def test_a_demo_that_is_told_to_end_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-u", "-m", "infra.demo", "--once"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    assert any("has joined" in line for line in demo.stdout)
    demo.send_signal(signal.SIGTERM)
    demo.stdout.close()
    assert demo.wait(30) != 0
    assert [*tmp_path.iterdir()] == []
    assert processes_that_mention(str(tmp_path)) == []


def processes_that_mention(text: str) -> list[str]:
    """Command lines of running processes with this text in them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace") if entry.name.isdigit() else ""
        except OSError:  # it ended meanwhile
            continue
        if text in line:
            found.append(line)
    return found
