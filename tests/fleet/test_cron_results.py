"""Which numbers a results.json and a kernel's rows declare."""

from __future__ import annotations

import json

import pytest

from fleet import cron_results
from fleet.cron_results import of_document, of_result


def test_numbers_are_series_and_nested_ones_are_named_with_dots() -> None:
    document = {"loss": 0.25, "steps": 3, "valid": {"accuracy": 0.9}, "note": "x", "ok": True, "list": [1]}
    found = of_document(json.dumps(document).encode())
    assert found.values == {"loss": 0.25, "steps": 3.0, "valid.accuracy": 0.9}
    assert found.problem == ""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is no JSON"),
        (b'{"x": NaN}', "is no JSON"),
        (b'{"x": 1e999}', "is no JSON"),
        (b"[1]", "is no object"),
        (b"\xff\xfe", "is no JSON"),
        (b" " * (cron_results.MAX_BYTES + 1), "at most 65536"),
        (b'{"a b": 1}', "names no series"),
    ],
)
def test_what_cannot_be_taken_is_said(content: bytes, problem: str) -> None:
    found = of_document(content)
    assert (found.values, problem in found.problem) == ({}, True)


def test_more_series_than_the_limit_are_cut_and_said() -> None:
    found = of_document(json.dumps({f"s{number}": number for number in range(100)}).encode())
    assert (len(found.values), "the first 64" in found.problem) == (64, True)


def test_a_document_that_nests_deeply_is_not_followed() -> None:
    deep: dict[str, object] = {"x": 1}
    for _ in range(50):
        deep = {"d": deep}
    assert of_document(json.dumps(deep).encode()).values == {}


def test_a_kernels_rows_are_series_by_their_names() -> None:
    rows = [
        {"name": "given", "outcome": "ok", "best_s": 0.001, "gflops": 2.0, "gbps": None, "threads": 4},
        {"name": "tuned", "outcome": "wrong", "best_s": 0.0001},
    ]
    assert of_result({"rows": rows}).values == {"given.best_s": 0.001, "given.gflops": 2.0}
    assert of_result(None).values == of_result({"rows": 3}).values == {}
