"""Whole scripts written for PyTorch (tests/peers/scripts) run on it and, with nothing but their imports changed, here.

Both start from the same weights; every loss, norm and rate that a script gives back must be PyTorch's.
Run it with a Python that has PyTorch and pytest, from the root: `python -m pytest --noconftest tests/peers/moved_scripts.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.tensor import Tensor

FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
# As docs/moving.md says it.
CHANGES = ((r"^import torch$", "import engine.torch as torch"), (r"^(import|from) torch", r"\1 engine.torch"))


def prepared(made: Any) -> Any:
    """A function that gives a model the same weights, whoever made it."""

    def prepare(model: Any) -> Any:
        random = np.random.default_rng(7)
        state = {}
        for name, tensor in model.state_dict().items():
            small = random.standard_normal(tuple(tensor.shape), dtype=np.float32) * 0.2
            learnt = (
                tensor.ndim > 0 and not name.endswith(("attn.bias", "running_var")) and "norm" not in name
            )
            state[name] = made(small) if learnt else tensor
        model.load_state_dict(state)
        return model

    return prepare


def run(name: str, source: str, made: Any) -> list[float]:
    scope: dict[str, Any] = {"__name__": name}
    exec(compile(source, name, "exec"), scope)
    found: list[float] = scope["main"](prepared(made))
    return found


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_script_moves_over_by_its_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEV", "CPU")
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    moved = source
    for pattern, replacement in CHANGES:
        moved = re.sub(pattern, replacement, moved, flags=re.MULTILINE)
    assert moved != source
    wanted = run(name, source, torch.tensor)
    np.testing.assert_allclose(run(name, moved, Tensor), wanted, rtol=2e-3, atol=1e-4)
