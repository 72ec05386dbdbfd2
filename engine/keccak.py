"""The Keccak sponge (FIPS 202) as a graph over uint64 lanes: absorbing is one FOLD over the rounds of all blocks.

A state is 25 lanes, lane x + 5·y of the standard's A[x, y], each a node of one shape: as many states as the shape
has elements are permuted at once. The size of the graph depends neither on the length of the messages nor on how
many there are; with the length of the output it grows as its logarithm (see `squeeze`).

The FOLDs are flat (no loop in a loop), of element-wise bodies and states of one shape: one kernel's loop each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce as chain

from engine import dtype as dt
from engine.build import (
    bitcast,
    broadcast,
    cast,
    const,
    elementwise,
    expand,
    fold,
    iota_along,
    pad,
    permute,
    reshape,
    shrink,
)
from engine.errors import InvalidGraph
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import Shape, shape_of

LANES = 25
ROUNDS = 24
AT_ONCE = 2  # rounds in a FOLD's body: compile time and tracing against loop overhead; measured
STEPS = ROUNDS // AT_ONCE
WIDTH = 200  # bytes of a state
FANOUT = 8  # states that `squeeze` makes of each: fewer kernels against permutations that are thrown away
Lanes = tuple[UOp, ...]


@dataclass(frozen=True, slots=True)
class Sponge:
    """A hash made of Keccak-f[1600]: bytes absorbed at a time, what follows the message, bytes that come out.

    `suffix` is the domain's bits and the first 1 of the padding, as the byte behind the message. `length` is None
    where the caller chooses it.
    """

    rate: int
    suffix: int
    length: int | None

    def blocks(self, length: int) -> int:
        """How many blocks a message of `length` bytes is, padded: always at least a byte more than it."""
        return length // self.rate + 1


def _fixed(suffix: int, bits: int) -> Sponge:
    return Sponge(WIDTH - bits // 4, suffix, bits // 8)


SPONGES = {
    **{f"sha3_{bits}": _fixed(0x06, bits) for bits in (224, 256, 384, 512)},
    **{f"keccak_{bits}": _fixed(0x01, bits) for bits in (224, 256, 384, 512)},
    "shake_128": Sponge(WIDTH - 32, 0x1F, None),
    "shake_256": Sponge(WIDTH - 64, 0x1F, None),
}

# ------------------------------------------------------------------------------------- the permutation


def _rotations() -> tuple[int, ...]:
    """How far rho turns each lane: the triangular numbers along the walk (x, y) → (y, 2x + 3y)."""
    found = [0] * LANES
    x, y = 1, 0
    for t in range(LANES - 1):
        found[x + 5 * y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return tuple(found)


def _constant_bits() -> tuple[int, ...]:
    """Of iota's constants only the bits 2**j - 1 are ever set; entry j has that bit of round r as its bit r."""
    found, register = [0] * 7, 1
    for number in range(ROUNDS):
        for j in range(7):
            found[j] |= (register & 1) << number
            register = register << 1 ^ (0x171 if register & 0x80 else 0)  # x⁸ + x⁶ + x⁵ + x⁴ + 1
    return tuple(found)


_ROTATIONS = _rotations()
_CONSTANT_BITS = _constant_bits()


def _xor(*nodes: UOp) -> UOp:
    return chain(lambda a, b: elementwise(Op.XOR, a, b), nodes)


def _turn(lane: UOp, by: int) -> UOp:
    """`lane` rotated left."""
    if by == 0:
        return lane
    shape = shape_of(lane)
    left = elementwise(Op.SHL, lane, const(by, dt.uint64, shape))
    return elementwise(Op.OR, left, elementwise(Op.SHR, lane, const(64 - by, dt.uint64, shape)))


def _round_constant(number: UOp) -> UOp:
    """iota's constant of round `number`, a uint64 of shape (): a few ops on one number instead of a table in memory."""
    one = const(1, dt.uint64)
    bits = [
        elementwise(
            Op.SHL,
            elementwise(Op.AND, elementwise(Op.SHR, const(mask, dt.uint64), number), one),
            const((1 << j) - 1, dt.uint64),
        )
        for j, mask in enumerate(_CONSTANT_BITS)
    ]
    return chain(lambda a, b: elementwise(Op.OR, a, b), bits)


