"""What a model is: tensors with names, found by looking at the attributes; `forward` says what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from engine import dtype as dt
from engine.autograd import no_grad
from engine.cell import watching
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from engine.tensor.value import wanted


def Parameter(data: Any, requires_grad: bool = True) -> Tensor:
    """A tensor of its own, with the values of `data`, that an optimizer may step."""
    found = data.detach() if isinstance(data, Tensor) else Tensor(data)
    found.requires_grad, found._parameter = requires_grad, True
    return found


class Keys(NamedTuple):
    """What `load_state_dict` found in the module only, and in what it was given only."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """A part of a model. Calling it calls `forward`.

    Its state is every Tensor that an attribute holds, also within lists, tuples, dicts and other modules: named by
    the way there with dots, as in PyTorch ("layers.0.weight"). Names that begin with "_" are left out. Those tensors
    that require gradients, or did until they were frozen, are its parameters; the others are buffers.
    """

    _training = True

    def forward(self, *inputs: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor of the state by its name, the tensors themselves: a module's own ones before its modules'."""
        return {name: found for name, found in _walk(self) if isinstance(found, Tensor)}

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """The parameters, frozen ones too, each once, by their first name."""
        seen: set[Tensor] = set()
        for name, tensor in self.state_dict().items():
            if tensor.is_parameter and tensor not in seen:
                seen.add(tensor)
                yield name, tensor

    def parameters(self) -> list[Tensor]:
        """The parameters, frozen ones too, each once."""
        return [tensor for _, tensor in self.named_parameters()]

    def modules(self) -> list[Module]:
        """This module and those it is made of."""
        return [found for _, found in self.named_modules()]

    def named_modules(self) -> list[tuple[str, Module]]:
        """This module ("") and those it is made of, by name."""
        return [(name, found) for name, found in _walk(self) if isinstance(found, Module)]

    def named_children(self) -> list[tuple[str, Module]]:
        """The modules right below this one, by name."""
        return [(name, found) for name, found in self.named_modules() if name and "." not in name]

    def children(self) -> list[Module]:
        """The modules right below this one."""
        return [found for _, found in self.named_children()]

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """The tensors that are no parameters, by name: those of the state, and those that are not kept with it."""
        return [(name, found) for name, found in self._tensors() if not found.is_parameter]

    def buffers(self) -> list[Tensor]:
        """The tensors that are no parameters."""
        return [found for _, found in self.named_buffers()]

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """An attribute that is part of the state (if it is `persistent`) and no parameter."""
        setattr(self, name, tensor)
        if tensor is not None and not tensor.requires_grad:
            tensor._parameter = False
        if not persistent:
            self._passing = {*getattr(self, "_passing", ()), name}

    def register_parameter(self, name: str, parameter: Tensor | None) -> None:
        """An attribute that is a parameter."""
        setattr(self, name, parameter)
        if parameter is not None:
            parameter._parameter = True

    def add_module(self, name: str, module: Module | None) -> None:
        """An attribute that is a module."""
        setattr(self, name, module)

    def _tensors(self) -> list[tuple[str, Tensor]]:
        """All of the module's tensors by name, also those that are not kept with its state."""
        return [(name, found) for name, found in _walk(self, passing=True) if isinstance(found, Tensor)]

    def to(
        self,
        *where: Any,
        device: str | None = None,
        dtype: DType | None = None,
        non_blocking: bool = False,
    ) -> Self:
        """All tensors on another device, their floats as another dtype, or both, named as `Tensor.to` takes them.

        Returns the module. TypeError for a dtype that is none of floats.
        """
        device, dtype = wanted(where, device, dtype)
        if dtype is not None and not dtype.is_float:
            raise TypeError(f"to: a module's floats become other floats, not {dtype.name}")
        for _, tensor in self._tensors():
            if device is not None:
                tensor.move_(device)
            if dtype is not None and tensor.is_floating_point():
                tensor.recast_(dtype)
        return self

    def cpu(self) -> Self:
        """`to("CPU")`."""
        return self.to("CPU")

    def float(self) -> Self:
        """All floats of the state as float32."""
        return self.to(dt.float32)

    def double(self) -> Self:
        """All floats of the state as float64."""
        return self.to(dt.float64)

    def half(self) -> Self:
        """All floats of the state as float16."""
        return self.to(dt.float16)

    def bfloat16(self) -> Self:
        """All floats of the state as bfloat16."""
        return self.to(dt.bfloat16)

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        own = {k: v for k, v in vars(self).items() if isinstance(v, int | str) and not isinstance(v, bool)}
        head = f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in own.items())}"
        return f"{head}\n  " + "\n  ".join(lines) + "\n)" if lines else f"{head})"

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call a function with every module, this one last; returns it."""
        for module in reversed(self.modules()):
            function(module)
        return self

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Freeze all parameters: no gradient comes to them, and no step moves them. Or let all of them go; returns it."""
        for parameter in self.parameters():
            parameter.requires_grad = wanted
        return self

    @property
    def training(self) -> bool:
        """Does it train, if `Tensor.train` does not say otherwise? What reads it inside jit is recorded for each answer."""
        watch = watching()
        if watch is not None:
            watch.asked(self)
        return self._training

    @training.setter
    def training(self, mode: bool) -> None:
        self._training = bool(mode)

    @property
    def trains(self) -> bool:
        """Does it train now: as `Tensor.train` says, or else by `train()` and `eval()`?"""
        return self.training if Tensor.training is None else Tensor.training

    def train(self, mode: bool = True) -> Self:
        """Have Dropout drop and BatchNorm take statistics from here on (or not); returns the module."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters."""
        for tensor in self.parameters():
            tensor.grad = None

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> Keys:
        """Give the tensors of the state the values of those names (Tensors or arrays), cast to their dtypes.

        All or nothing: InvalidGraph names what is missing, what is unexpected (both only if `strict`, else they are
        returned) and which shapes differ.
        """
        return load(self.state_dict(), state, strict)


