"""A small version of a kernel: the same structure, every independent dimension small, ragged and different.

Candidates are verified on it. Dimensions that the graph ties together (operands of an addition, the halves of
a reshape) shrink together: each dimension is a product of *atoms*, and ops equate such products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import prod

from engine.ir import UOp, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.shapes import Shape, shape_of

# Atoms whose product is a dimension's size; a dimension of size 1 has none.
Dim = tuple[int, ...]

# Elements of the largest shrunk iteration space: what the interpreter does in some 20 ms.
VOLUME = 3_000_000
# Sizes up to this stay as they are: nothing tiles them.
SHORT = 13
# No side is longer: some passes over a tile of 8 vectors of 16 lanes.
LIMIT = 521


def shrink(kernel: Kernel, limit: int = LIMIT) -> Kernel:
    """The kernel with its sizes made small, no side longer than `limit` unless a reshape pins it.

    Sizes become distinct primes, so that no tile divides them and no two axes can be confused; the shortest
    stay. Slots, dtypes, constants and the order of ops are unchanged. A kernel with a FOLD stays as it is.
    """
    return _resized(kernel, lambda atoms: _small_sizes(atoms, limit))


def structure(kernel: Kernel) -> Kernel:
    """The kernel at sizes that tell nothing: kernels that differ in their long sizes alone have one structure."""
    return _resized(kernel, _sizes_in_order)


def _resized(kernel: Kernel, choose: Callable[[_Atoms], dict[int, int]]) -> Kernel:
    if any(node.op is Op.FOLD for node in toposort(kernel.output)):
        return kernel
    atoms = _Atoms()
    dims: dict[UOp, tuple[Dim, ...]] = {}
    for node in toposort(kernel.output):
        dims[node] = _dims_of(node, dims, atoms)
    sizes = choose(atoms)
    shapes = {node: _shape(atoms, sizes, found) for node, found in dims.items()}
    return Kernel(_rebuild(kernel.output, shapes))


@dataclass
class _Atoms:
    """Union-find over atoms: an atom is free, frozen at its size, or bound to a product of others."""

    sizes: list[int] = field(default_factory=list)
    bound: dict[int, Dim] = field(default_factory=dict)
    frozen: set[int] = field(default_factory=set)

    def fresh(self, size: int) -> Dim:
        if size == 1:
            return ()
        self.sizes.append(size)
        return (len(self.sizes) - 1,)

    def resolve(self, dim: Dim) -> Dim:
        """The dimension as unbound atoms."""
        found: list[int] = []
        stack = list(reversed(dim))
        while stack:
            atom = stack.pop()
            if atom in self.bound:
                stack.extend(reversed(self.bound[atom]))
            else:
                found.append(atom)
        return tuple(found)

    def size(self, dim: Dim) -> int:
        return prod(self.sizes[atom] for atom in dim)

    def freeze(self, dim: Dim) -> None:
        self.frozen.update(self.resolve(dim))

    def bind(self, atom: int, dim: Dim) -> None:
        if atom in self.frozen:
            self.freeze(dim)
        if dim != (atom,):
            self.bound[atom] = dim

    def equate(self, a: Dim, b: Dim) -> None:
        """Make two dimensions of equal size one; where their atoms do not line up, freeze both."""
        a, b = self.resolve(a), self.resolve(b)
        if a == b:
            return
        if len(a) == 1 and a[0] not in b:
            self.bind(a[0], b)
        elif len(b) == 1 and b[0] not in a:
            self.bind(b[0], a)
        elif [self.sizes[x] for x in a] == [self.sizes[x] for x in b]:
            for x, y in zip(a, b, strict=True):
                self.equate((x,), (y,))
        else:
            self.freeze(a + b)


def _dims_of(node: UOp, dims: dict[UOp, tuple[Dim, ...]], atoms: _Atoms) -> tuple[Dim, ...]:
    src = [dims[source] for source in node.src]
    match node.op:
        case Op.PARAM:
            return tuple(atoms.fresh(size) for size in node.arg[1])
        case Op.CONST:
            return ()
        case Op.IOTA:
            return _pinned((), (node.arg,), atoms)
        case Op.FLIP:
            return src[0]
        case Op.SHRINK | Op.PAD:
            return _cut_or_padded(node, src[0], atoms)
        case Op.GATHER | Op.SCATTER:
            return _indexed(node, src, atoms)
        case Op.PERMUTE:
            return tuple(src[0][axis] for axis in node.arg)
        case Op.REDUCE:
            return tuple(dim for axis, dim in enumerate(src[0]) if axis not in node.arg[1])
        case Op.EXPAND:
            return _expand(src[0], shape_of(node.src[0]), node.arg, atoms)
        case Op.RESHAPE:
            return _reshape(src[0], shape_of(node.src[0]), node.arg, atoms)
    for other in src[1:]:
        for a, b in zip(src[0], other, strict=True):
            atoms.equate(a, b)
    return src[0]


def _cut_or_padded(node: UOp, dims: tuple[Dim, ...], atoms: _Atoms) -> tuple[Dim, ...]:
    """Axes that stay whole keep their dimension; the others keep their sizes."""
    sizes = zip(dims, shape_of(node.src[0]), shape_of(node), node.arg, strict=True)
    return tuple(
        dim if entry == _untouched(node.op, before) else _pinned(dim, (after,), atoms)[0]
        for dim, before, after, entry in sizes
    )


def _untouched(op: Op, size: int) -> tuple[int, int, int]:
    return (0, size, 1) if op is Op.SHRINK else (0, 0, 0)


def _indexed(node: UOp, src: list[tuple[Dim, ...]], atoms: _Atoms) -> tuple[Dim, ...]:
    """All axes but the indexed one are alike; that one keeps its sizes, which the indices mean."""
    axis = node.arg if node.op is Op.GATHER else node.arg[1]
    for other in src[1:]:
        for i, (a, b) in enumerate(zip(src[0], other, strict=True)):
            if i == axis:
                atoms.freeze(a + b)
            else:
                atoms.equate(a, b)
    return src[1] if node.op is Op.GATHER else src[0]


def _expand(dims: tuple[Dim, ...], old: Shape, new: Shape, atoms: _Atoms) -> tuple[Dim, ...]:
    grown = zip(dims, old, new, strict=True)
    return tuple(dim if before == after else atoms.fresh(after) for dim, before, after in grown)


def _reshape(dims: tuple[Dim, ...], old: Shape, new: Shape, atoms: _Atoms) -> tuple[Dim, ...]:
    if prod(old) == 0:
        return _pinned(sum(dims, ()), new, atoms)
    found: list[Dim] = []
    for start, stop, sizes in _groups(old, new):
        pool = atoms.resolve(sum(dims[start:stop], ()))
        found += _regroup(pool, sizes, atoms) or _pinned(pool, sizes, atoms)
    return tuple(found)


def _pinned(pool: Dim, sizes: Shape, atoms: _Atoms) -> tuple[Dim, ...]:
    """Dimensions that must keep their sizes, because they do not line up with the atoms they come from."""
    made = tuple(atoms.fresh(size) for size in sizes)
    atoms.freeze(pool + sum(made, ()))
    return made


def _groups(old: Shape, new: Shape) -> Iterator[tuple[int, int, Shape]]:
    """The smallest runs of old axes and new sizes with equal products: (first old, last old + 1, sizes)."""
    i = j = 0
    while i < len(old) or j < len(new):
        first, into = i, j
        have, i = prod(old[i : i + 1]), i + 1
        want, j = prod(new[j : j + 1]), j + 1
        while have < want or want < have:
            if have < want:
                have, i = have * old[i], i + 1
            else:
                want, j = want * new[j], j + 1
        yield first, i, new[into:j]


def _regroup(pool: Dim, sizes: Shape, atoms: _Atoms) -> tuple[Dim, ...] | None:
    """Deal the atoms out to dimensions of these sizes, splitting an atom where a boundary falls inside it."""
    rest = list(reversed(pool))
    made: list[Dim] = []
    for size in sizes:
        taken: list[int] = []
        while (have := atoms.size(tuple(taken))) < size:
            if size % have or not rest:
                return None
            atom = rest.pop()
            if atoms.sizes[atom] > size // have:
                split = _split(atom, size // have, atoms)
                if split is None:
                    return None
                atom = split[0]
                rest.append(split[1])
            taken.append(atom)
        made.append(tuple(taken))
    return tuple(made)


def _split(atom: int, size: int, atoms: _Atoms) -> tuple[int, int] | None:
    """The atom as a product of one of `size` and the rest; None if it does not divide."""
    if atoms.sizes[atom] % size:
        return None
    halves = atoms.fresh(size) + atoms.fresh(atoms.sizes[atom] // size)
    atoms.bind(atom, halves)
    return halves[0], halves[1]


def _small_sizes(atoms: _Atoms, limit: int) -> dict[int, int]:
    """A size for every unbound atom. Short ones keep theirs; what they leave of VOLUME goes to the long."""
    free = [atom for atom in range(len(atoms.sizes)) if atom not in atoms.bound]
    sizes = {atom: atoms.sizes[atom] for atom in free}
    left = VOLUME
    movable = sorted((atom for atom in free if atom not in atoms.frozen), key=lambda a: (sizes[a], a))
    used: set[int] = set()
    for position, atom in enumerate(movable):
        side = min(limit, int(left ** (1 / (len(movable) - position))))
        if sizes[atom] > min(side, SHORT):
            sizes[atom] = _prime_below(min(side, sizes[atom]), used)
            used.add(sizes[atom])
        left = max(2, left // max(1, sizes[atom]))
    return sizes


def _sizes_in_order(atoms: _Atoms) -> dict[int, int]:
    """The first long one is the first prime above SHORT, and so on, however long it was."""
    free = [atom for atom in range(len(atoms.sizes)) if atom not in atoms.bound]
    primes = (value for value in count(SHORT + 1) if _is_prime(value))
    return {
        atom: atoms.sizes[atom] if atom in atoms.frozen or atoms.sizes[atom] <= SHORT else next(primes)
        for atom in free
    }


def _prime_below(side: int, used: set[int]) -> int:
    """The largest unused prime not above `side`; when none is left, the smallest unused one."""
    for value in range(side, 1, -1):
        if _is_prime(value) and value not in used:
            return value
    return next(v for v in range(max(2, side), 1 << 20) if _is_prime(v) and v not in used)


def _is_prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


def _shape(atoms: _Atoms, sizes: dict[int, int], dims: tuple[Dim, ...]) -> Shape:
    return tuple(prod(sizes[atom] for atom in atoms.resolve(dim)) for dim in dims)


def _rebuild(output: UOp, shapes: dict[UOp, Shape]) -> UOp:
    made: dict[UOp, UOp] = {}
    for node in toposort(output):
        arg = node.arg
        if node.op is Op.PARAM:
            arg = (node.arg[0], shapes[node])
        elif node.op in (Op.RESHAPE, Op.EXPAND):
            arg = shapes[node]
        elif node.op is Op.SHRINK:
            old, new = shape_of(node.src[0]), shape_of(made[node.src[0]])
            arg = tuple(
                (0, after, 1) if entry == (0, before, 1) else entry
                for entry, before, after in zip(node.arg, old, new, strict=True)
            )
        made[node] = UOp(node.op, node.dtype, tuple(made[source] for source in node.src), arg)
    return made[output]
