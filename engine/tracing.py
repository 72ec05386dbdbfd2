"""Functions of tensors, traced once and then replayed as a list of kernels.

    from engine import jit

    @jit
    def step(x, y):
        loss = ((model(x) - y) ** 2).mean()
        ...
        weight.assign(weight - 0.1 * gradient)
        return loss

The first call for each case (structure, shapes, dtypes and devices of the arguments, values of plain ones; and the mode:
which of the modules that it asks train, what `Tensor.train` says, whether `no_grad` holds) runs the function as it is, so that what it sets up once is set up. The second records the kernels it runs; later ones run
those kernels only. What the function reads from outside its arguments (weights, the state of random numbers) is
found by watching the tensors it touches, and is read anew in every call; what it assigns is assigned in every call.
Results are fresh tensors, realized, as is all that was assigned.

On the CPU the kernels are one list that C goes through (engine.runtime.replay). What is computed on the way lies in
memory that the case keeps from call to call, as much as is needed at one time; `clear` lets go of it.

One recording may serve many sizes: with `n = Var("n", 1, 256)` and `@jit(leading={"x": n, "y": n})` the parameters x
and y are tensors whose first axes have from 1 to 256 elements, the same number both. A case has the bounds then, not
the number. Kernels and memory are those of 256, and a call computes the rows it has and is given results that are cut
to them. While the function is recorded, `x.shape[0]` is a number that nobody knows (engine.sizes): shapes may be made
of it, and tensors and numbers computed with it (`total / x.shape[0]`), but Python cannot ask it (`if`, `float`, `len`)
or loop over it (`for row in range(x.shape[0])` would be recorded for the greatest size). What is not the same for
every size (a row counted from the end, an axis turned round or padded) is an InvalidGraph while recording.

What a replay cannot repeat is refused while recording (CaptureError): data read on the host. Other effects of the
function, such as printing or appending to a list, happen in the first two calls only.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from engine.autograd import is_following
from engine.capture import Capture, Observer, settle_results
from engine.cell import Cell, Moded, watched, watching
from engine.nested import cells_of, key_of
from engine.plan import Plan
from engine.shapes import shape_of
from engine.sizes import Var
from engine.tensor import Tensor

P = ParamSpec("P")
R = TypeVar("R")
KEPT = 64  # cases of one function
MODES = 16  # of one case


@dataclass
class _Case:
    """What was recorded for a case, by its mode: the one used last standing last. `owners` are asked for the mode."""

    owners: dict[int, Moded] = field(default_factory=dict)
    plans: dict[Hashable, Plan | None] = field(default_factory=dict)

    def modes(self) -> dict[int, bool]:
        """Who trains now, by id."""
        return {key: owner.training for key, owner in self.owners.items()}

    def keep(self, mode: Mapping[int, bool], plan: Plan | None, asked: Sequence[Moded]) -> None:
        """The plan for a mode; who was `asked` for the first time has the mode that it has now."""
        new = {id(owner): owner for owner in asked if id(owner) not in self.owners}
        if new:  # what was recorded without asking these cannot be told from it: it is recorded again
            self.owners |= new
            self.plans.clear()
        key = _mode(dict(mode) | {each: owner.training for each, owner in new.items()})
        self.plans.pop(key, None)
        self.plans[key] = plan
        if len(self.plans) > MODES:
            del self.plans[next(iter(self.plans))]


def _mode(owners: Mapping[int, bool]) -> Hashable:
    return Tensor.training, is_following(), tuple(owners.items())


class Jit(Generic[P, R]):
    """A function that is replayed; see the module. Calls from several threads run one after the other.

    `leading`: the parameters whose first axes have open sizes. ValueError for one that the function does not have.
    """

    def __init__(self, function: Callable[P, R], leading: Mapping[str, Var] | None = None) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._leading = _parameters(function, leading or {})
        self._cases: dict[Hashable, _Case] = {}
        self._lock = RLock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result. CaptureError as the module says; a recorded or replayed call that fails changes no tensor.

        ValueError for an argument of a leading size that is no tensor, or not of that size.
        """
        if watching() is not None:  # inside another one, which records it
            return self.function(*args, **kwargs)
        arguments = (args, dict(sorted(kwargs.items())))
        cells = list(cells_of(arguments))
        leading = _led(self._leading, args, kwargs) if self._leading else {}
        with self._lock:
            return self._call(arguments, cells, leading, _case(arguments, cells, leading))

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bound to an instance, as a function in a class is."""
        return self if instance is None else MethodType(self, instance)

    def clear(self) -> None:
        """Forget what was recorded."""
        with self._lock:
            self._cases.clear()

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What was recorded, the case used last standing last."""
        with self._lock:
            plans = (plan for case in self._cases.values() for plan in case.plans.values())
            return tuple(plan for plan in plans if plan is not None)

    def _call(self, arguments: Any, cells: Sequence[Cell], leading: Mapping[int, Var], case: Hashable) -> R:
        kept = self._cases.pop(case, _Case())
        self._cases[case] = kept  # the one used last stands last
        if len(self._cases) > KEPT:
            del self._cases[next(iter(self._cases))]
        modes = kept.modes()
        key = _mode(modes)
        plan = kept.plans.get(key)
        asked: Sequence[Moded] = ()
        if plan is not None and plan.fits(cells):
            result = plan.replay(cells)
        elif key in kept.plans:
            capture = Capture(cells, leading)
            plan, result = self._record(arguments, capture)
            asked = capture.modes
        else:
            observer = Observer()
            result = self._first(arguments, observer)
            asked = observer.modes
        kept.keep(modes, plan, asked)
        found: R = result
        return found

    def _first(self, arguments: Any, observer: Observer) -> Any:
        with watched(observer):
            result = self.function(*arguments[0], **arguments[1])
        settle_results(list(cells_of(result)), observer.written)
        return result

    def _record(self, arguments: Any, capture: Capture) -> tuple[Plan, Any]:
        return capture.finish(capture.run(lambda: self.function(*arguments[0], **arguments[1])))


