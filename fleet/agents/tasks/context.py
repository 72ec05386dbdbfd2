"""What every task is called with: `run(spec, workdir, report, context) -> result`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine.render.language import Renderer
from engine.target import Target
from fleet.agents.walls.bubblewrap import Enclosure

RendererFactory = Callable[[Target], Renderer]
Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TaskContext:
    """What the node lends to its tasks.

    `cache` is a directory that outlives the attempt (compiled code, the candidate store). `renderer_factory` makes
    the renderer for a target, None is the target's own; a test agent passes one whose code is wrong. `surroundings`
    are variables that tell a command who it is, `secrets` those that it was given by name; `gpus` are the numbers of its own.
    `enclosure` is the bubblewrap in which a command runs, on a node that has it.
    """

    cache: Path
    renderer_factory: RendererFactory | None = None
    surroundings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    gpus: tuple[int, ...] = ()
    enclosure: Enclosure | None = None

    def renderer(self, target: Target) -> Renderer | None:
        """The renderer to use instead of the target's own, if there is one."""
        return None if self.renderer_factory is None else self.renderer_factory(target)


class Failed(Exception):
    """The job failed, and there is still a result to show."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


class Task(Protocol):
    """One job kind. Raises InvalidGraph when the spec cannot be, Failed or anything else when it failed."""

    def __call__(
        self, spec: dict[str, Any], workdir: Path, report: Report, context: TaskContext
    ) -> dict[str, Any]:
        """Do what `spec` says in `workdir` and return the result, a JSON object."""


@dataclass(frozen=True)
class Tasks:
    """The tasks of a node by job kind, and what they render with."""

    by_kind: Mapping[str, Task]
    renderer_factory: RendererFactory | None = None
