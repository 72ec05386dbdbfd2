"""engine.options: what can be set from outside, and how a wrong setting is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from engine.errors import InvalidOption
from engine.options import OPTIONS, Options, Pinning, current, from_environment


def test_without_variables_the_cache_lies_in_the_users() -> None:
    assert from_environment({"XDG_CACHE_HOME": "/x"}) == Options(cache=Path("/x/tinyfleet"))
    assert from_environment({}).cache == Path.home() / ".cache" / "tinyfleet"


def test_each_option_is_read_from_its_variable() -> None:
    found = from_environment(
        {
            "DEV": "INTERP",
            "CC": "gcc",
            "THREADS": "3",
            "TINYFLEET_CACHE": "/tmp/x",
            "DEBUG": "4",
            "PIN": "cores",
            "BEAM": "0.5",
        }
    )
    assert found == Options("INTERP", "gcc", 3, Path("/tmp/x"), 4, Pinning.CORES, 0.5)
    assert from_environment({"BEAM": "0"}).beam == 0
    assert from_environment({}).beam is None


def test_an_empty_variable_is_none() -> None:
    empty = {option.variable: " " for option in OPTIONS}
    assert from_environment(empty | {"XDG_CACHE_HOME": "/x"}) == from_environment({"XDG_CACHE_HOME": "/x"})


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("THREADS", "0"),
        ("THREADS", "many"),
        ("THREADS", "1025"),
        ("THREADS", "2.0"),
        ("THREADS", "²"),
        ("DEBUG", "5"),
        ("DEBUG", "-1"),
        ("TINYFLEET_CACHE", "here"),
        ("PIN", "core"),
        ("PIN", "1"),
        ("BEAM", "long"),
        ("BEAM", "0.01"),
        ("BEAM", "-1"),
        ("BEAM", "nan"),
        ("BEAM", "1e9"),
    ],
)
def test_a_wrong_value_is_refused_with_the_variable_and_what_to_set(variable: str, given: str) -> None:
    with pytest.raises(InvalidOption, match=rf"{variable}='{given}': set .*, or unset it") as caught:
        from_environment({variable: given})
    assert caught.value.variable == variable


def test_options_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Options().debug = 1  # type: ignore[misc]


def test_the_table_lists_every_option_once() -> None:
    assert sorted(option.field for option in OPTIONS) == sorted(field.name for field in fields(Options))
    assert len({option.variable for option in OPTIONS}) == len(OPTIONS)


def test_the_environment_is_looked_at_again_when_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "3")
    first = current()
    assert first.threads == 3
    assert current() is first
    monkeypatch.setenv("THREADS", "4")
    assert current().threads == 4


def test_folders_of_the_cache_are_made_for_their_owner_only(tmp_path: Path) -> None:
    options = Options(cache=tmp_path / "cache")
    for folder in (options.kernels, options.repros):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_cannot_be_written_is_refused_by_name() -> None:
    with pytest.raises(InvalidOption, match="TINYFLEET_CACHE='/dev/null/kernels': nothing can be kept there"):
        _ = Options(cache=Path("/dev/null")).kernels


def test_without_a_home_to_write_to_kernels_are_kept_for_the_process_which_is_said_once(
    tmp_path: Path,
) -> None:
    script = """
from engine import Tensor
print((Tensor([1.0, 2.0]) * 3).sum().item(), (Tensor([1.0]) + 1).exp().item() > 7)
from engine.options import current
print(current().kernels, current().repros.parent == current().kernels.parent)
"""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    environ |= {"HOME": "/dev/null", "TMPDIR": str(tmp_path), "DEV": "CPU:LLVM"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    results, places = done.stdout.splitlines()
    assert results == "9.0 True"
    assert places.startswith(str(tmp_path))
    assert places.endswith("True")
    assert done.stderr.count("set TINYFLEET_CACHE") == 1
    assert list(tmp_path.iterdir()) == []  # it went with the process
