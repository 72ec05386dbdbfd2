"""How much room an attempt takes is counted without believing its folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from fleet.agents.walls.room import Room

MIB = 1 << 20


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def excess(folder: Path, most_bytes: int = MIB, most_files: int = 100, pids: tuple[int, ...] = ()) -> str:
    """What a first look says."""
    clock = Clock()
    room = Room(folder, most_bytes, most_files, clock)
    clock.now = 60.0
    return room.excess(lambda: pids)


def test_what_fits_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(b"x" * 5000)
    assert excess(tmp_path) == ""


def test_bytes_in_all_folders_count_together(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"x" * (MIB // 2))
    assert excess(tmp_path) == f"its files take more than {MIB} bytes of the disk"


def test_a_hole_takes_no_room_and_a_second_name_none_either(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(100 * MIB)
    (tmp_path / "full").write_bytes(b"x" * (MIB * 3 // 4))
    os.link(tmp_path / "full", tmp_path / "again")
    assert excess(tmp_path) == ""


def test_files_count_whatever_their_size(tmp_path: Path) -> None:
    for number in range(101):
        (tmp_path / str(number)).touch()
    assert excess(tmp_path) == "it has more than 100 files"


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/out").symlink_to("/usr")
    (tmp_path / "own/round").symlink_to(tmp_path / "own")
    assert excess(tmp_path / "own") == ""


def test_a_deleted_file_that_a_process_holds_counts(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with (tmp_path / "gone").open("wb") as file:
        file.write(b"x" * 2 * MIB)
        file.flush()
        assert excess(tmp_path / "own", pids=(os.getpid(),)) == ""
        (tmp_path / "gone").unlink()
        assert (
            excess(tmp_path / "own", pids=(os.getpid(),))
            == f"its files take more than {MIB} bytes of the disk"
        )


def test_a_folder_that_is_gone_takes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    folder = tmp_path / "own"
    folder.mkdir()
    room = Room(folder, MIB, 10, clock)
    folder.rmdir()
    clock.now = 60.0
    assert room.excess(lambda: ()) == ""


def test_it_is_looked_at_again_after_a_second(tmp_path: Path) -> None:
    clock = Clock()
    room = Room(tmp_path, MIB, 10, clock)
    (tmp_path / "full").write_bytes(b"x" * 2 * MIB)
    assert room.excess(lambda: ()) == ""
    clock.now = 1.0
    assert room.excess(lambda: ()) != ""
    assert room.excess(lambda: ()) == ""


def test_without_a_limit_it_may_take_half_of_what_is_free(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert Room(tmp_path)._most_bytes == pytest.approx(free / 2, rel=0.2)
