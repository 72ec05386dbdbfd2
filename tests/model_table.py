"""The table of models × what is compared in docs/models.md: how far they are from PyTorch's.

    make peers          compares and writes docs/models.md

The comparison (tests.peers.models, tests.peers.digits) needs PyTorch; what is here needs the file only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).parent.parent / "docs" / "models.md"
# Of float32, whose own rounding is 6e-8 an operation: relative to the largest magnitude of what is compared.
TOLERANCE = 5e-5
LOSS_TOLERANCE = 1e-4  # the largest absolute difference of a loss
PARTS = ("forward", "d input", "d weights")
MODELS = (
    "MLP 64-128-128-10, batch 32",
    "conv net 3×16×16, batch 8",
    "GPT-2 block 768, 12 heads, T 64",
    "Llama block 512, 8/2 heads, T 48",
)
OPTIMIZERS = ("SGD", "SGD with Nesterov's momentum and decay", "Adam", "AdamW")


@dataclass(frozen=True)
class Row:
    """One comparison: the largest error of `part` of `model`, and what it may be."""

    model: str
    part: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Is it within the tolerance? NaN is not."""
        return self.error <= self.tolerance

    def __str__(self) -> str:
        return f"| {' | '.join([self.model, self.part, *_numbers(self)])} |"


def model_rows(model: str, errors: Sequence[float]) -> list[Row]:
    """The rows of a model: an error for each of PARTS."""
    return [Row(model, part, error, TOLERANCE) for part, error in zip(PARTS, errors, strict=True)]


def loss_row(optimizer: str, error: float) -> Row:
    """The row of the losses of training on the digits."""
    return Row("digits 64-128-10, batch 128", f"100 losses, {optimizer}", error, LOSS_TOLERANCE)


def wanted() -> list[tuple[str, str, float]]:
    """(model, part, tolerance) of every row there must be, in order."""
    rows = [row for name in MODELS for row in model_rows(name, [0.0] * len(PARTS))]
    rows += [loss_row(name, 0.0) for name in OPTIMIZERS]
    return [(row.model, row.part, row.tolerance) for row in rows]


def _numbers(row: Row) -> list[str]:
    shown = f"{row.error:.1e}"
    margin = f"{row.tolerance / float(shown):.0f}×" if row.error else "exact"
    return [shown, f"{row.tolerance:.0e}", margin]


HEAD = """# Models against PyTorch

Written by `make peers`, which fails beyond a tolerance; a test holds that every model is here and that the tolerances
are those compared with. The weights are the same seeded ones on both sides, and both compute in float32.

- A model's error is the largest difference, relative to the largest magnitude of what is compared: its output, the
  gradient of its input, the gradients of its weights. A weight's gradient far below the largest of any weight (that of
  a key's bias is 0 but for rounding) is compared on a hundredth of that.
- The error of training on the digits is the largest absolute difference of the first 100 losses.

Errors vary with machine and library, because sums are added in other orders. These are of {made_with}.

| model | what | largest error | tolerance | margin |
| --- | --- | --- | --- | --- |
"""


def render(rows: Sequence[Row], made_with: str) -> str:
    """docs/models.md; `made_with` says of which machine and which versions the errors are."""
    return HEAD.format(made_with=made_with) + "".join(f"{row}\n" for row in rows)


def parsed(text: str) -> tuple[list[Row], str]:
    """What `render` was given for `text`, errors as they are shown."""
    found = re.search(r"These are of (.*)\.\n", text)
    cells = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = [
        Row(model, part, float(error), float(tolerance)) for model, part, error, tolerance, _ in cells[2:]
    ]
    return rows, found[1] if found else ""
