"""Checks of numbers that lie in memory already: one pass over them, and none where it would compute something.

What is still to be computed is not looked at, nor anything while a function is recorded (engine.jit), as its replay
could not look: what a place does then that does not exist is said where it is used.
"""

from __future__ import annotations

import numpy as np

from engine.cell import watching
from engine.device.protocol import Absent
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.realize import Array, is_realized, memory
from engine.shapes import shape_of
from engine.simplify import number_of


def known(node: UOp) -> Array | None:
    """The node's elements if they are at hand; a constant's in one element."""
    number = number_of(node)
    if number is not None:
        return np.asarray(number)
    if watching() is not None or not is_realized(node):
        return None
    found = memory(node)
    return None if isinstance(found, Absent) else found


def check_places(index: UOp, axis: int, n: int, name: str, *, from_end: bool = False) -> None:
    """IndexError for a place that axis `axis`, of n, does not have; `from_end`: those below 0 count from its end."""
    outside = _outside(index, -n if from_end else 0, n, None)
    if outside is not None:
        raise IndexError(f"{name}: index {outside} is out of range for axis {axis} of size {n}")


def check_classes(target: UOp, classes: int, ignore_index: int, name: str) -> None:
    """IndexError for a target that is no class, unless it is the one to be ignored."""
    outside = _outside(target, 0, classes, ignore_index)
    if outside is not None:
        raise IndexError(
            f"{name}: target {outside} is not one of the classes 0 to {classes - 1} (nor ignore_index {ignore_index})"
        )


def check_probabilities(p: UOp, name: str) -> None:
    """InvalidGraph for what is not from 0 to 1."""
    values = known(p)
    if values is not None and values.size:
        wrong = values[~((values >= 0) & (values <= 1))]
        if wrong.size:
            raise InvalidGraph(f"probability {wrong.flat[0]} is not from 0 to 1", name)


def _outside(index: UOp, low: int, stop: int, allowed: int | None) -> int | None:
    """The first number below `low` or not below `stop`, other than the allowed one."""
    values = known(index)
    if 0 in shape_of(index) or values is None or values.dtype.kind not in "iu" or not values.size:
        return None
    if values.min() >= low and values.max() < stop:
        return None
    wrong = values[(values < low) | (values >= stop)]
    wrong = wrong if allowed is None else wrong[wrong != allowed]
    return int(wrong.flat[0]) if wrong.size else None
