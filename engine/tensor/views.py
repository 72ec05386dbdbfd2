"""Views: tensors that share their elements with another one, as in PyTorch.

What is done in place to a view is done to what it views, and the other way round. Graphs do not change, so a change
means new nodes: of the whole, with the part put back, and from it of each view that is alive. A view knows the whole
that it came from and the tensor that it was made of, by weak references: where both are gone it is a tensor of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakValueDictionary, ref

from engine.assign import assigned, fits
from engine.autograd import followed, needs_gradient
from engine.build import detach
from engine.ir import UOp
from engine.shapes import shape_of
from engine.sharing import Path, Strides, put_back, row_major, strides_of
from engine.tensor.differentiable import Differentiable


@dataclass(frozen=True, slots=True)
class Origin:
    """A tensor that another one is a view of, and how it is read from it."""

    whole: ref[Any]
    path: Path


class Viewing(Differentiable):
    """Holds what this tensor is a view of: at most the whole and the tensor that it was made of, in this order."""

    __slots__ = ("_origins", "_strides")
    _origins: tuple[Origin, ...]
    _strides: Strides | None  # None: row-major

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        tensor = super().__new__(cls)
        tensor._origins, tensor._strides = (), None
        return tensor

    def _view(self, step: Callable[[UOp], UOp]) -> Self:
        """The tensor of a node that `step` makes of this one's: a view if it can be one, otherwise one of its own."""
        found = self._of(step(self._node), self.device)
        strides = strides_of(step, shape_of(self._value), self._value.dtype, self._strides)
        if strides is not None:
            found._strides = None if strides == row_major(shape_of(found._value)) else strides
            found._follow(self, step)
        return found

    def _follow(self, other: Self, step: Callable[[UOp], UOp]) -> None:
        """Be a view of `other`, and of what that is a view of."""
        above = [(origin.whole(), Path(origin.path, step)) for origin in other._origins]
        wholes = [(whole, path) for whole, path in above if whole is not None][:1]
        wholes.append((other, Path(None, step)))
        for whole, path in wholes:
            self._join(whole, path)

    def _join(self, whole: Self, path: Path) -> None:
        """Be a view of `whole`, too."""
        self._origins = (*self._origins, Origin(ref(whole), path))
        if whole._views is None:
            whole._views = WeakValueDictionary()
        whole._views[id(self)] = self

    def _whole(self) -> tuple[Self, Path] | None:
        """What this is a view of, if that is alive."""
        for origin in self._origins:
            whole = origin.whole()
            if whole is not None:
                return whole, origin.path
        return None

    def detach(self) -> Self:
        """The same elements, of which nothing goes back: a constant to gradients."""
        return self._view(detach)

    def _alone(self) -> None:
        """Share no elements with another tensor any more."""
        self._origins, self._strides, self._views = (), None, None

    def _take(self, node: UOp) -> None:
        """Assign a node of this tensor's shape and dtype; InvalidGraph for another."""
        fits(self._value, node)
        node = followed(node)
        alone = self._whole() is None
        self._put(assigned(self._value, node, leaf=self._leaf is not None) if alone else node)

    def _put(self, node: UOp) -> None:
        """Assign here, and in what shares these elements."""
        found = self._whole()
        if found is None:
            super()._put(node)
            self._replaced()
            return
        whole, path = found
        node = followed(node)
        if self._leaf is not None and needs_gradient(node):
            super()._put(node)  # which refuses it
        whole._take(put_back(whole._value, path, node))
        self._value = node

    def _replaced(self) -> None:
        for view in list(self._views.values()) if self._views else ():
            view._read_again(self)

    def _read_again(self, whole: Self) -> None:
        for origin in self._origins:
            if origin.whole() is whole:
                node = origin.path.of(whole._node)
                if needs_gradient(node) and (self._leaf is not None or not needs_gradient(self._value)):
                    node = detach(node)
                self._value = node
                return
