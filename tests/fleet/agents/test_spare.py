"""A process forked ahead, driven by a program of its own: a test's process has threads, and must not fork."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, sys
from fleet.agents.spare import Spare

read, write = os.pipe()
spare = Spare(lambda: os.write(write, b"begun "), lambda _, word, __: os.write(write, f"worked on {word} ".encode()),
    lambda _: os.write(write, b"undone"))

def heard(text):
    said = b""
    while len(said) < len(text):
        said += os.read(read, 100)
    assert said == text.encode(), said
"""


def ran(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_it_begins_before_its_word_comes_and_works_when_it_does() -> None:
    ran("""
assert not spare.hand("a word")
spare.fork()
heard("begun ")
assert spare.waits and spare.hand("a word")
heard("worked on a word ")
assert not spare.waits
os.wait()
""")


def test_one_that_has_died_takes_no_word_and_the_next_does() -> None:
    ran("""
import signal
spare.fork()
heard("begun ")
pid = int(open(f"/proc/self/task/{os.getpid()}/children").read())
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
assert not spare.hand("a word")
spare.fork()
heard("begun ")
assert spare.hand("another")
heard("worked on another ")
""")


def test_it_ends_with_whoever_forked_it() -> None:
    ran("""
middle = os.fork()
if middle == 0:
    spare.fork()
    heard("begun ")
    os._exit(0)
os.waitpid(middle, 0)
os.close(write)
heard("undone")
assert os.read(read, 100) == b""  # the last that could write, the spare one, is gone
""")
