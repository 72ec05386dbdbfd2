"""Einstein's sums: "ij,jk->ik" and all that may be written so.

Repeated labels of one operand are its diagonal, ... is the axes no label names (they broadcast), and without ->
the labels used once remain, in alphabetical order. Operands are contracted two at a time, at each step the pair
whose result has the fewest elements in proportion to what it takes away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from engine import build
from engine import dtype as dt
from engine.build import cast
from engine.errors import InvalidGraph
from engine.functions.arithmetic import common_type, multiply, wider
from engine.functions.movement import diagonal
from engine.functions.reduction import reduce
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of


@dataclass(frozen=True, slots=True)
class _Operand:
    """A node and one label for each axis, no label twice."""

    node: UOp
    labels: tuple[str, ...]


def einsum(formula: str, nodes: Sequence[UOp]) -> UOp:
    """The sum that `formula` names. InvalidGraph where it cannot be read or does not fit the nodes' shapes."""
    inputs, output = _parsed(formula, nodes)
    dtype = common_type(*nodes)
    if dtype is dt.bool_:
        raise InvalidGraph("is not defined for bool; cast with .int() or .float()", "einsum")
    operands = [
        _diagonals(wider(cast(node, dtype)), labels) for node, labels in zip(nodes, inputs, strict=True)
    ]
    sizes = _sizes(operands, formula)
    operands = [
        _summed(operand, _elsewhere(operands, i, output), sizes) for i, operand in enumerate(operands)
    ]
    while len(operands) > 1:
        i, j = _best_pair(operands, output, sizes)
        rest = [operand for k, operand in enumerate(operands) if k not in (i, j)]
        kept = set(output).union(*(operand.labels for operand in rest))
        operands = [*rest, _contracted(operands[i], operands[j], kept, sizes)]
    (last,) = operands
    found = build.permute(last.node, tuple(last.labels.index(label) for label in output))
    return cast(build.broadcast(found, tuple(sizes[label] for label in output)), dtype)


# ------------------------------------------------------------------------------------------------ reading


def _parsed(formula: str, nodes: Sequence[UOp]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    left, arrow, right = formula.replace(" ", "").partition("->")
    texts = left.split(",")
    if len(texts) != len(nodes):
        raise InvalidGraph(f"{formula!r} is of {len(texts)} operands, not {len(nodes)}", "einsum")
    inputs = [_labels(text, len(shape_of(node)), formula) for text, node in zip(texts, nodes, strict=True)]
    dots = max((sum(label.startswith(".") for label in labels) for labels in inputs), default=0)
    around = tuple(f".{i}" for i in range(dots, 0, -1))
    if arrow:
        output = _split(right, around, formula)
    else:
        used = [label for labels in inputs for label in labels if not label.startswith(".")]
        output = (*around, *sorted(label for label in set(used) if used.count(label) == 1))
    known = {label for labels in inputs for label in labels}
    wrong = [label for label in output if label not in known]
    if wrong or len(set(output)) != len(output):
        raise InvalidGraph(f"{formula!r}: the result's labels must be the operands', each once", "einsum")
    return inputs, output


def _labels(text: str, ndim: int, formula: str) -> tuple[str, ...]:
    """One label for each axis; the axes of ... are named .1 from the last one on."""
    letters = text.replace("...", "")
    left = ndim - len(letters)
    if left < 0 or (left and "..." not in text):
        raise InvalidGraph(f"{formula!r}: {text!r} names {len(letters)} axes, not {ndim}", "einsum")
    return _split(text, tuple(f".{i}" for i in range(left, 0, -1)), formula)


def _split(text: str, around: tuple[str, ...], formula: str) -> tuple[str, ...]:
    before, dots, behind = text.partition("...")
    if not (before + behind).isalpha() and before + behind:
        raise InvalidGraph(f"{formula!r}: {text!r} is not letters and at most one ...", "einsum")
    return (*before, *(around if dots else ()), *behind)


def _diagonals(node: UOp, labels: tuple[str, ...]) -> _Operand:
    """Labels named twice become the diagonal of their axes."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            if shape_of(node)[i] != shape_of(node)[j]:
                raise InvalidGraph(
                    f"{label!r} is an axis of {shape_of(node)[i]} and of {shape_of(node)[j]}", "einsum"
                )
            node = diagonal(node, 0, i, j)
            labels = (*(other for k, other in enumerate(labels) if k not in (i, j)), label)
    return _Operand(node, labels)


def _sizes(operands: Sequence[_Operand], formula: str) -> dict[str, int]:
    """The size of each label; an axis of size 1 fits any."""
    sizes: dict[str, int] = {}
    for operand in operands:
        for label, n in zip(operand.labels, shape_of(operand.node), strict=True):
            known = sizes.get(label, 1)
            if known != 1 and n not in (1, known):
                raise InvalidGraph(f"{formula!r}: {label!r} is an axis of {known} and of {n}", "einsum")
            sizes[label] = n if known == 1 else known
    return sizes


# -------------------------------------------------------------------------------------------- contracting


def _elsewhere(operands: Sequence[_Operand], at: int, output: tuple[str, ...]) -> set[str]:
    return set(output).union(*(operand.labels for i, operand in enumerate(operands) if i != at))


def _summed(operand: _Operand, kept: set[str], sizes: dict[str, int]) -> _Operand:
    """Summed over the labels that nobody else wants."""
    gone = tuple(i for i, label in enumerate(operand.labels) if label not in kept)
    if not gone:
        return operand
    shape = tuple(
        sizes[label] if label not in kept else n
        for label, n in zip(operand.labels, shape_of(operand.node), strict=True)
    )
    node = reduce(Op.ADD, build.expand(operand.node, shape), gone, False)
    return _Operand(node, tuple(label for label in operand.labels if label in kept))


def _best_pair(
    operands: Sequence[_Operand], output: tuple[str, ...], sizes: dict[str, int]
) -> tuple[int, int]:
    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        i, j = pair
        a, b = set(operands[i].labels), set(operands[j].labels)
        rest = (operand.labels for k, operand in enumerate(operands) if k not in pair)
        kept = (a | b) & set(output).union(*rest)
        elements, a_elements, b_elements = (prod(sizes[label] for label in s) for s in (kept, a, b))
        return elements - a_elements - b_elements, prod(sizes[label] for label in a | b)

    return min(combinations(range(len(operands)), 2), key=cost)


def _contracted(a: _Operand, b: _Operand, kept: set[str], sizes: dict[str, int]) -> _Operand:
    """The product of two operands, summed over the labels that only they have: those stand last."""
    labels = tuple(dict.fromkeys(a.labels + b.labels))
    labels = (*(x for x in labels if x in kept), *(x for x in labels if x not in kept))
    product = multiply(_aligned(a, labels), _aligned(b, labels))
    return _summed(_Operand(product, labels), kept, sizes)


def _aligned(operand: _Operand, labels: tuple[str, ...]) -> UOp:
    order = tuple(operand.labels.index(label) for label in labels if label in operand.labels)
    shape = iter(shape_of(build.permute(operand.node, order)))
    full = tuple(next(shape) if label in operand.labels else 1 for label in labels)
    return build.reshape(build.permute(operand.node, order), full)
