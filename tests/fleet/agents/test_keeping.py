"""Which artifacts are kept of what an attempt left, and where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.agents.attempts import KEPT, Limits
from fleet.agents.keeping import keep


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    folder = tmp_path / "work" / "artifacts"
    folder.mkdir(parents=True)
    return folder


def test_artifacts_are_capped_by_count_and_bytes_and_only_plain_files_are_kept(
    tmp_path: Path, artifacts: Path
) -> None:
    for name, size in (("a", 10), ("b", 10), ("c", 100), ("d", 1), ("e", 1)):
        (artifacts / name).write_bytes(bytes(size))
    os.mkfifo(artifacts / "fifo")
    (artifacts / "sp ace").touch()
    (artifacts / ".hidden").touch()
    (artifacts / ("x" * 64)).touch()
    kept, dropped = keep(tmp_path, Limits(artifact_bytes=50, artifact_count=3))
    assert kept == ["a", "b", "d"]
    reasons = "\n".join(dropped)
    assert "'c' is not kept: only 30 bytes are left" in reasons
    assert "'e' is not kept: there are too many" in reasons
    assert "'fifo' is not kept: not a plain file" in reasons
    assert len(dropped) == 6
    assert sorted(path.name for path in (tmp_path / KEPT).iterdir()) == kept
    assert (tmp_path / KEPT / "a").stat().st_mode & 0o777 == 0o600


def test_a_file_under_two_names_is_none(tmp_path: Path, artifacts: Path) -> None:
    (tmp_path / "somebody's").write_text("secret")
    os.link(tmp_path / "somebody's", artifacts / "mine")
    assert keep(tmp_path, Limits()) == ([], ["artifact 'mine' is not kept: it has other names"])


def test_a_link_to_a_folder_is_no_folder_of_artifacts(tmp_path: Path, artifacts: Path) -> None:
    artifacts.rmdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "key").write_text("secret")
    artifacts.symlink_to(tmp_path / "elsewhere")
    assert keep(tmp_path, Limits()) == ([], [])


def test_no_artifacts_folder_is_no_artifacts(tmp_path: Path) -> None:
    assert keep(tmp_path, Limits()) == ([], [])


def test_the_reasons_are_not_as_many_as_the_artifacts(tmp_path: Path, artifacts: Path) -> None:
    for number in range(100):
        (artifacts / f".{number}").touch()
    _, dropped = keep(tmp_path, Limits())
    assert len(dropped) == 33
    assert dropped[-1] == "68 more artifacts are not kept"
