"""Memory of large arrays: handed on when the last array that looks at it is gone, and never before."""

from __future__ import annotations

from threading import Thread
from typing import Any

import numpy as np
import pytest

from engine.runtime.blocks import SMALLEST, Blocks, rounded
from engine.runtime.cpu import empty
from engine.tensor import Tensor

MIB = 1 << 20
Array = np.ndarray[Any, np.dtype[Any]]


def array(blocks: Blocks, nbytes: int) -> Array:
    return np.ndarray((nbytes,), np.uint8, blocks.take(nbytes))


def test_what_is_gone_is_used_again() -> None:
    blocks = Blocks(smallest=MIB)
    first = array(blocks, 4 * MIB)
    place = first.ctypes.data
    del first
    assert blocks.kept == rounded(4 * MIB)
    assert array(blocks, 4 * MIB - 100).ctypes.data == place


def test_what_somebody_looks_at_is_not() -> None:
    blocks = Blocks(smallest=MIB)
    first = array(blocks, 4 * MIB)
    first[:] = 7
    column = first.reshape(1024, -1)[:, 3]
    view = memoryview(column)
    del first, column
    other = array(blocks, 4 * MIB)
    other[:] = 9
    assert blocks.kept == 0
    assert set(view.tolist()) == {7}
    del view
    assert blocks.kept == rounded(4 * MIB)


def test_small_arrays_are_left_to_malloc() -> None:
    blocks = Blocks(smallest=MIB)
    assert array(blocks, MIB - 1).size == MIB - 1
    assert array(blocks, 0).size == 0
    assert blocks.kept == 0


def test_what_is_kept_is_bounded_and_the_oldest_size_goes_first() -> None:
    blocks = Blocks(most=8 * MIB, smallest=MIB)
    held = [array(blocks, size * MIB) for size in (2, 3, 4)]
    places = [each.ctypes.data for each in held]
    while held:
        del held[0]
    assert blocks.kept == 7 * MIB  # 3 and 4
    assert array(blocks, 4 * MIB).ctypes.data == places[2]
    too_large = array(blocks, 16 * MIB)
    del too_large
    assert blocks.kept == 7 * MIB


@pytest.mark.parametrize("nbytes", [MIB, 3 * MIB + 1, 100 * MIB - 1, (1 << 30) + 64])
def test_a_block_is_at_most_an_eighth_too_large(nbytes: int) -> None:
    assert nbytes <= rounded(nbytes) <= nbytes * 9 // 8
    assert rounded(rounded(nbytes)) == rounded(nbytes)


def test_threads_never_share_a_block() -> None:
    blocks = Blocks(most=16 * MIB, smallest=MIB)
    wrong: list[int] = []

    def use(number: int) -> None:
        for turn in range(60):
            mine = array(blocks, MIB + (turn % 3) * MIB)
            mine[:: MIB // 16] = number
            if not (mine[:: MIB // 16] == number).all():
                wrong.append(number)

    threads = [Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert 0 < blocks.kept <= 16 * MIB


def test_an_array_in_a_block_starts_at_a_cache_line_and_owns_its_elements() -> None:
    rows = SMALLEST // 4000 + 1
    first, second = (empty((rows, 1000), np.dtype(np.float32)) for _ in range(2))
    assert first.ctypes.data % 64 == second.ctypes.data % 64 == 0
    first[...], second[...] = 1, 2
    assert (first.min(), first.max(), second.min(), second.max()) == (1, 1, 2, 2)


def test_results_outlive_those_that_came_before_them() -> None:
    x = Tensor.ones(SMALLEST // 4000 + 1, 1000).contiguous().realize()
    kept = [(x + number).numpy() for number in range(5)]
    for number in range(5):
        (x * number).realize()
    assert [float(each.min()) for each in kept] == [float(each.max()) for each in kept] == [1, 2, 3, 4, 5]
