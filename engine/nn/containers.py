"""Modules made of modules: lists and dicts of them, and one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from engine.nn.module import Module

Layer = Callable[[Any], Any]


class _Row(Module):
    """Layers in order, as attributes "0", "1", …"""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.extend(layers)

    @property
    def layers(self) -> list[Layer]:
        """The layers in order."""
        return [layer for name, layer in vars(self).items() if name not in ("training",) and name[:1] != "_"]

    def append(self, layer: Layer) -> Self:
        """Add a layer behind the last; returns the module."""
        setattr(self, str(len(self)), layer)
        return self

    def extend(self, layers: Iterable[Layer]) -> Self:
        """Add several; returns the module."""
        for layer in layers:
            self.append(layer)
        return self

    def insert(self, place: int, layer: Layer) -> None:
        """Put a layer before the one at a place."""
        layers = self.layers
        layers.insert(place, layer)
        for number, one in enumerate(layers):
            setattr(self, str(number), one)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, place: int | slice) -> Any:
        found = self.layers[place]
        return type(self)._of(found) if isinstance(found, list) else found

    def __setitem__(self, place: int, layer: Layer) -> None:
        names = [name for name in vars(self) if name not in ("training",) and name[:1] != "_"]
        setattr(self, names[place], layer)

    @classmethod
    def _of(cls, layers: list[Layer]) -> Self:
        found = cls.__new__(cls)
        _Row.__init__(found, layers)
        return found


class Sequential(_Row):
    """One layer after the other; a layer is a Module or any function of a tensor. A dict names them."""

    def __init__(self, *layers: Any) -> None:
        named = layers[0] if len(layers) == 1 and isinstance(layers[0], Mapping) else None
        super().__init__(layers if named is None else ())
        for name, layer in (named or {}).items():
            setattr(self, name, layer)

    def forward(self, x: Any) -> Any:
        """The last layer's result."""
        for layer in self.layers:
            x = layer(x)
        return x


class ModuleList(_Row):
    """A list of modules, whose state is part of what holds it."""

    def __init__(self, modules: Iterable[Layer] = ()) -> None:
        super().__init__(modules)


class ModuleDict(Module):
    """Modules by name, whose state is part of what holds it."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def update(self, modules: Mapping[str, Module]) -> None:
        """Add several."""
        for name, module in modules.items():
            setattr(self, name, module)

    def items(self) -> list[tuple[str, Module]]:
        """Names and modules in order."""
        return [(name, module) for name, module in vars(self).items() if isinstance(module, Module)]

    def keys(self) -> list[str]:
        """The names in order."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Module]:
        """The modules in order."""
        return [module for _, module in self.items()]

    def __getitem__(self, name: str) -> Module:
        return dict(self.items())[name]

    def __setitem__(self, name: str, module: Module) -> None:
        setattr(self, name, module)

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())
