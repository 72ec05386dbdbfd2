"""x[…]: what a key means, reading by it, and writing by it.

Numbers and slices are views. Arrays of integers read by GATHER and write by SCATTER; where arrays are apart their
axes come first, as in NumPy. A number takes its axis away before arrays are looked at, whether Python or a tensor
holds it, as in PyTorch and tinygrad: in NumPy it is one array more. Numbers known now are checked now; what a tensor
holds is not looked at: a place that does not exist reads 0 and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from engine import build
from engine import dtype as dt
from engine.build import broadcast_shape, cast, const
from engine.errors import InvalidGraph
from engine.functions.arithmetic import add, less, logical_and, multiply, subtract, where
from engine.functions.movement import move_axes
from engine.ir import UOp
from engine.shapes import Shape, shape_of
from engine.sizes import extent, is_open


@dataclass(frozen=True, slots=True)
class Number:
    """One place of an axis, which disappears; checked and counted from the front."""

    place: int


@dataclass(frozen=True, slots=True)
class Span:
    """The places start, start + step, … (`count` of them) of an axis; `step` may be negative."""

    start: int
    step: int
    count: int


@dataclass(frozen=True, slots=True)
class Places:
    """The places of an axis that an integer node of any shape names."""

    index: UOp


@dataclass(frozen=True, slots=True)
class NewAxis:
    """None: an axis of size 1."""


Entry = Number | Span | Places | NewAxis


def span_of(given: slice, n: int) -> Span:
    """A slice of an axis of n."""
    if is_open(n) or any(map(is_open, (given.start, given.stop, given.step))):
        return _span_of_open(given, n)
    start, stop, step = given.indices(n)
    return Span(start, step, len(range(start, stop, step)))


def _span_of_open(given: slice, n: int) -> Span:
    """A slice of or to an open size: all of the axis, or what is there whatever the size (SHRINK's rule looks)."""
    start, stop, step = given.start or 0, n if given.stop is None else given.stop, given.step or 1
    if is_open(start) or is_open(step) or start < 0 or (not is_open(stop) and stop < 0):
        raise InvalidGraph(f"a slice of an axis of {n} that is counted from its end", "SHRINK")
    if (start, step) == (0, 1) and (is_open(stop) or stop >= extent(n)):
        return Span(0, 1, stop if is_open(stop) else n)
    first, last, step = slice(start, extent(stop), step).indices(extent(n))
    return Span(first, step, len(range(first, last, step)))


def number_of(place: int, axis: int, n: int) -> Number:
    """A place counted from either end; IndexError, with axis and size, where there is none."""
    if not -n <= place < n:
        raise IndexError(f"index {place} is out of range for axis {axis} of size {n}")
    return Number(place % n)


def counted(index: UOp, n: int) -> UOp:
    """int64 places where those below 0 count from the end of n."""
    places = cast(index, dt.int64)
    return places if index.dtype.is_unsigned else where(less(places, 0), add(places, n), places)


# ------------------------------------------------------------------------------------------------- reading


def read(x: UOp, entries: Sequence[Entry]) -> UOp:
    """x at a key, which has one entry for each axis of x, and NewAxis besides."""
    arrays = [bool(shape_of(entry.index)) for entry in entries if isinstance(entry, Places)]
    if any(arrays) and not all(arrays):
        return _read_in_turn(x, entries)
    viewed, left = _viewed(x, entries)
    return _gathered(viewed, left, _apart(entries)) if arrays else viewed


def _read_in_turn(x: UOp, entries: Sequence[Entry]) -> UOp:
    """Numbers that tensors hold first, then the rest."""
    numbers: list[Entry] = []
    rest: list[Entry] = []
    axes = iter(shape_of(x))
    for entry in entries:
        n = 1 if isinstance(entry, NewAxis) else next(axes)
        if isinstance(entry, Places) and not shape_of(entry.index):
            numbers.append(entry)
            continue
        rest.append(entry)
        if not isinstance(entry, NewAxis):
            numbers.append(Span(0, 1, n))
    return read(read(x, numbers), rest)


def _apart(entries: Sequence[Entry]) -> bool:
    """True where something else stands between arrays."""
    left = [entry for entry in entries if not isinstance(entry, Number)]
    named = [i for i, entry in enumerate(left) if isinstance(entry, Places)]
    return named != list(range(named[0], named[-1] + 1))


def _viewed(x: UOp, entries: Sequence[Entry]) -> tuple[UOp, list[UOp | None]]:
    """The slices taken, and for each axis left its places, if any."""
    cut: list[tuple[int, int, int]] = []
    flipped: list[int] = []
    shape: list[int] = []
    left: list[UOp | None] = []
    axes = iter(shape_of(x))
    for entry in entries:
        if isinstance(entry, NewAxis):
            shape.append(1)
            left.append(None)
            continue
        n = next(axes)
        span = _span(entry, n)
        if span.step < 0:
            flipped.append(len(cut))
        cut.append(_triple(span))
        if not isinstance(entry, Number):
            shape.append(span.count)
            left.append(counted(entry.index, n) if isinstance(entry, Places) else None)
    return build.reshape(build.flip(build.shrink(x, cut), tuple(flipped)), tuple(shape)), left


def _span(entry: Entry, n: int) -> Span:
    """What is cut out of an axis: all of it where places are read from it."""
    if isinstance(entry, Span):
        return entry
    return Span(entry.place, 1, 1) if isinstance(entry, Number) else Span(0, 1, n)


def _triple(span: Span) -> tuple[int, int, int]:
    """(start, stop, step) of a span from front to back."""
    if not span.count:
        return 0, 0, 1
    last = span.start + (span.count - 1) * span.step
    return (span.start, last + 1, span.step) if span.step > 0 else (last, span.start + 1, -span.step)


def _gathered(x: UOp, left: Sequence[UOp | None], apart: bool) -> UOp:
    """The axes with places gone; the places' own axes where those were, or in front if they were apart."""
    named = [axis for axis, places in enumerate(left) if places is not None]
    indices = [places for places in left if places is not None]
    common = broadcast_shape(*map(shape_of, indices))
    shape = shape_of(x)
    front = move_axes(x, named, range(len(named)))
    rest = tuple(n for axis, n in enumerate(shape) if axis not in named)
    flat = build.reshape(front, (prod(shape[axis] for axis in named), prod(rest)))
    at = build.reshape(_flat_places(indices, [shape[axis] for axis in named], common), (prod(common), 1))
    found = build.gather(flat, build.expand(at, (prod(common), prod(rest))), 0)
    found = build.reshape(found, (*common, *rest))
    if apart or not named[0]:
        return found
    return move_axes(found, range(len(common)), range(named[0], named[0] + len(common)))


def _flat_places(indices: Sequence[UOp], sizes: Sequence[int], common: Shape) -> UOp:
    """The place in the flattened axes; -1 where one of them does not exist."""
    flat: UOp | None = None
    inside: UOp | None = None
    for index, n in zip(indices, sizes, strict=True):
        fits = logical_and(less(index, n), less(-1, index))
        inside = fits if inside is None else logical_and(inside, fits)
        flat = index if flat is None else add(multiply(flat, n), index)
    assert flat is not None
    assert inside is not None
    if len(indices) == 1:
        return build.broadcast(flat, common)  # GATHER looks whether it exists
    return build.broadcast(where(inside, flat, -1), common)


# ------------------------------------------------------------------------------------------------- writing


def write(x: UOp, entries: Sequence[Entry], value: UOp) -> UOp:
    """x with `value`, cast and broadcast, at a key; of places named twice the last value stays."""
    value = cast(value, x.dtype)
    if any(isinstance(entry, Places) for entry in entries):
        return _scattered(x, entries, value)
    wanted = shape_of(read(x, entries))
    value = _fitting(value, wanted)
    spans = [_span(entry, 0) for entry in entries if not isinstance(entry, NewAxis)]
    shape = tuple(span.count for span in spans)
    if 0 in shape:
        return x
    value = build.reshape(value, shape)
    value = build.flip(value, tuple(axis for axis, span in enumerate(spans) if span.step < 0))
    triples = [(n, *_triple(span)) for span, n in zip(spans, shape_of(x), strict=True)]
    # _triple's stop is just behind the last place, so that no more than the rest lies behind it.
    widths = [(start, n - stop, step - 1) for n, start, stop, step in triples]
    here = build.pad(const(True, dt.bool_, shape), widths)
    return where(here, build.pad(value, widths), x)


def _fitting(value: UOp, wanted: Shape) -> UOp:
    """Broadcast to the shape of what it replaces; leading axes of size 1 may be too many, as in NumPy."""
    shape = shape_of(value)
    while len(shape) > len(wanted) and shape[0] == 1:
        shape = shape[1:]
    if len(shape) > len(wanted) or any(
        n not in (1, m) for n, m in zip(reversed(shape), reversed(wanted), strict=False)
    ):
        raise InvalidGraph(f"a value of shape {shape_of(value)} does not fit the {wanted} it replaces", "[]=")
    return build.broadcast(build.reshape(value, shape), wanted)


def _scattered(x: UOp, entries: Sequence[Entry], value: UOp) -> UOp:
    size = prod(shape_of(x))
    # Places are numbered from 1, so that what reads 0, as it is not there, becomes -1.
    numbered = build.reshape(add(build.iota(size), 1), shape_of(x))
    at = subtract(read(numbered, entries), 1)
    count = prod(shape_of(at))
    updates = build.reshape(_fitting(value, shape_of(at)), (count,))
    flat = build.scatter(build.reshape(x, (size,)), build.reshape(at, (count,)), updates, 0, "set")
    return build.reshape(flat, shape_of(x))
