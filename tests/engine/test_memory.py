"""engine.memory: arrays that are needed at one time never share a byte."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.memory import ALIGNMENT, Life, layout

LIVES = st.lists(
    st.builds(
        lambda nbytes, first, length: Life(nbytes, first, first + length),
        st.integers(0, 1000),
        st.integers(0, 20),
        st.integers(0, 8),
    ),
    max_size=30,
)


def rounded(life: Life) -> int:
    return -(-life.nbytes // ALIGNMENT) * ALIGNMENT


@given(LIVES)
def test_what_is_needed_at_one_time_shares_no_byte(lives: list[Life]) -> None:
    found = layout(lives)
    for step in range(30):
        spans = sorted(
            (offset, offset + life.nbytes)
            for life, offset in zip(lives, found.offsets, strict=True)
            if life.first <= step <= life.last and life.nbytes
        )
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
        assert all(end <= found.nbytes for _, end in spans)


@given(LIVES)
def test_arrays_are_aligned_and_a_slab_is_no_larger_than_all_of_them(lives: list[Life]) -> None:
    found = layout(lives)
    assert all(offset % ALIGNMENT == 0 for offset in found.offsets)
    assert found.nbytes <= sum(map(rounded, lives))


def test_a_chain_needs_two_arrays() -> None:
    found = layout([Life(640, step, step + 1) for step in range(1000)])
    assert found.nbytes == 2 * 640
    assert set(found.offsets) == {0, 640}


def test_a_small_array_leaves_the_large_gap_to_a_large_one() -> None:
    lives = [
        Life(1024, 0, 0),
        Life(64, 0, 5),
        Life(128, 0, 0),
        Life(64, 0, 5),
        Life(128, 1, 5),
        Life(1024, 1, 5),
    ]
    assert layout(lives).nbytes == 1024 + 64 + 128 + 64


def test_gaps_that_meet_are_one_and_the_last_one_grows() -> None:
    assert layout([Life(64, 0, 0), Life(64, 0, 0), Life(128, 1, 1)]).nbytes == 128
    assert layout([Life(64, 0, 1), Life(64, 0, 0), Life(256, 1, 1)]).nbytes == 64 + 256


def test_nothing_needs_nothing() -> None:
    assert layout([]).nbytes == 0
    assert layout([Life(0, 0, 3)]).offsets == (0,)


def test_a_long_plan_is_laid_out_at_once() -> None:
    lives = [Life(64 * (1 + number % 7), number, number + number % 13) for number in range(50_000)]
    assert layout(lives).nbytes < 64 * 7 * 13
