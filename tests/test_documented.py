"""Every command and every Python block of the README is run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.whole import ROOT, until

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What cannot be run inside the suite: making the environment the suite runs in.
NOT_RUN = ("python3 -m venv",)
# The same commands, in less time.
SHORTER = ((r"--budget \d+", "--budget 2"), (r"^(tinyfleet jobs submit .*)$", r"\1 --time 0.1"))
pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Block:
    """One fenced block: its language and text."""

    language: str
    text: str


def blocks() -> list[Block]:
    """The README's runnable blocks, in order."""
    return [Block(language, text) for language, text in BLOCK.findall(README)]


def commands(block: Block) -> list[str]:
    """The lines of a console block after their prompt."""
    return [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Shell:
    """Runs the README's commands in a folder, against a port that is free here."""

    folder: Path
    port: int
    background: list[subprocess.Popen[bytes]]

    def environ(self) -> dict[str, str]:
        """A user's environment: the project's commands on the path, no settings of their own."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("TINYFLEET_", "DEV"))
        }
        return {**kept, "PATH": path, "HOME": str(self.folder), "TINYFLEET_PORT": str(self.port)} | {
            "TINYFLEET_URL": f"http://127.0.0.1:{self.port}",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, command: str) -> None:
        """Run one command; one that ends in & goes on in the background."""
        if command.startswith(NOT_RUN):
            return
        for pattern, shorter in SHORTER:
            command = re.sub(pattern, shorter, command)
        words = shlex.split(command.replace(":8000", f":{self.port}"))
        if words[0] == "make":
            words = ["make", "-C", str(ROOT), "--dry-run", *words[1:]]
        if words[-1] == "&":
            self.start(words[:-1])
            return
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert done.stdout.strip() or done.stderr.strip(), f"{command} printed nothing"

    def start(self, words: list[str]) -> None:
        """Start a server or an agent and wait until it is of use."""
        with (self.folder / f"{words[1]}.log").open("wb") as log:
            self.background.append(
                subprocess.Popen(
                    words, cwd=self.folder, env=self.environ(), stdout=log, stderr=log, process_group=0
                )
            )
        ready = {"serve": ["tinyfleet", "whoami"], "agent": ["tinyfleet", "nodes", "show", "tiny1"]}[words[1]]
        until(lambda: self.succeeds(ready), f"{words[1]} is up")

    def succeeds(self, words: list[str]) -> bool:
        """Does the command exit with 0?"""
        return subprocess.run(words, cwd=self.folder, env=self.environ(), capture_output=True).returncode == 0

    def python(self, text: str) -> None:
        """Run a Python block as a script."""
        text = text.replace(":8000", f":{self.port}")
        words = [sys.executable, "-c", text]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"
        assert done.stdout.strip()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty folder; what it started ends with the test."""
    opened = Shell(tmp_path, free_port(), [])
    yield opened
    for process in reversed(opened.background):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_every_command_of_the_readme_works(shell: Shell) -> None:
    for block in blocks():
        if block.language == "python":
            shell.python(block.text)
        for command in commands(block) if block.language == "console" else []:
            shell.run(command)


def test_the_readme_speaks_of_files_that_exist() -> None:
    named = re.findall(r"`((?:api|engine|fleet|dashboards|infra|migrations|tests)/[\w/.]*)`", README)
    assert named
    assert [path for path in named if "<" not in path and not (ROOT / path).exists()] == []


def test_every_make_target_of_the_readme_exists() -> None:
    targets = {
        command.split()[1] for block in blocks() for command in commands(block) if command.startswith("make ")
    }
    assert targets >= {"demo", "test", "check"}
    for target in targets:
        subprocess.run(["make", "-C", str(ROOT), "--dry-run", target], check=True, capture_output=True)


def test_nothing_is_left_to_be_filled_in() -> None:
    assert re.findall(r"@@|TODO|TBD|lorem", README) == []


def test_the_blocks_are_found() -> None:
    assert {block.language for block in blocks()} == {"console", "python"}
    assert any(
        command.startswith("tinyfleet searches run") for block in blocks() for command in commands(block)
    )
