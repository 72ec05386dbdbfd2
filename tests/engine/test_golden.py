"""The sources we write are as they were kept: a change of them is meant, and seen in its diff."""

from __future__ import annotations

import difflib

from tests.engine.golden_kernels import GOLDEN, sources


def test_sources_are_as_kept() -> None:
    for path, text in sources():
        kept = path.read_text(encoding="utf-8")
        diff = difflib.unified_diff(kept.splitlines(), text.splitlines(), path.name, "now", lineterm="")
        assert text == kept, "\n".join([*diff, "meant? python -m tests.engine.golden_kernels"])


def test_no_kept_source_is_left_over() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {path.name for path, _ in sources()}