def _round(a: Lanes, constant: UOp) -> Lanes:
    """theta, rho, pi, chi and iota (FIPS 202, 3.2)."""
    column = [_xor(*a[x::5]) for x in range(5)]
    parity = [_xor(column[(x + 4) % 5], _turn(column[(x + 1) % 5], 1)) for x in range(5)]
    b = list(a)
    for y in range(5):
        for x in range(5):
            i = x + 5 * y
            b[y + 5 * ((2 * x + 3 * y) % 5)] = _turn(_xor(a[i], parity[x]), _ROTATIONS[i])
    found = [
        _xor(b[i], elementwise(Op.AND, elementwise(Op.NOT, b[(i + 1) % 5 + row]), b[(i + 2) % 5 + row]))
        for row in range(0, LANES, 5)
        for i in range(row, row + 5)
    ]
    return (_xor(found[0], constant), *found[1:])


def _rounds(lanes: Lanes, part: UOp) -> Lanes:
    """The rounds of one step of a FOLD: part 0 … STEPS - 1 of the permutation."""
    shape = shape_of(lanes[0])
    first = elementwise(Op.MUL, part, const(AT_ONCE, dt.uint64))
    for i in range(AT_ONCE):
        number = elementwise(Op.ADD, first, const(i, dt.uint64))
        lanes = _round(lanes, broadcast(_round_constant(number), shape))
    return lanes


def _part(step: UOp) -> UOp:
    """Which part of the permutation a step does, as uint64 of shape ()."""
    return bitcast(elementwise(Op.MOD, step, const(STEPS, dt.int64)), dt.uint64)


def permutations(state: Sequence[UOp], times: int) -> Lanes:
    """Keccak-f[1600] of 25 uint64 lanes of one shape, `times` in a row."""
    return fold(times * STEPS, state, (), lambda step, lanes, _: _rounds(lanes, _part(step)))


# ------------------------------------------------------------------------------------------ the sponge


