"""Secrets between processes, and out of logs however those are cut."""

from __future__ import annotations

import base64
import os
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as some

from fleet.agents.sealed import Redactor, seal, spellings, unseal


def shown(secrets: list[str], pieces: list[bytes]) -> bytes:
    redactor = Redactor(secrets)
    return b"".join(map(redactor, pieces)) + redactor.rest()


def test_what_is_sealed_is_read_by_whoever_has_the_descriptor_and_closed() -> None:
    descriptor = seal({"TOKEN": "värde", "OTHER": "x" * 100_000})
    assert unseal(os.dup(descriptor)) == {"TOKEN": "värde", "OTHER": "x" * 100_000}
    os.close(descriptor)
    assert unseal(-1) == {}


def test_a_secret_is_hidden_as_it_is_by_line_and_in_base64() -> None:
    key = "-----BEGIN KEY-----\nabcdefghijkl\n-----END KEY-----\n"
    encoded = base64.b64encode(key.encode())
    assert shown([key], [b"<abcdefghijkl> <" + encoded + b">"]) == b"<[secret]> <[secret]>"
    assert shown([key], [b"k: " + key.encode() + b"."]) == b"k: [secret]."


def test_what_is_too_short_hides_nothing() -> None:
    assert spellings("abc") == set()
    assert shown(["abc"], [b"abcdef"]) == b"abcdef"


def test_without_secrets_nothing_is_held_back() -> None:
    redactor = Redactor([])
    assert redactor(b"at once") == b"at once"


@given(
    secrets=some.lists(some.text("ab", min_size=4, max_size=6), min_size=1, max_size=3),
    text=some.text("abc", max_size=60),
    cuts=some.lists(some.integers(0, 60), max_size=8),
)
def test_however_it_is_cut_no_secret_is_shown(secrets: list[str], text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[begin:end].encode() for begin, end in pairwise(edges)]
    found = shown(secrets, pieces)
    assert not any(secret.encode() in found for secret in secrets)


@given(some.lists(some.binary(max_size=9), max_size=9))
def test_what_holds_no_secret_comes_out_as_it_went_in(pieces: list[bytes]) -> None:
    assert shown(["\u2603" * 5], pieces) == b"".join(pieces)
