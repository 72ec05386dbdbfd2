"""The compiling side: a process that renders and compiles one candidate after another, and may be ended at any time.

Forked by engine.starter, which has everything imported and has started no thread. Python's part of making a kernel
takes longer than LLVM's, so several such processes are what uses several cores; and whatever a compiler does to its
process (it may end it, or never come back) happens here.
"""

from __future__ import annotations

import gc
import socket
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.errors import CompileError, InvalidGraph, VerifyError
from engine.opts import schedule_from_json
from engine.outcome import Outcome
from engine.packets import Message, document_in, serve
from engine.pipeline import Rendered
from engine.serialize import kernel_from_json, kernel_to_json
from engine.store import Store
from engine.target import Target
from engine.texts import Recipe, Texts
from engine.toolchain import compile

# Python's collector looks for cycles this seldom: a graph's nodes are many, and hold none.
COLLECT_EVERY = 50_000


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe without a renderer of its own. InvalidGraph if the kernel is too large to be written down."""
    return {
        "kernel": kernel_to_json(recipe.kernel),
        "small": kernel_to_json(recipe.small),
        "target": asdict(recipe.target),
        "directory": str(recipe.directory),
    }


def recipe_from_json(document: dict[str, Any]) -> Recipe:
    """The recipe that was written down by this version of the engine."""
    return Recipe(
        kernel_from_json(document["kernel"]),
        kernel_from_json(document["small"]),
        _target(document),
        Path(document["directory"]),
    )


def text_to_json(source: str, recipe: Recipe) -> dict[str, Any]:
    """A source, and for what and where to it is to be compiled."""
    return {"source": source, "target": asdict(recipe.target), "directory": str(recipe.directory)}


def _target(document: dict[str, Any]) -> Target:
    target = document["target"]
    return Target(**{**target, "flags": tuple(target["flags"])})


class Worker:
    """Makes candidates of the kernel it was told of last."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._recipe: Recipe | None = None

    def serve(self) -> None:
        """Answer commands until the other side closes."""
        gc.freeze()
        gc.set_threshold(COLLECT_EVERY)
        serve(self._sock, {"recipe": self._take, "build": self._build, "compile": self._compile})

    def _take(self, fds: list[int]) -> Message:
        """Take the recipe in the file handed over."""
        self._recipe = recipe_from_json(document_in(fds[0]))
        return {}

    def _build(self, _: list[int], schedule: list[Any], sources: str, timeout_s: float) -> Message:
        """Render and compile a candidate; its C goes to the store at `sources`. The answer has what became of it."""
        assert self._recipe is not None
        try:
            texts = self._recipe.texts(schedule_from_json(schedule))
        except InvalidGraph as error:
            return _failed(Outcome.ILLEGAL, error)
        except (VerifyError, CompileError) as error:
            return _failed(Outcome.COMPILE_FAILED, error)
        shown = Store(Path(sources)).add_source(texts.shown)
        try:
            paths = self._recipe.compile(texts, timeout_s)
        except CompileError as error:
            return {**_failed(Outcome.COMPILE_FAILED, error), "shown": shown}
        return {"shown": shown, "entries": entries(texts, paths)}

    def _compile(self, fds: list[int], timeout_s: float) -> Message:
        """Compile the source in the file handed over, which says for what and where to."""
        document = document_in(fds[0])
        directory = Path(document["directory"])
        try:
            path = compile(document["source"], _target(document), directory, timeout_s=timeout_s)
        except CompileError as error:
            return _failed(Outcome.COMPILE_FAILED, error)
        return {"path": str(path)}


def entries(texts: Texts, paths: tuple[Path, Path]) -> list[list[Any]]:
    """What is needed to run the two kernels: [file, function, tiles, scratch bytes, second phase] of each.

    Of one with a second phase that is [function, tiles, bytes between the phases], of others None.
    """
    return [_entry(*pair) for pair in zip((texts.full, texts.small), paths, strict=True)]


def _entry(rendered: Rendered, path: Path) -> list[Any]:
    second = rendered.combine
    combine = None if second is None else [second.entry, second.tiles, rendered.partials]
    return [str(path), rendered.entry, rendered.tiles, rendered.scratch, combine]


def _failed(outcome: Outcome, error: Exception) -> Message:
    return {"outcome": outcome.value, "detail": str(error)[:2000]}