def lanes_of(message: UOp, sponge: Sponge) -> UOp:
    """The uint8 messages (batch, n), padded, as uint64 lanes (blocks, rate / 8, batch)."""
    batch, length = shape_of(message)
    blocks = sponge.blocks(length)
    whole, lanes = length // 8, blocks * sponge.rate // 8
    rest = 8 * (lanes - whole)
    tail = _xor(
        _placed(shrink(message, ((0, batch, 1), (8 * whole, length, 1))), 0, rest),
        _placed(const(sponge.suffix, dt.uint8, (batch, 1)), length - 8 * whole, rest),
        _placed(const(0x80, dt.uint8, (batch, 1)), rest - 1, rest),
    )
    all_ = _placed(_in_memory(_joined(tail)), whole, lanes)
    if whole:
        # By a kernel of its own, which has no conditions: compilers then see that eight octets are one load.
        first = _in_memory(_joined(shrink(message, ((0, batch, 1), (0, 8 * whole, 1)))))
        all_ = _xor(_placed(first, 0, lanes), all_)
    return permute(reshape(all_, (batch, blocks, sponge.rate // 8)), (1, 2, 0))


def _in_memory(node: UOp) -> UOp:
    return UOp(Op.CONTIGUOUS, node.dtype, (node,), "global")


def _joined(octets: UOp) -> UOp:
    """uint8 (batch, 8 n) as uint64 (batch, n), the first octet lowest."""
    batch, count = shape_of(octets)
    wide = cast(reshape(octets, (batch, count // 8, 8)), dt.uint64)
    return chain(lambda a, b: elementwise(Op.OR, a, b), (_octet_in_place(wide, i) for i in range(8)))


def _octet_in_place(octets: UOp, number: int) -> UOp:
    """Octet `number` of each lane of uint64 (batch, lanes, 8), where it stands in the lane."""
    batch, lanes, _ = shape_of(octets)
    octet = shrink(octets, ((0, batch, 1), (0, lanes, 1), (number, number + 1, 1)))
    octet = reshape(octet, (batch, lanes))
    return elementwise(Op.SHL, octet, const(8 * number, dt.uint64, (batch, lanes))) if number else octet


def _placed(row: UOp, start: int, total: int) -> UOp:
    """(batch, n) with zeros round it: (batch, total)."""
    return pad(row, ((0, 0, 0), (start, total - start - shape_of(row)[1], 0)))


def absorb(lanes: UOp, counts: UOp | None = None) -> Lanes:
    """The states (batch,) after padded messages of uint64 (blocks, rate / 8, batch).

    With `counts`, int64 (batch,), message i is its first counts[i] blocks only: what lies behind them is ignored.
    """
    blocks, rate, batch = shape_of(lanes)
    # A kernel of its own: else each lane of each block would be put together from its bytes inside the loop.
    lanes = _in_memory(lanes)
    xs = [_each_step(shrink(lanes, ((0, blocks, 1), (i, i + 1, 1), (0, batch, 1)))) for i in range(rate)]
    if counts is not None:
        shape = (blocks, 1, batch)
        within = elementwise(Op.LT, iota_along(shape, 0), broadcast(counts, shape))
        xs.append(_each_step(within))

    def step(number: UOp, state: Lanes, block: Lanes) -> Lanes:
        first = broadcast(elementwise(Op.EQ, _part(number), const(0, dt.uint64)), (batch,))
        mixed = tuple(
            elementwise(Op.WHERE, first, _xor(lane, x), lane)
            for lane, x in zip(state, block[:rate], strict=False)
        )
        after = _rounds((*mixed, *state[rate:]), _part(number))
        if counts is None:
            return after
        return tuple(elementwise(Op.WHERE, block[rate], a, b) for a, b in zip(after, state, strict=True))

    return fold(blocks * STEPS, [const(0, dt.uint64, (batch,))] * LANES, xs, step)


def _each_step(x: UOp) -> UOp:
    """What is (blocks, 1, batch), for each step of each block: (blocks · STEPS, batch)."""
    blocks, _, batch = shape_of(x)
    return reshape(expand(x, (blocks, STEPS, batch)), (blocks * STEPS, batch))


def squeeze(state: Sequence[UOp], rate: int, length: int) -> UOp:
    """`length` bytes from each of the states (batch,), as uint8 (batch, length).

    Block b is the state after b more permutations. A FOLD keeps only its last states, so the blocks are found from
    coarse to fine, FANOUT times as many by each of log(blocks) FOLDs: see `_refined`.
    """
    (batch,) = shape_of(state[0])
    blocks = max(1, -(-length // rate))
    lanes = tuple(reshape(lane, (batch, 1)) for lane in state)
    apart = 1
    while apart < blocks:
        apart *= FANOUT
    while apart > 1:
        apart //= FANOUT
        lanes = _refined(lanes, apart, -(-blocks // apart))
    used = min(rate, length + 7) // 8  # of the last permutation's lanes: what nobody reads is not kept
    return shrink(_octets(lanes[:used]), ((0, batch, 1), (0, length, 1)))


def _refined(lanes: Lanes, apart: int, count: int) -> Lanes:
    """From states (batch, m), each FANOUT · apart permutations behind the one before: the first `count` so `apart`."""
    batch, m = shape_of(lanes[0])
    shape = (batch, m, min(FANOUT, count))
    times = elementwise(Op.MUL, iota_along(shape, 2), const(apart * STEPS, dt.int64, shape))

    def step(number: UOp, now: Lanes, _: Lanes) -> Lanes:
        moves = elementwise(Op.LT, broadcast(number, shape), times)
        after = _rounds(now, _part(number))
        return tuple(elementwise(Op.WHERE, moves, a, b) for a, b in zip(after, now, strict=True))

    inits = [expand(reshape(lane, (batch, m, 1)), shape) for lane in lanes]
    found = fold((shape[2] - 1) * apart * STEPS, inits, (), step)
    return tuple(
        shrink(reshape(lane, (batch, m * shape[2])), ((0, batch, 1), (0, count, 1))) for lane in found
    )


def _octets(lanes: Sequence[UOp]) -> UOp:
    """Lanes (batch, blocks), as the bytes (batch, blocks · lanes · 8) that they are, the least first."""
    batch, blocks = shape_of(lanes[0])
    width = len(lanes)
    rows = [
        pad(reshape(lane, (batch, blocks, 1)), ((0, 0, 0), (0, 0, 0), (i, width - 1 - i, 0)))
        for i, lane in enumerate(lanes)
    ]
    words = chain(lambda a, b: elementwise(Op.OR, a, b), rows)
    shape: Shape = (batch, blocks, width, 8)
    spread = broadcast(reshape(words, (batch, blocks, width, 1)), shape)
    eight = const(8, dt.uint64, shape)
    places = elementwise(Op.MUL, bitcast(iota_along(shape, 3), dt.uint64), eight)
    octets = cast(elementwise(Op.SHR, spread, places), dt.uint8)
    return reshape(octets, (batch, blocks * width * 8))


def digest(message: UOp, sponge: Sponge, length: int) -> UOp:
    """The hashes of `length` bytes, uint8 (…, length), of the uint8 messages (…, n). InvalidGraph for another dtype."""
    if message.dtype is not dt.uint8 or not shape_of(message):
        given = f"{message.dtype.name} {shape_of(message)}"
        raise InvalidGraph(f"hashes rows of uint8 bytes, not {given}", "digest")
    *batch, n = shape_of(message)
    count = 1
    for size in batch:
        count *= size
    rows = reshape(message, (count, n))
    found = squeeze(absorb(lanes_of(rows, sponge)), sponge.rate, length)
    return reshape(found, (*batch, length))
