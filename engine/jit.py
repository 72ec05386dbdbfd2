"""Functions of tensors, traced once and then replayed as a list of kernels.

    @jit
    def step(x, y):
        loss = ((model(x) - y) ** 2).mean()
        ...
        weight.assign(weight - 0.1 * gradient)
        return loss

The first call for each case (structure, shapes, dtypes and devices of the arguments, values of plain ones) runs the
function as it is, so that what it sets up once is set up. The second records the kernels it runs; later ones run
those kernels only. What the function reads from outside its arguments (weights, the state of random numbers) is
found by watching the tensors it touches, and is read anew in every call; what it assigns is assigned in every call.
Results are fresh tensors, realized, as is all that was assigned.

On the CPU the kernels are one list that C goes through (engine.runtime.replay). What is computed on the way lies in
memory that the case keeps from call to call, as much as is needed at one time; `clear` lets go of it.

What a replay cannot repeat is refused while recording (CaptureError): data read on the host. Other effects of the
function, such as printing or appending to a list, happen in the first two calls only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from threading import RLock
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar

from engine.capture import Capture, Observer, settle_results
from engine.cell import Cell, watched, watching
from engine.nested import cells_of, key_of
from engine.plan import Plan
from engine.shapes import shape_of

P = ParamSpec("P")
R = TypeVar("R")
KEPT = 64  # cases of one function


class Jit(Generic[P, R]):
    """A function that is replayed; see the module. Calls from several threads run one after the other."""

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._plans: dict[Hashable, Plan | None] = {}
        self._lock = RLock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result. CaptureError as the module says; a recorded or replayed call that fails changes no tensor."""
        if watching() is not None:  # inside another one, which records it
            return self.function(*args, **kwargs)
        arguments = (args, dict(sorted(kwargs.items())))
        cells = list(cells_of(arguments))
        with self._lock:
            return self._call(arguments, cells, _case(arguments, cells))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bound to an instance, as a function in a class is."""
        return self if instance is None else MethodType(self, instance)

    def clear(self) -> None:
        """Forget what was recorded."""
        with self._lock:
            self._plans.clear()

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What was recorded, the case used last standing last."""
        with self._lock:
            return tuple(plan for plan in self._plans.values() if plan is not None)

    def _call(self, arguments: Any, cells: Sequence[Cell], case: Hashable) -> R:
        seen = case in self._plans
        plan = self._plans.get(case)
        if plan is not None and plan.fits(cells):
            result = plan.replay(cells)
        elif seen:
            plan, result = self._record(arguments, cells)
        else:
            result = self._first(arguments)
        self._plans.pop(case, None)
        self._plans[case] = plan  # the one used last stands last
        if len(self._plans) > KEPT:
            del self._plans[next(iter(self._plans))]
        found: R = result
        return found

    def _first(self, arguments: Any) -> Any:
        observer = Observer()
        with watched(observer):
            result = self.function(*arguments[0], **arguments[1])
        settle_results(list(cells_of(result)), observer.written)
        return result

    def _record(self, arguments: Any, cells: Sequence[Cell]) -> tuple[Plan, Any]:
        capture = Capture(cells)
        return capture.finish(capture.run(lambda: self.function(*arguments[0], **arguments[1])))


def jit(function: Callable[P, R]) -> Jit[P, R]:
    """Record the kernels that `function` runs, and run only those from the third call on; see the module."""
    return Jit(function)


def _case(arguments: Any, cells: Sequence[Cell]) -> Hashable:
    first: dict[int, int] = {}
    alike = tuple(first.setdefault(id(cell), number) for number, cell in enumerate(cells))
    kinds = tuple((shape_of(cell._held), cell._held.dtype, cell.device) for cell in cells)
    return (key_of(arguments[0], "args"), key_of(arguments[1], "kwargs"), kinds, alike)
