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


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'{"a": 1, "b": {"a": 2}}', None),
        (b'[{"a": 1}, {"a": 1}]', None),
        (b'{"a": 1, "a": 1}', "a"),
        (b'{"a": 1, "\\u0061": 2}', "a"),
        (b'{"a": {"b": [0, {"c": 1, "d": 2, "c": {}}]}}', "a.b[1].c"),
        (b'{"a": {"b": 1, "b": 2}, "a": 3}', "a"),
        (b'[[{"a": 1, "b": 2, "b": 3, "a": 4}], {"c": 1, "c": 2}]', "[0][0].b"),
    ],
    ids=str,
)
def test_a_key_that_is_given_twice_is_found(content: bytes, place: str | None) -> None:
    assert documents.repeated_key(content) == place


def test_a_key_that_is_given_twice_among_many_is_found_in_passing() -> None:
    keys = [f'"{number}": 0' for number in range(documents.MOST_KEYS - 1)]
    one = f"{{{', '.join([*keys, keys[-1]])}}}"
    assert documents.repeated_key(f"[{', '.join([one] * 20)}]".encode()) == f"[0].{documents.MOST_KEYS - 2}"


def test_an_object_of_more_keys_than_anybody_means_is_refused() -> None:
    keys = ", ".join(f'"{number}": 0' for number in range(documents.MOST_KEYS + 1))
    with pytest.raises(ValueError, match="more than 10,000 keys"):
        documents.repeated_key(f"{{{keys}}}".encode())


@pytest.mark.parametrize("value", [b"[]", b"{}", b"0"])
def test_more_values_than_anybody_means_are_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="more than 1,000 values: send them in parts"):
        documents.check_size(b"[" + b",".join([value] * 1001) + b"]", 1000)
    documents.check_size(b"[" + b",".join([b"0"] * 990) + b"]", 1000)
    documents.check_size(b'{"script": "' + b'[{,\\",' * 1000 + b'"}', 1000)
