"""bandit finds nothing of weight in the packages, and finds what is planted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_architecture import PACKAGES, ROOT

# B108: /dev/shm is named where its size is looked at; nothing is made there by name.
BANDIT = [sys.executable, "-m", "bandit", "-q", "-r", "-ll", "-ii", "-s", "B108"]


@pytest.mark.slow
def test_bandit_finds_nothing_of_weight() -> None:
    done = subprocess.run([*BANDIT, *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "planted",
    [
        "import subprocess\nsubprocess.run(input(), shell=True)\n",
        "import pickle\npickle.loads(open('x', 'rb').read())\n",
        "import hashlib\nhashlib.md5(b'')\n",
    ],
)
def test_bandit_finds_what_is_planted(tmp_path: Path, planted: str) -> None:
    (tmp_path / "planted.py").write_text(planted)
    done = subprocess.run([*BANDIT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
