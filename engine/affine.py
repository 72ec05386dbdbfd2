"""Integer expressions as sums of scaled terms, and how such sums are divided, reduced modulo and compared.

Everything here is about index arithmetic: `(i*8 + j) // 8` is `i` when j stays below 8. A sum is taken apart only
where it provably does not wrap, so that the laws of whole numbers hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from engine.bounds import Interval, bounds, fits, unwrapped
from engine.dtype import DType, bool_
from engine.ir import UOp
from engine.ops import Op

MAX_TERMS = 32


@dataclass(frozen=True)
class Affine:
    """Σ coefficient · node + offset, of integer nodes that are all of `dtype`."""

    dtype: DType
    terms: tuple[tuple[UOp, int], ...]
    offset: int

    def interval(self) -> Interval:
        """The least and greatest value."""
        low = high = self.offset
        for node, coefficient in self.terms:
            ends = [end * coefficient for end in bounds(node)]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def split(self, divisor: int) -> tuple[Affine, Affine]:
        """(q, r) with self = q · divisor + r: q of the terms that divide, r's offset from 0 to divisor - 1."""
        whole = tuple((n, k // divisor) for n, k in self.terms if k % divisor == 0)
        rest = tuple((n, k) for n, k in self.terms if k % divisor)
        return (
            Affine(self.dtype, whole, self.offset // divisor),
            Affine(self.dtype, rest, self.offset % divisor),
        )

    def split_all(self, divisor: int) -> tuple[Affine, Affine]:
        """(q, r) as `split`, with every coefficient divided: r's are from 0 to divisor - 1."""
        whole = tuple((n, k // divisor) for n, k in self.terms if k // divisor)
        rest = tuple((n, k % divisor) for n, k in self.terms if k % divisor)
        return (
            Affine(self.dtype, whole, self.offset // divisor),
            Affine(self.dtype, rest, self.offset % divisor),
        )

    def is_number(self) -> bool:
        """True when no term is left."""
        return not self.terms


def affine(root: UOp) -> Affine | None:
    """`root` taken apart; None if it has too many terms. Subexpressions that may wrap stay whole."""
    terms: dict[UOp, int] = {}
    offset = 0
    stack = [(root, 1)]
    while stack:
        node, scale = stack.pop()
        if node.op is Op.CONST:
            offset += scale * node.arg
        elif node.op in (Op.ADD, Op.SUB, Op.MUL, Op.NEG) and fits(unwrapped(node), node.dtype):
            parts = _parts(node)
            if parts is None:
                terms[node] = terms.get(node, 0) + scale
            else:
                stack.extend((part, scale * k) for part, k in reversed(parts))
        else:
            terms[node] = terms.get(node, 0) + scale
        if len(terms) + len(stack) > MAX_TERMS:
            return None
    return Affine(root.dtype, tuple((n, k) for n, k in terms.items() if k), offset)


def _parts(node: UOp) -> list[tuple[UOp, int]] | None:
    if node.op is Op.NEG:
        return [(node.src[0], -1)]
    a, b = node.src
    if node.op is Op.MUL:
        return [(a, b.arg)] if b.op is Op.CONST else [(b, a.arg)] if a.op is Op.CONST else None
    return [(a, 1), (b, 1 if node.op is Op.ADD else -1)]


def rebuild(sum_: Affine) -> UOp:
    """The sum as a graph: terms in order, then the offset. Every constant fits, as the sum's value does."""
    found: UOp | None = None
    for node, coefficient in sum_.terms:
        term = node if coefficient == 1 else _mul(node, coefficient)
        found = term if found is None else UOp(Op.ADD, sum_.dtype, (found, term))
    offset = UOp(Op.CONST, sum_.dtype, (), sum_.offset)
    if found is None:
        return offset
    return UOp(Op.ADD, sum_.dtype, (found, offset)) if sum_.offset else found


def _mul(node: UOp, number: int) -> UOp:
    return UOp(Op.MUL, node.dtype, (node, UOp(Op.CONST, node.dtype, (), number)))


def _representable(*sums: Affine) -> bool:
    """Can each sum be written with constants of its type, and not wrap?"""
    return all(
        fits(s.interval(), s.dtype)
        and fits((s.offset, s.offset), s.dtype)
        and all(fits((k, k), s.dtype) for _, k in s.terms)
        for s in sums
    )


def _join(a: Affine, b: Affine, scale: int) -> Affine:
    """a · scale + b."""
    terms = {n: k * scale for n, k in a.terms}
    for node, coefficient in b.terms:
        terms[node] = terms.get(node, 0) + coefficient
    return Affine(a.dtype, tuple((n, k) for n, k in terms.items() if k), a.offset * scale + b.offset)


def _best_split(sum_: Affine, divisor: int) -> tuple[Affine, Affine]:
    """With all coefficients divided where one quotient is then left for the rest, else with those that divide."""
    whole, rest = sum_.split_all(divisor)
    least, most = rest.interval()
    if least // divisor == most // divisor and _representable(whole, rest):
        return whole, rest
    return sum_.split(divisor)


def _steps(sum_: Affine, divisor: int) -> list[int]:
    """Common factors of the divisor and a term, greatest first: where the sum may be cut in two digits."""
    return sorted({gcd(k, divisor) for _, k in sum_.terms} - {1, divisor}, reverse=True)


def _digits(rest: Affine, divisor: int) -> tuple[int, Affine, Affine] | None:
    """(g, high, low) with rest = high · g + low, 0 ≤ low < g, and g a factor of the divisor."""
    for step in _steps(rest, divisor):
        high, low = rest.split(step)
        least, most = low.interval()
        if least >= 0 and most < step:
            return step, high, low
    return None


def quotient(numerator: UOp, divisor: int) -> UOp | None:
    """A simpler graph for `numerator // divisor` (a positive number); None when none is found."""
    sum_ = affine(numerator)
    if sum_ is None:
        return None
    whole, rest = _best_split(sum_, divisor)
    least, most = rest.interval()
    if not _representable(whole, rest):
        return None
    if least // divisor == most // divisor:
        found = _join(whole, Affine(sum_.dtype, (), least // divisor), 1)
        return rebuild(found) if _representable(found) else None
    digits = _digits(rest, divisor)
    if digits is not None:
        step, high, _ = digits
        inner = _divide(rebuild(high), divisor // step)
        return _plus(whole, inner) if _representable(high) else None
    changed = bool(whole.terms) or whole.offset
    return _plus(whole, _divide(rebuild(rest), divisor)) if changed else None


def _divide(node: UOp, divisor: int) -> UOp:
    return UOp(Op.IDIV, node.dtype, (node, UOp(Op.CONST, node.dtype, (), divisor)))


def _plus(sum_: Affine, node: UOp) -> UOp:
    if sum_.is_number() and not sum_.offset:
        return node
    return UOp(Op.ADD, node.dtype, (rebuild(sum_), node))


def remainder(numerator: UOp, divisor: int) -> UOp | None:
    """A simpler graph for `numerator % divisor` (a positive number); None when none is found."""
    sum_ = affine(numerator)
    if sum_ is None:
        return None
    whole, rest = _best_split(sum_, divisor)
    if not _representable(rest):
        return None
    least, most = rest.interval()
    if least // divisor == most // divisor:
        found = Affine(rest.dtype, rest.terms, rest.offset - least // divisor * divisor)
        return rebuild(found) if _representable(found) else None
    digits = _digits(rest, divisor)
    if digits is not None:
        step, high, low = digits
        return _scaled_remainder(high, divisor // step, step, low) if _representable(high, low) else None
    if not whole.terms and not whole.offset:
        return None
    return UOp(Op.MOD, sum_.dtype, (rebuild(rest), UOp(Op.CONST, sum_.dtype, (), divisor)))


def _scaled_remainder(high: Affine, divisor: int, step: int, low: Affine) -> UOp:
    """(high % divisor) · step + low."""
    inner = UOp(Op.MOD, high.dtype, (rebuild(high), UOp(Op.CONST, high.dtype, (), divisor)))
    scaled = _mul(inner, step)
    return scaled if low.is_number() and not low.offset else UOp(Op.ADD, high.dtype, (scaled, rebuild(low)))


def less_than(left: UOp, bound: int) -> UOp | None:
    """A simpler graph for `left < bound`; None when none is found."""
    sum_ = affine(left)
    if sum_ is None or sum_.is_number():
        return None
    free, limit = Affine(sum_.dtype, sum_.terms, 0), bound - sum_.offset
    step = _common_step(free)
    if step > 1:
        high, low = free.split(step)
        # high · step + low < limit, with 0 ≤ low < step: low only matters when step does not divide limit.
        if low.is_number() or limit % step == 0:
            free, limit = high, -(-limit // step)
    if (free.terms, limit) == (sum_.terms, bound) or not _representable(free):
        return None
    if not fits((limit, limit), sum_.dtype):
        return None
    return UOp(Op.LT, bool_, (rebuild(free), UOp(Op.CONST, sum_.dtype, (), limit)))


def _common_step(free: Affine) -> int:
    """The greatest factor of some terms below which all the others together stay, at least 0; else 1."""
    for step in sorted({abs(k) for _, k in free.terms} | {gcd(*(k for _, k in free.terms))}, reverse=True):
        least, most = free.split(step)[1].interval()
        if step > 1 and least >= 0 and most < step:
            return step
    return 1


def recombined(node: UOp) -> UOp | None:
    """`(x // c) * (c * k) + (x % c) * k` in a sum as `x * k`; None when there is no such pair."""
    sum_ = affine(node)
    if sum_ is None:
        return None
    scales = dict(sum_.terms)
    for part, k in sum_.terms:
        if part.op is not Op.MOD or part.src[1].op is not Op.CONST:
            continue
        other = UOp(Op.IDIV, part.dtype, part.src)
        if scales.get(other) == k * part.src[1].arg:
            del scales[other], scales[part]
            scales[part.src[0]] = scales.get(part.src[0], 0) + k
            found = Affine(sum_.dtype, tuple((n, s) for n, s in scales.items() if s), sum_.offset)
            return rebuild(found) if _representable(found) else None
    return None
