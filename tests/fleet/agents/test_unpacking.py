"""An image's files, unpacked by the process that does it: what an archive of a stranger cannot do."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.whole import ROOT


def archive(*members: tuple[str, str, str]) -> bytes:
    """(name, kind, content or target), each with the mode 6755."""
    kinds = {
        "file": tarfile.REGTYPE,
        "link": tarfile.SYMTYPE,
        "device": tarfile.CHRTYPE,
        "dir": tarfile.DIRTYPE,
    }
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind, content in members:
            about = tarfile.TarInfo(name)
            about.type, about.mode = kinds[kind], 0o6700
            about.linkname = content if kind == "link" else ""
            about.size = len(content) if kind == "file" else 0
            tar.addfile(about, io.BytesIO(content.encode()))
    return made.getvalue()


def unpacked(folder: Path, content: bytes, most: int = 1 << 20) -> subprocess.CompletedProcess[bytes]:
    folder.mkdir()
    command = [
        sys.executable,
        "-P",
        "-m",
        "fleet.agents.unpacking",
        str(folder),
        str(most),
        "/var/lib/tinyfleet",
    ]
    return subprocess.run(
        command, input=content, capture_output=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=False
    )


def test_files_are_for_everybody_to_read_and_devices_and_setuid_bits_are_gone(tmp_path: Path) -> None:
    content = archive(
        ("./bin/tool", "file", "x"),
        ("dev/mem", "device", ""),
        ("opt", "dir", ""),
        ("sh", "link", "/bin/tool"),
    )
    done = unpacked(tmp_path / "files", content)
    assert done.returncode == 0, done.stderr
    files = tmp_path / "files"
    assert stat.S_IMODE((files / "bin" / "tool").stat().st_mode) == 0o755
    assert not (files / "dev" / "mem").exists()
    assert (files / "sh").is_symlink()
    places = ("proc", "tmp", "var/tmp", "var/lib/tinyfleet")
    assert all((files / place).is_dir() for place in places)
    assert (files / "etc" / "hosts").read_bytes() == b""


def test_nothing_is_written_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    content = archive(
        ("../outside/up", "file", "x"), ("way", "link", str(outside)), ("way/through", "file", "x")
    )
    unpacked(tmp_path / "files", content)
    assert list(outside.iterdir()) == []


def test_more_than_there_is_room_for_is_refused_by_name(tmp_path: Path) -> None:
    done = unpacked(tmp_path / "files", archive(("a", "file", "x" * 5000)), most=4096)
    assert done.returncode == 1
    assert b"TINYFLEET_IMAGE_BYTES" in done.stderr
