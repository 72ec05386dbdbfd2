"""docs/ops.md is what the ops do: its letters are what running every op on every dtype and backend gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from engine import device
from engine.device.interpreter import Interpreter
from engine.ir import UOp, substitute, toposort
from engine.kernel import Kernel
from engine.ops import Op
from engine.options import Options
from tests import op_table
from tests.growth import Array
from tests.op_table import BACKENDS, DTYPES, PATH, parsed, render, results

pytestmark = pytest.mark.slow

PARTS = 12
# What every change should see at once: the definition, and a part of the backend that is the default.
QUICK = [("I", part) for part in range(PARTS)] + [("L", 0)]
SLOW = [("L", part) for part in range(1, PARTS)] + [("C", part) for part in range(PARTS)]


@pytest.mark.parametrize(
    ("letter", "part"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]
)
def test_the_committed_table_says_what_a_backend_does(letter: str, part: int) -> None:
    committed = parsed(PATH.read_text(encoding="utf-8"))[letter]
    found = results(BACKENDS[letter], part, PARTS)
    assert len(found) > 40
    wrong = {key: right for key, right in found.items() if committed[key] != right}
    assert wrong == {}, "run python -m tests.op_table"


def test_the_committed_table_has_no_other_line_than_what_is_generated() -> None:
    text = PATH.read_text(encoding="utf-8")
    assert render(parsed(text)) == text


def test_the_table_has_every_op_and_dtype() -> None:
    keys = parsed(PATH.read_text(encoding="utf-8"))["I"]
    ops = {op.split()[0] for op, _, _ in keys}
    inside = {
        "PARAM",
        "BUFFER",
        "CONTIGUOUS",
        "DETACH",
        "SLOPE",
        "LEADING",
        "ASSIGN",
        "HOLE",
        "GET",
        "MULACC",
    }
    kernel = {"RANGE", "INDEX", "LOAD", "STORE", "ACC", "END", "AFTER", "SINK", "VECTOR", "LANE"}
    kernel |= {"STAGE", "PREFETCH"}
    assert ops == {op.value for op in Op} - inside - kernel
    assert {dtype for _, dtype, _ in keys} == set(DTYPES)


class _Faulty(Interpreter):
    """Takes a minimum for a maximum, and loses the sign of a zero that is negated."""

    name = "FAULTY"

    def run(self, kernel: Kernel, inputs: Sequence[Array]) -> Array:
        mistaken: dict[UOp, UOp] = {
            n: n.replace(op=Op.MIN) for n in toposort(kernel.output) if n.op is Op.MAX
        }
        found = super().run(Kernel(substitute(kernel.output, mistaken)), inputs)
        return found + np.zeros((), found.dtype) if kernel.output.op is Op.NEG else found


@pytest.mark.slow
def test_a_backend_that_is_wrong_has_no_letter_there() -> None:
    def make(part: str, options: Options) -> device.Device:
        return _Faulty()

    device.register("FAULTY", make)
    wrong = {key for key, right in results("FAULTY").items() if not right}
    assert {op for op, _, _ in wrong} == {"MAX", "NEG", "SCATTER max"} - {"SCATTER max"}
    assert ("NEG", "float32", "float32") in wrong
    assert ("NEG", "int32", "int32") not in wrong
    shown = render({"I": results("INTERP"), "L": results("FAULTY")})
    line = next(line for line in shown.splitlines() if line.startswith("| MAX |"))
    assert "I" in line
    assert "L" not in line


def test_a_kernel_that_a_backend_refuses_has_no_letter() -> None:
    case = next(iter(op_table.cases()))
    assert not op_table.is_right(case, "NULL")
