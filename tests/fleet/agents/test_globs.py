"""Which paths a pattern means, and that none takes long."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fleet.agents.globs import matches, part_matches


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("a.txt", "a.txt", True),
        ("*.txt", "a.txt", True),
        ("*.txt", "below/a.txt", False),
        ("**/*.txt", "a.txt", True),
        ("**/*.txt", "very/deep/a.txt", True),
        ("out/**", "out/a/b", True),
        ("out/**", "other/a", False),
        ("out/**/b?.png", "out/x/y/b1.png", True),
        ("out/**/b?.png", "out/b.png", False),
        ("**", "anything/at/all", True),
        ("a/**/b/**/c", "a/b/x/b/c", True),
        ("a/*/c", "a/b/d/c", False),
        ("[a]", "[a]", True),
    ],
)
def test_a_pattern_means_what_it_says(pattern: str, path: str, meant: bool) -> None:
    assert matches(pattern, path) is meant


@given(some.text("ab*?", max_size=8), some.text("abc", max_size=10))
def test_within_a_part_it_is_what_shells_do(pattern: str, part: str) -> None:
    assert part_matches(pattern, part) is fnmatch.fnmatchcase(part, pattern)


def test_a_pattern_made_to_take_for_ever_does_not() -> None:
    assert not part_matches("*a" * 100 + "b", "a" * 250)
    assert not matches("/".join(["**", "a*"] * 60 + ["b"]), "/".join(["a"] * 120))
