"""JSON from others, read strictly."""

from __future__ import annotations

import pytest

from fleet import documents


@pytest.mark.parametrize(
    ("content", "document"),
    [
        (b'{"a": [1, 0.5, -1e308, true, null]}', {"a": [1, 0.5, -1e308, True, None]}),
        ('"\\ud83d\\ude00 é"'.encode(), "😀 é"),
        (b"[" * 100 + b"]" * 100, None),
    ],
    ids=["all kinds", "text", "nested"],
)
def test_json_is_read(content: bytes, document: object) -> None:
    found = documents.read(content)
    assert document is None or found == document


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"NaN",
        b'{"a": -Infinity}',
        b"[1e999]",
        b"-" + b"9" * 400 + b".5",
        b'"\\ud800"',
        b'"\xff"',
        b"[" * 9999,
    ],
    ids=str,
)
def test_what_could_not_be_written_down_again_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        documents.read(content)
