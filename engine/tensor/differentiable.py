"""The gradient side of a tensor: what it is a leaf of, `backward` and `grad`, as PyTorch's users know them."""

from __future__ import annotations

from typing import Any, Self
from weakref import WeakValueDictionary

from engine.autograd import is_leaf, leaf, leaves_of, needs_gradient, next_leaf
from engine.build import const, detach
from engine.cell import Cell
from engine.errors import InvalidGraph
from engine.gradient import gradients
from engine.ir import UOp
from engine.ops import Op
from engine.shapes import shape_of


class Differentiable(Cell):
    """Holds the node that a tensor stands for, marked if the tensor is a leaf, and the tensor's gradient.

    A leaf (`requires_grad = True`) keeps its number when its value is assigned anew. A tensor made of leaves keeps
    the graph it is made by, also when it is computed, so that `backward` finds the way; others forget it.
    """

    __slots__ = ("_leaf", "_parameter")
    _leaf: int | None
    _parameter: bool  # does it require gradients, or did it until it was frozen?

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        tensor = super().__new__(cls)
        tensor._leaf, tensor._parameter = None, False
        return tensor

    @classmethod
    def _of(cls, node: UOp, device: str) -> Self:
        raise NotImplementedError

    @property
    def _node(self) -> UOp:
        return self._value if self._leaf is None else leaf(self._value, self._leaf)

    @_node.setter
    def _node(self, node: UOp) -> None:
        own = is_leaf(node) and node.arg == self._leaf
        self._value = node.src[0] if own else node

    def _put(self, node: UOp) -> None:
        """Assign: what a leaf is given has no history."""
        if self._leaf is not None and needs_gradient(node):
            raise InvalidGraph("a leaf that requires gradients is assigned under no_grad()", "assign")
        self._value = node

    def _computed(self, node: UOp) -> None:
        """`node` holds this tensor's value: the graph that gave it is let go, unless a gradient needs it."""
        if not needs_gradient(self._value):
            self._value = node

    @property
    def requires_grad(self) -> bool:
        """Does `backward` of what is made of this tensor lead to gradients: is it a leaf, or made of one?"""
        return self._leaf is not None or needs_gradient(self._value)

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and not self._value.dtype.is_float:
            name = self._value.dtype.name
            raise InvalidGraph(f"only floats can require gradients, this is {name}", "requires_grad")
        if not wanted and needs_gradient(self._value):
            raise InvalidGraph("only of a leaf can it be taken away; use .detach()", "requires_grad")
        if not wanted:
            self._leaf = None
        elif not self.requires_grad:
            self._leaf, self._parameter = next_leaf(), True
            _leaves[self._leaf] = self

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Set `requires_grad`; returns the tensor. InvalidGraph for integers and bool."""
        self.requires_grad = wanted
        return self

    @property
    def is_parameter(self) -> bool:
        """Is it a leaf that requires gradients, or that was frozen: what a module's parameters are?"""
        return self._parameter and self.is_leaf

    @property
    def is_leaf(self) -> bool:
        """True unless this tensor is made of others by operations that a gradient goes through."""
        return not needs_gradient(self._value)

    def gradient(self, *targets: Self, gradient: Self | None = None) -> tuple[Self, ...]:
        """The gradients of this tensor with respect to others, which need not require one; `grad` stays as it is.

        They can be differentiated again. `gradient` is as in `backward`. InvalidGraph if a target is not reached.
        """
        found = gradients([self._node], [self._seed(gradient)], [target._node for target in targets])
        for number, node in enumerate(found):
            if node is None:
                raise InvalidGraph("the tensor does not depend on it", f"gradient: targets[{number}]")
        return tuple(self._of(node, t.device) for node, t in zip(found, targets, strict=True) if node)

    def backward(
        self, gradient: Self | None = None, retain_graph: bool | None = None, create_graph: bool = False
    ) -> Self:
        """Add to the `grad` of each leaf that this tensor is made of the gradient of Σ self · gradient; returns it.

        Lazy like everything: nothing is computed yet. `gradient` has this tensor's shape; it may be left out for
        a tensor of one element. Graphs are kept as long as anything refers to them, whatever `retain_graph` says;
        for gradients of gradients see `gradient`, which `create_graph` is refused for. InvalidGraph if it is missing, does not fit, or there is no leaf.
        """
        if create_graph:
            raise InvalidGraph(
                "gradients that are to be differentiated again: use .gradient(…)", "create_graph"
            )
        seed, leaves = self._seed(gradient), leaves_of(self._node)
        if not leaves:
            raise InvalidGraph("nothing that this tensor is made of requires a gradient", "backward")
        for node, found in zip(leaves, gradients([self._node], [seed], leaves), strict=True):
            tensor = _leaves.get(node.arg)
            if tensor is not None and found is not None:
                tensor._receive(found)
        carry(self)
        return self

    def _seed(self, gradient: Self | None) -> UOp:
        shape = shape_of(self._value)
        if gradient is not None:
            return detach(gradient._node)
        if any(n != 1 for n in shape):
            raise InvalidGraph(
                f"a gradient is found of one number only, this has shape {shape}: pass gradient=, or take .sum()",
                "backward",
            )
        return const(1.0, self._value.dtype, shape)

    def _receive(self: Self, node: UOp) -> None:
        """Add a gradient to what there is of them."""
        total = node if self.grad is None else UOp(Op.ADD, node.dtype, (self.grad._node, node))
        self.grad = self._of(detach(total), self.device)


def carry(tensor: Differentiable) -> None:
    """Have `tensor` computed with the next step of an optimizer, if it is alive then: they share work.

    Running statistics are carried so that the graph of one batch does not become part of the next; a loss, so that
    printing it after the step costs nothing.
    """
    _carried[id(tensor)] = tensor


def carried(device: str) -> list[Differentiable]:
    """What is to be computed on a device now; it is handed out once."""
    found = [tensor for tensor in list(_carried.values()) if tensor.device == device]
    for tensor in found:
        del _carried[id(tensor)]
    return found


# By id: a set would ask whether two tensors are equal, which is a tensor.
_carried: WeakValueDictionary[int, Differentiable] = WeakValueDictionary()
# By number; a leaf that nobody holds any more gets no gradients.
_leaves: WeakValueDictionary[int, Differentiable] = WeakValueDictionary()
