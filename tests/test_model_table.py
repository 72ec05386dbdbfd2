"""docs/models.md has every model that is compared with PyTorch, with the tolerances that it is compared to."""

from __future__ import annotations

import pytest

from tests.model_table import PATH, Row, model_rows, parsed, render, wanted


def committed() -> str:
    return PATH.read_text(encoding="utf-8")


def test_the_committed_table_has_every_model_and_the_tolerances_of_the_code() -> None:
    rows, _ = parsed(committed())
    assert [(row.model, row.part, row.tolerance) for row in rows] == wanted()


def test_every_committed_error_is_within_its_tolerance() -> None:
    rows, _ = parsed(committed())
    assert all(row.passed for row in rows)
    assert any(row.error > 0 for row in rows)


def test_the_committed_table_says_what_it_was_made_with() -> None:
    _, made_with = parsed(committed())
    assert all(name in made_with for name in ("PyTorch 2.", "NumPy 2.", "Python 3.", "Linux"))


def test_the_committed_text_is_what_is_written() -> None:
    assert render(*parsed(committed())) == committed()


@pytest.mark.parametrize("error", [1.2e-4, float("nan"), float("inf")])
def test_an_error_beyond_the_tolerance_has_not_passed(error: float) -> None:
    rows = model_rows("a model", [0.0, error, 4e-5])
    assert [row.passed for row in rows] == [True, False, True]


def test_what_is_written_is_read_again() -> None:
    rows = [Row("a", "b", 2e-7, 5e-5), Row("c", "100 losses, d", 0.0, 1e-4)]
    assert parsed(render(rows, "a machine, Python 3.11.2")) == (rows, "a machine, Python 3.11.2")
