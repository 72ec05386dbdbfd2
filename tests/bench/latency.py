"""How long the engine keeps a user waiting: import, first kernel, the same structure again, a block of GPT-2 traced.

`python -m tests.bench.latency`. Each figure stands beside what it should stay below on an idle machine; processes
are started afresh where that matters, and nothing is read from a disk cache. Medians, in milliseconds.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from statistics import median

from rich.console import Console
from rich.table import Table

REPEATS = 5

IMPORT = """
import time
begun = time.process_time()
import engine.tensor
print(time.process_time() * 1e3)
"""
KERNELS = """
from time import perf_counter
from engine.tensor import Tensor
begun = perf_counter()
(Tensor([1.0, 2.0]) + 1).numpy()
first = perf_counter()
(Tensor([3.0, 4.0]) + 1).numpy()
print((first - begun) * 1e3, (perf_counter() - first) * 1e3)
"""
BLOCK = """
from time import perf_counter
from engine.tensor import Tensor
from tests.engine.nn.models import GptBlock
block, x = GptBlock(768, 12), Tensor.rand(1, 64, 768)
weights = list(block.state_dict().values())
x.realize(*weights)
begun = perf_counter()
inputs = [x, *weights]
for tensor in inputs:
    tensor.requires_grad = True
block(x).sum().backward()
gradients = [tensor.grad for tensor in inputs if tensor.grad is not None]
gradients[0].realize(*gradients[1:])
print((perf_counter() - begun) * 1e3)
"""


def run(source: str, device: str = "CPU") -> list[float]:
    """The numbers that a fresh process prints."""
    with tempfile.TemporaryDirectory() as cache:
        environ = os.environ | {"DEV": device, "TINYFLEET_CACHE": cache, "XDG_CACHE_HOME": cache}
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, env=environ, check=True
        )
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    """Print the table."""
    kernels = [run(KERNELS) for _ in range(REPEATS)]
    rows = [
        ("import engine.tensor (CPU time)", median(run(IMPORT)[0] for _ in range(REPEATS)), 500.0),
        ("first tiny kernel after that", median(first for first, _ in kernels), 150.0),
        ("the same structure again", median(again for _, again in kernels), 10.0),
        (
            "GPT-2 block forward and backward: trace, schedule, render",
            median(run(BLOCK, "NULL")[0] for _ in range(3)),
            5000.0,
        ),
    ]
    table = Table("what", "ms", "should be below", title="latency, medians of fresh processes")
    for what, found, reach in rows:
        table.add_row(what, f"{found:.1f}", f"{reach:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
