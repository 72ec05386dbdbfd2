"""What a renderer is: it is passed by value, so a test (or a fault) can bring its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine.ir import UOp
from engine.target import Features


class Renderer(Protocol):
    """Writes linearized kernels in one language."""

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """The source of one kernel (see engine.linearize for the list), whose entry point is `name`.

        Sources of several kernels may be put into one file.
        """
        ...


RendererFactory = Callable[[Features], Renderer]