@overload
def jit(function: Callable[P, R]) -> Jit[P, R]: ...
@overload
def jit(function: Callable[P, R], *, leading: Mapping[str, Var]) -> Jit[P, R]: ...
@overload
def jit(*, leading: Mapping[str, Var]) -> Callable[[Callable[P, R]], Jit[P, R]]: ...
def jit(function: Callable[P, R] | None = None, *, leading: Mapping[str, Var] | None = None) -> Any:
    """Record the kernels that `function` runs, and run only those from the third call on; see the module.

    Without a function, what decorates one.
    """
    return functools.partial(Jit, leading=leading) if function is None else Jit(function, leading)


TinyJit = jit  # tinygrad's name


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of a leading size, and where it stands among those that may be given by their places (None: nowhere)."""

    name: str
    place: int | None
    var: Var


def _parameters(function: Callable[..., Any], leading: Mapping[str, Var]) -> tuple[_Parameter, ...]:
    if not leading:
        return ()
    known = inspect.signature(function).parameters
    one = {name: p for name, p in known.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    by_place = [name for name, p in one.items() if p.kind is not p.KEYWORD_ONLY]
    for name, var in leading.items():
        if name not in one:
            raise ValueError(f"leading: there is no parameter {name!r}; there are {', '.join(one)}")
        if not isinstance(var, Var):
            raise ValueError(f"leading[{name!r}] must be a Var, such as Var('n', 1, 256), not {var!r}")
    return tuple(
        _Parameter(name, by_place.index(name) if name in by_place else None, var)
        for name, var in leading.items()
    )


def _led(parameters: Sequence[_Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[int, Var]:
    """The arguments of leading sizes, by id. ValueError for one that is not what its parameter says."""
    found: dict[int, Var] = {}
    sizes: dict[Var, tuple[str, int]] = {}
    for each in parameters:
        name, place, var = each.name, each.place, each.var
        value = args[place] if place is not None and place < len(args) else kwargs.get(name)
        if not isinstance(value, Cell):
            raise ValueError(f"{name} must be a Tensor whose first axis is {var}, not {type(value).__name__}")
        shape = shape_of(value._held)
        if not shape or not var.min <= shape[0] <= var.max:
            raise ValueError(f"{name} has shape {shape}: its first axis must be {var}")
        other, size = sizes.setdefault(var, (name, shape[0]))
        if size != shape[0]:
            raise ValueError(f"{name} has {shape[0]} elements and {other} has {size}: both are {var}")
        if found.setdefault(id(value), var) != var:
            raise ValueError(f"{name} is {var}, and the same tensor is given as {found[id(value)]}")
    return found


def _case(arguments: Any, cells: Sequence[Cell], leading: Mapping[int, Var]) -> Hashable:
    first: dict[int, int] = {}
    alike = tuple(first.setdefault(id(cell), number) for number, cell in enumerate(cells))
    kinds = tuple((_sizes(cell, leading), cell._held.dtype, cell.device) for cell in cells)
    return (key_of(arguments[0], "args"), key_of(arguments[1], "kwargs"), kinds, alike)


def _sizes(cell: Cell, leading: Mapping[int, Var]) -> tuple[int | Var, ...]:
    shape, var = shape_of(cell._held), leading.get(id(cell))
    return shape if var is None else (var, *shape[1:])
