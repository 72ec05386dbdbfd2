"""Random numbers as tensor ops: Threefry2x32-20 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers", 2011.

Where numbers come from is a *state*, a uint64 node of shape (2,): a seed and how many counters of its stream were
used. Element i of what is drawn is made of the block cipher's two words for key = seed and counter = used + i (and,
where two words do not do, of those that are as many further as there are elements). So a state gives the same
numbers on every device: bit for bit if they are uniform, but for contractions of a·b + c if they are normal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi, prod

from engine import dtype as dt
from engine.build import bitcast, broadcast, cast, iota, reshape, shrink
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.functions.scan import accumulated
from engine.functions.sorting import argsort, search
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of
from engine.term import Term
from engine.transcendental import logarithm, sine_and_cosine

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
ROUNDS = 20
Words = tuple[Term, Term]
Source = Callable[[int], UOp]  # how many counters will be used → a state of which they are free


def threefry(key: Words, counter: Words) -> Words:
    """The two uint32 words that Threefry2x32-20 makes of a counter's two (the low one first) under a key's two."""
    keys = (*key, key[0] ^ key[1] ^ PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(ROUNDS):
        x = x + y
        by = ROTATIONS[i % 8]
        y = ((y << by) | (y >> (32 - by))) ^ x
        if i % 4 == 3:
            turn = i // 4 + 1
            x, y = x + keys[turn % 3], y + keys[(turn + 1) % 3] + turn
    return x, y


@dataclass(frozen=True, slots=True)
class Draw:
    """Random words for each element of `shape`, from a state; see the module."""

    state: UOp
    shape: Shape

    @classmethod
    def taken(cls, source: Source, shape: Shape, words: int = 1) -> Draw:
        """One for so many numbers of `words` or `word`, as a `source` of states gives it."""
        return cls(source(words * prod(shape)), shape)

    def words(self, number: int = 0) -> Words:
        """Two random uint32 words an element, others for each number."""
        seed, used = (self._part(i) for i in range(2))
        n = prod(self.shape)
        place = Term(reshape(bitcast(iota(n), dt.uint64), self.shape), self.shape)
        return threefry(_split(seed), _split(place + used + number * n))

    def word(self, number: int = 0) -> Term:
        """One random uint64 an element."""
        high, low = self.words(number)
        return (high.cast(dt.uint64) << 32) | low.cast(dt.uint64)

    def _part(self, i: int) -> Term:
        return Term(broadcast(reshape(shrink(self.state, [(i, i + 1, 1)]), ()), self.shape), self.shape)


def _split(word: Term) -> Words:
    return word.cast(dt.uint32), (word >> 32).cast(dt.uint32)


# ----------------------------------------------------------------------------------------------- floats


def _floats(dtype: DType, what: str) -> DType:
    if not dt.checked(dtype).is_float or dtype.is_storage:
        raise InvalidGraph(f"random numbers of {dtype.name} are not there; use a float to compute in", what)
    return dtype


def uniform(source: Source, shape: Shape, dtype: DType) -> UOp:
    """Multiples of 2**-p from 0 up to, not including, 1, all as likely: p is 24, for float64 53, float16 11, bfloat16 8."""
    digits = _floats(dtype, "uniform").mantissa + 1
    draw = Draw.taken(source, shape)
    word, width = (draw.word(), 64) if dtype is dt.float64 else (draw.words()[0], 32)
    return ((word >> (width - digits)).cast(dtype) * 2.0**-digits).node


def normal(source: Source, shape: Shape, dtype: DType) -> UOp:
    """Normal numbers of mean 0 and standard deviation 1, by Box and Muller's polar form of two uniform ones.

    float16 and bfloat16 are float32 rounded. |x| is at most 5.8; of float64, 8.6.
    """
    wide = dt.float64 if _floats(dtype, "normal") is dt.float64 else dt.float32
    draw = Draw.taken(source, shape, 2 if wide is dt.float64 else 1)
    first, second = (draw.word(0), draw.word(1)) if wide is dt.float64 else draw.words()
    width, digits = first.dtype.bits, wide.mantissa + 1
    # From 2**-digits to 1: the logarithm has a value.
    radius = (logarithm(((first >> (width - digits)) + 1).cast(wide) * 2.0**-digits) * -2.0).root()
    return (radius * _cosine_of_turn(second, wide)).cast(dtype).node


def _cosine_of_turn(word: Term, dtype: DType) -> Term:
    """cos(2π · word / 2**width) of an unsigned word: its two first digits are the quarter, rounded; no digit is lost."""
    width, signed = word.dtype.bits, dt.int64 if word.dtype is dt.uint64 else dt.int32
    quarter = (word + (1 << (width - 3))) >> (width - 2)
    rest = (word << 2).bits(signed).cast(dtype)
    sine, cosine = sine_and_cosine(rest * (pi / 2 * 2.0**-width))
    found = (quarter & 1).equals(1).where(sine, cosine)
    # cos, -sin, -cos, sin
    return ((quarter + 1) & 2).equals(2).where(-found, found)


def integers(source: Source, shape: Shape, low: int, high: int, dtype: DType) -> UOp:
    """Whole numbers from `low` up to, not including, `high`, of an integer dtype.

    A random fraction times the number of choices, rounded down. The fraction has 64 binary digits for up to 2**32
    choices and else 128, so that none is likelier than another by more than one part in 2**32, or 2**64. InvalidGraph
    if there is no choice, or one that the dtype cannot hold.
    """
    if not dtype.is_int or not dtype.low <= low < high <= dtype.high + 1:
        raise InvalidGraph(f"cannot choose from [{low}, {high}) as {dtype.name}", "randint")
    choices = high - low
    if choices <= 1 << 32:
        found = _few(Draw.taken(source, shape), choices)
    else:
        found = _many(Draw.taken(source, shape, 2), choices)
    return (found + low % (1 << 64)).cast(dtype).node


def _few(draw: Draw, choices: int) -> Term:
    high, low = (word.cast(dt.uint64) for word in draw.words())
    return (high * choices + ((low * choices) >> 32)) >> 32


def _many(draw: Draw, choices: int) -> Term:
    high, low = draw.word(0), draw.word(1)
    if choices == 1 << 64:
        return high
    below = high * choices
    total = below + _upper_product(low, choices)
    return _upper_product(high, choices) + (total < below).cast(dt.uint64)


def _upper_product(a: Term, b: int) -> Term:
    """The upper 64 bits of a · b, of uint64."""
    a_low, a_high = a & 0xFFFFFFFF, a >> 32
    b_low, b_high = b & 0xFFFFFFFF, b >> 32
    middle = a_high * b_low + ((a_low * b_low) >> 32)
    other = a_low * b_high + (middle & 0xFFFFFFFF)
    return a_high * b_high + (middle >> 32) + (other >> 32)


# ----------------------------------------------------------------------------------------------- orders


def permutation(source: Source, n: int) -> UOp:
    """The numbers 0 … n - 1 in random order, int64: the order of as many random 64-bit keys."""
    return argsort(Draw.taken(source, (n,)).word().node, 0, False)


def choices(source: Source, weights: UOp, count: int, replace: bool) -> UOp:
    """int64 (…, count): numbers of the weights (…, n), chosen in proportion to them, with or without replacement.

    With: where a random part of the weights' sum falls among their partial sums. Without: those of the least -ln(u)
    / weight, a race of exponential clocks; weights of 0 are never chosen, if there are enough others.
    """
    *batch, n = shape_of(weights)
    wide = cast(weights, dt.float64)
    if replace:
        return _fallen(uniform(source, (*batch, count), dt.float64), accumulated(Op.ADD, wide, -1, None))
    u = Term(uniform(source, (*batch, n), dt.float64), (*batch, n))
    clocks = -logarithm(-u + 1.0) / Term(wide, (*batch, n))
    weightless = Term(wide, (*batch, n)).equals(0.0)
    found = argsort(weightless.where(float("inf"), clocks).node, -1, False)
    return shrink(found, [*((0, size, 1) for size in batch), (0, count, 1)])


def _fallen(parts: UOp, sums: UOp) -> UOp:
    """How many of the partial sums (…, n) each part (…, count) of the last one has reached."""
    *batch, count = shape_of(parts)
    n = shape_of(sums)[-1]
    total = shrink(sums, [*((0, size, 1) for size in batch), (n - 1, n, 1)])
    whole = Term(broadcast(total, (*batch, count)), (*batch, count))
    # A product that is rounded up to the whole sum would fall behind the last weight.
    point = (Term(parts, whole.shape) * whole).at_most(whole * (1 - 2.0**-52))
    return search(sums, point.node, True)
