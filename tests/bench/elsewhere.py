"""Racers in processes of their own: peers that need another environment, or would be in the way of this one.

    python -m tests.bench.elsewhere blas 1024 1        NumPy's BLAS; OPENBLAS_CORETYPE chooses its kernels
    python -m tests.bench.elsewhere tinygrad 1024 1    tinygrad; BEAM=2 lets it search first

Such a process multiplies matrices of that size on so many threads. It checks itself, says what it is in one line of
JSON, and then runs for as many seconds as each line of its input says, answering with the seconds of its single runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from types import TracebackType
from typing import Any

import numpy as np

from tests.bench import peers
from tests.bench.contest import Array, aligned, check
from tests.bench.racing import Racer, Run, timed


class Elsewhere:
    """A peer in a process of its own, as a racer; ended when the block is left.

    `name` is what it calls itself and `preparing_s` how long it took to be ready: with its imports, and its search if
    it made one. CalledProcessError if it could not start.
    """

    def __init__(self, peer: str, size: int, threads: int, environ: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "tests.bench.elsewhere", peer, str(size), str(threads)]
        begun = time.perf_counter()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
        )
        self.name = str(self._answer())
        self.preparing_s = time.perf_counter() - begun

    def racer(self) -> Racer:
        """Its turns."""
        return Racer(self.name, self._turn)

    def _turn(self, seconds: float) -> list[float]:
        assert self._process.stdin is not None
        print(seconds, file=self._process.stdin, flush=True)
        found: list[float] = self._answer()
        return found

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self._process.wait(), self._process.args)
        return json.loads(line)

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def blas(size: int, threads: int) -> tuple[str, Run]:
    """NumPy's BLAS: what it is, and one run."""
    peers.blas().set_threads(threads)
    a, b = _matrices(size)
    out = aligned(np.empty_like(a))
    return _checked(
        f"{peers.blas().name} for {peers.blas().core}", lambda: np.matmul(a, b, out=out), lambda: out, a, b
    )


def tinygrad(size: int, threads: int) -> tuple[str, Run]:
    """tinygrad on the CPU, its function recorded: what it is, and one run with its wait."""
    library = import_module("tinygrad")
    a, b = _matrices(size)
    x, y = (library.Tensor(array, device="CPU").contiguous().realize() for array in (a, b))
    multiply = library.TinyJit(lambda x, y: (x @ y).realize())
    device = library.Device["CPU"]
    results: list[Any] = [None]

    def run() -> None:
        results[0] = multiply(x, y)
        device.synchronize()

    for _ in range(3):
        run()
    return _checked("tinygrad", run, lambda: results[0].numpy(), a, b)


def _matrices(size: int) -> tuple[Array, Array]:
    generator = np.random.default_rng()
    a, b = (aligned(generator.standard_normal((size, size), np.float32)) for _ in range(2))
    return a, b


def _checked(name: str, run: Run, result: Callable[[], Array], a: Array, b: Array) -> tuple[str, Run]:
    run()
    check(name, result(), a.astype(np.float64) @ b.astype(np.float64), len(a))
    return name, run


PEERS = {"blas": blas, "tinygrad": tinygrad}


def main(peer: str, size: str, threads: str) -> None:
    """Answer until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    name, run = PEERS[peer](int(size), int(threads))
    print(json.dumps(name), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(run, float(line), int(threads))), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
