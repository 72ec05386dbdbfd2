"""The device INTERP: the definition of every op, and no compiler needed."""

from __future__ import annotations

from collections.abc import Sequence

from engine.device.protocol import Array
from engine.kernel import Kernel
from engine.options import Options
from engine.runtime.interp import evaluate


class Interpreter:
    """Computes kernels with the NumPy interpreter."""

    name = "INTERP"

    def __init__(self, part: str = "", options: Options | None = None) -> None:
        """Neither a part nor options change it."""

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        """See `Device`."""
        return evaluate(kernel, inputs)
