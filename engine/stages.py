"""Stages: values of a kernel that are brought into scratch memory before they are used, in the order of their use.

A stage stands inside some of the kernel's loops and holds its value for all that runs inside it: the views before it
are part of how the value is read, those after it part of how the stage is indexed. Its layout is the iteration order
of what lies inside, register leaves last, so that the innermost loops walk it element by element. That is what
packing a matrix for a fast product is; here it is no part of a template, but an opt like the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

from engine import indexing
from engine.indexing import Body
from engine.ir import UOp, consumers, toposort
from engine.kernel import Kernel
from engine.ops import ELEMENTWISE, Op
from engine.opts import TARGET_OUT
from engine.ranges import Axis, Leaf
from engine.small_floats import computed_as

# Scratch memory of one thread. The model says what a stage is worth; this only keeps a machine from running out.
MAX_SCRATCH = 64 << 20
ALIGNMENT = 64


@dataclass(frozen=True)
class Value:
    """Something that may be staged: `node` of the kernel's body, used by `target`, over `axes`."""

    target: str
    node: UOp
    axes: frozenset[Axis]

    @property
    def is_wanted(self) -> bool:
        """Has the user asked for it, by CONTIGUOUS("local")?"""
        return is_wish(self.node, "local")

    @property
    def itemsize(self) -> int:
        """Bytes of an element in the stage."""
        return computed_as(self.node.dtype).itemsize


@dataclass(frozen=True)
class Stage:
    """`value` kept for what runs inside the `depth` outermost LOOP leaves (and the THREAD leaf).

    `leaves` are those of the value's axes that lie inside, in execution order; `strides` what one step of each moves
    in the stage, in elements. `at` is where it begins in the scratch memory, in bytes.
    """

    value: Value
    depth: int
    leaves: tuple[Leaf, ...]
    at: int

    @property
    def elements(self) -> int:
        """How many there are, what sticks out of the axes included."""
        return prod(leaf.extent for leaf in self.leaves)

    @property
    def end(self) -> int:
        """Where the next stage may begin."""
        return self.at + -(-self.elements * self.value.itemsize // ALIGNMENT) * ALIGNMENT

    @property
    def strides(self) -> dict[Leaf, int]:
        found, stride = {}, 1
        for leaf in reversed(self.leaves):
            found[leaf] = stride
            stride *= leaf.extent
        return found


@lru_cache(maxsize=256)
def values(kernel: Kernel) -> tuple[Value, ...]:
    """What may be staged, in the order of the kernel's loads.

    For each load, the furthest value that is computed from it over the same axes: so that a conversion or a function
    of a matrix's elements is computed once for each, not at each use. Then what the user wants kept that is computed
    from several loads. None in a kernel with a FOLD or a SCATTER, and nothing that the user wants in registers.
    """
    body = indexing.body(kernel)
    order = toposort(body.value)
    if body.updates is not None or any(node.op is Op.FOLD for node in order):
        return ()
    uses = consumers(order)
    targets = _targets(body)
    found: dict[UOp, Value] = {}
    loads, wishes = _outermost(body, order)
    for load in loads:
        if axes := body.axes_under(load):
            node = _furthest(body, load, axes, uses) if body.reduces else _wanted(load, uses)
            node = load if _is_for_registers(node, uses) else node
            if not _is_for_registers(node, uses):
                found[node] = Value(targets.get(node, TARGET_OUT), node, axes)
    for node in wishes:
        found.setdefault(node, Value(targets.get(node, TARGET_OUT), node, body.axes_under(node)))
    return tuple(found.values())


def is_wish(node: UOp, level: str) -> bool:
    """Is it a user's wish for that level?"""
    return node.op is Op.CONTIGUOUS and node.arg == level


def _is_for_registers(node: UOp, uses: dict[UOp, list[UOp]]) -> bool:
    """Does the user want it computed anew for each use?"""
    return any(is_wish(user, "register") for user in uses[node])


def _may_be_wanted(body: Body, node: UOp) -> bool:
    return is_wish(node, "local") and bool(body.axes_under(node)) and not _reads_reduce(node)


def _outermost(body: Body, order: list[UOp]) -> tuple[list[UOp], list[UOp]]:
    """The loads and the wanted values, but for those that nothing but a wanted value is computed from."""
    wanted = {node for node in order if _may_be_wanted(body, node)}
    if wanted:
        order = toposort(body.value, enter=lambda node: node not in wanted)
    return [node for node in order if node.op is Op.LOAD], [node for node in order if node in wanted]


def _targets(body: Body) -> dict[UOp, str]:
    """The first reduce that uses each node; what none uses is the output's."""
    found: dict[UOp, str] = {}
    for reduce, target in body.reduces.items():
        for node in toposort(reduce.src[0]):
            found.setdefault(node, target)
    return found


def _furthest(body: Body, node: UOp, axes: frozenset[Axis], uses: dict[UOp, list[UOp]]) -> UOp:
    while len(uses[node]) == 1:
        (user,) = uses[node]
        if (
            node.op is Op.CONTIGUOUS
            or is_wish(user, "register")
            or user.op not in ELEMENTWISE | {Op.CONTIGUOUS}
            or body.axes_under(user) != axes
            or _reads_reduce(user)
        ):
            break
        node = user
    return node


def _wanted(load: UOp, uses: dict[UOp, list[UOp]]) -> UOp:
    users = uses[load]
    return users[0] if len(users) == 1 and is_wish(users[0], "local") else load


def _reads_reduce(node: UOp) -> bool:
    """Does it need a total? That is known only behind the reduce's loops."""
    return any(below.op is Op.REDUCE for below in toposort(node))
