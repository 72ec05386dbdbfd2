"""Values as people read them in a terminal."""

from __future__ import annotations

import pytest

from fleet.cli import text

ESC = "\x1b[2J"


def test_text_of_others_cannot_steer_the_terminal() -> None:
    assert text.printable(f"a{ESC}b\u202ec\n") == "a\\x1b[2Jb\\u202ec\\n"
    assert text.printable("a\n\tb", keep="\n\t") == "a\n\tb"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (3.2e-9, "3.2 ns"), (0.00184, "1.84 ms"), (12.0, "12.0 s"), (185.0, "3 m 05 s")],
)
def test_durations_have_a_fitting_unit(value: float | None, shown: str) -> None:
    assert text.seconds(value) == shown


def test_sizes_are_binary_and_ages_are_coarse() -> None:
    assert [text.size(value) for value in (0, 1023, 8 << 30)] == ["0 B", "1023 B", "8 GiB"]
    assert text.ago("2026-01-01T00:00:00.000Z", now=text.moment("2026-01-01T00:05:10.000Z")) == "5 m ago"
    assert text.ago(None) == "never"
