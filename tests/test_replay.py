"""tests.replay: a change of what is generated is found, and a copy of the engine differs in nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import replay
from tests.corpus import Entry, corpus
from tests.replay import ROOT, Difference, compare, differences, report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    """A few of the corpus."""
    return [entry for entry in corpus() if entry["name"].startswith(("program gemm", "sample gemm"))][:12]


def copy_of_engine(folder: Path) -> Path:
    shutil.copytree(ROOT / "engine", folder / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.slow
def test_a_copy_of_the_engine_renders_the_same(entries: list[Entry], tmp_path: Path) -> None:
    assert compare(entries, copy_of_engine(tmp_path)) == []


@pytest.mark.slow
def test_an_engine_that_generates_other_code_is_found(entries: list[Entry], tmp_path: Path) -> None:
    path = copy_of_engine(tmp_path) / "engine" / "accumulate.py"
    text = path.read_text()
    assert "ENOUGH = 8" in text
    path.write_text(text.replace("ENOUGH = 8", "ENOUGH = 4"))  # fewer accumulators where few are unrolled
    found = compare(entries, tmp_path)
    assert 0 < len(found) < 3 * len(entries)
    assert all(difference.before and difference.after for difference in found)
    shown = report(found, len(entries), "the copy")
    assert shown.startswith(f"{len(entries)} kernels here and at the copy: {len(found)} sources differ")
    assert found[-1].name in shown


def test_an_engine_that_cannot_be_run_is_an_error_with_its_last_words(
    entries: list[Entry], tmp_path: Path
) -> None:
    (copy_of_engine(tmp_path) / "engine" / "pipeline.py").write_text("raise ImportError('planted')")
    with pytest.raises(RuntimeError, match="planted"):
        replay.render(entries, tmp_path)


def test_a_kernel_that_one_side_lacks_differs() -> None:
    assert differences({"a": "x", "b": "y"}, {"a": "x"}) == [Difference("b", "y", "")]
    assert "+z" in str(Difference("b", "y", "z"))


@pytest.mark.slow
def test_the_corpus_has_hundreds_of_kernels_each_with_a_name_of_its_own() -> None:
    names = [entry["name"] for entry in corpus()]
    assert len(names) == len(set(names)) >= 300
    for kind in ("program", "sample", "model", "graph"):
        assert sum(name.startswith(kind) for name in names) >= 10
    assert sum("heuristic" in name for name in names) >= 50
    assert sum("random" in name for name in names) >= 50


@pytest.mark.slow
def test_the_revision_in_use_differs_from_a_worktree_of_it_in_what_is_not_committed_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert replay.main(["HEAD", "--names", "program copy", "--most", "4"]) in (0, 1)
    assert "4 kernels here and at HEAD" in capsys.readouterr().out


@pytest.mark.slow
def test_an_unknown_revision_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="git worktree add"):
        replay.main(["no-such-revision", "--names", "program copy", "--most", "1"])
