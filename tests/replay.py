"""Process replay: the same kernels compiled by two revisions of the engine, compared as text.

    python -m tests.replay BASE [--names PART] [--most N]

makes a worktree of the revision BASE in a temporary folder, renders the corpus (tests.corpus) there and here, each
in a process of its own, and prints which kernels' sources differ and how. Exit status 1 if any does: a refactoring
changes none, and a change of the compiler changes those it means to.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.corpus import Entry, corpus

ROOT = Path(__file__).parent.parent
SHOWN = 3  # differences printed in full
Sources = dict[str, str]


@dataclass(frozen=True)
class Difference:
    """A kernel whose source is not the same on both sides."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), "before", "after", lineterm="", n=1
        )
        return "\n".join((self.name, *(f"  {line}" for line in lines)))


def render(entries: Sequence[Entry], engine: Path) -> Sources:
    """The corpus rendered in a process of its own by the engine that lies in the folder `engine`."""
    own = engine / "tests" / "rendering.py"
    script = own if own.exists() else ROOT / "tests" / "rendering.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(list(entries)),
        capture_output=True,
        text=True,
        check=False,
        cwd=engine,
        env={**os.environ, "PYTHONPATH": str(engine), "PYTHONHASHSEED": "0"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"cannot render with the engine in {engine}:\n{done.stderr[-2000:]}")
    found: Sources = json.loads(done.stdout)
    return found


def differences(before: Sources, after: Sources) -> list[Difference]:
    """What is not the same, in the order of the corpus; a kernel that one side lacks differs."""
    names = list(dict.fromkeys([*before, *after]))
    pairs = [(name, before.get(name, ""), after.get(name, "")) for name in names]
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def compare(entries: Sequence[Entry], base: Path, here: Path = ROOT) -> list[Difference]:
    """Render the corpus by both engines at once, and compare."""
    with ThreadPoolExecutor(2) as pool:
        before, after = pool.map(lambda engine: render(entries, engine), (base, here))
    return differences(before, after)


def replay(revision: str, entries: Sequence[Entry]) -> list[Difference]:
    """Compare with a revision of this repository."""
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        base = Path(folder) / "base"
        _git("worktree", "add", "--detach", "--quiet", str(base), revision)
        try:
            return compare(entries, base)
        finally:
            _git("worktree", "remove", "--force", str(base))


def _git(*words: str) -> None:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"git {' '.join(words)}: {done.stderr.strip()}")


def report(found: Sequence[Difference], count: int, base: str) -> str:
    """What a person reads."""
    lines = [f"{count} kernels here and at {base}: {len(found) or 'no'} sources differ"]
    lines += [str(difference) for difference in found[:SHOWN]]
    lines += [f"and {difference.name}" for difference in found[SHOWN:]]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """The command line; 0 if nothing differs."""
    parser = argparse.ArgumentParser(
        prog="tests.replay", description="Compare generated sources with a revision's."
    )
    parser.add_argument("base", help="a revision of this repository")
    parser.add_argument("--names", default="", help="only kernels with this in their names")
    parser.add_argument("--most", type=int, default=None, help="only so many kernels")
    given = parser.parse_args(arguments)
    entries = [entry for entry in corpus() if given.names in entry["name"]][: given.most]
    found = replay(given.base, entries)
    print(report(found, len(entries), given.base))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