def tensors_of(root: Any) -> dict[str, Tensor]:
    """Every tensor that an object holds, also within lists, tuples, dicts and objects, by the way there with dots."""
    return {name: found for name, found in _walk(root, objects=True) if isinstance(found, Tensor)}


def modules_of(root: Any) -> list[Module]:
    """The modules that an object holds, itself among them if it is one."""
    return [found for _, found in _walk(root, objects=True) if isinstance(found, Module)]


@no_grad()
def load(own: Mapping[str, Tensor], state: Mapping[str, Any], strict: bool) -> Keys:
    """Give tensors the values of the same names; see `Module.load_state_dict`."""
    if not isinstance(state, Mapping):
        raise InvalidGraph(f"takes tensors by name (safe_load gives them), not {state!r}", "load_state_dict")
    problems = _strangers(own, state) + _mismatches(own, state)
    keys = Keys([name for name in own if name not in state], [name for name in state if name not in own])
    problems += _differences(keys) if strict else []
    if problems:
        raise InvalidGraph("; ".join(problems), "load_state_dict")
    for name in (
        name for name in own if name in state
    ):  # in order: of two names of one tensor the last stays
        own[name].assign(_tensor(state[name], own[name].device).cast(own[name].dtype))
    return keys


def _strangers(own: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} is {type(state[name]).__name__}, not a Tensor or an array"
        for name in own
        if name in state and not isinstance(state[name], Tensor | np.ndarray | np.generic)
    ]


def _tensor(value: Any, device: str) -> Tensor:
    return value.to(device) if isinstance(value, Tensor) else Tensor(value, device=device)


def _differences(keys: Keys) -> list[str]:
    named = (("missing", keys.missing_keys), ("unexpected", keys.unexpected_keys))
    return [f"{word}: {', '.join(names)}" for word, names in named if names]


def _mismatches(own: Mapping[str, Tensor], state: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} has shape {tuple(state[name].shape)}, the model's is {tensor.shape}"
        for name, tensor in own.items()
        if name in state and tuple(getattr(state[name], "shape", tensor.shape)) != tensor.shape
    ]


def _walk(root: Any, *, objects: bool = False, passing: bool = False) -> list[tuple[str, Module | Tensor]]:
    """Every module and tensor below `root`, and itself, by name: depth first, in the order of the attributes.

    With `objects` also those that other objects hold; each of these is looked into once. With `passing` also buffers
    that are not kept with the state.
    """
    found: list[tuple[str, Module | Tensor]] = []
    stack: list[tuple[str, Any]] = [("", root)]
    seen: set[int] = set()
    while stack:
        name, value = stack.pop()
        if isinstance(value, Module | Tensor):
            found.append((name, value))
        prefix = f"{name}." if name else ""
        children = _children(value, passing)
        if objects and children is None and id(value) not in seen and not isinstance(value, Tensor | type):
            seen.add(id(value))
            children = list(getattr(value, "__dict__", {}).items())
        stack.extend((prefix + key, child) for key, child in reversed(children or []))
    return found


def _rank(named: tuple[str, Any]) -> int:
    """A module's own parameters come first, then its buffers, then what it is made of: PyTorch's order."""
    return 2 if not isinstance(named[1], Tensor) else 1 - named[1].is_parameter


def _children(value: Any, passing: bool = False) -> list[tuple[str, Any]] | None:
    """What a module, list, tuple or dict holds, by name; None of anything else."""
    if isinstance(value, Module):
        left_out = () if passing else getattr(value, "_passing", ())
        shown = [
            (k, child) for k, child in vars(value).items() if not k.startswith("_") and k not in left_out
        ]
        return sorted(shown, key=_rank)
    if isinstance(value, list | tuple):
        return [(str(i), child) for i, child in enumerate(value)]
    if isinstance(value, dict):
        return [(str(key), child) for key, child in value.items()]
    return None
