"""What a job asks of nodes, as options of the command line: --require KEY=VALUE, and short ones for what is usual."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from fleet.cli.connection import Usage
from fleet.cli.durations import positive
from fleet.cli.text import printable

_FLAGS = ("whole_node",)
_NUMBERS = ("gpus", "cpus", "ranks", "gpu_memory_bytes")
_TEXTS = ("gpu_arch", "gpu_vendor", "gpu_driver", "exclusive", "rack", "trust")
_KEYS = (*_NUMBERS, *_TEXTS, *_FLAGS, "gpu_memory", "label", "not_label", "feature")
_UNITS = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}

Require = Annotated[
    list[str] | None,
    typer.Option(
        "--require",
        "-r",
        metavar="KEY=VALUE",
        help="Of each node: gpu_arch=sm_90, gpu_memory=80g, gpu_vendor=amd, gpu_driver=, cpus=4, whole_node, "
        "exclusive=node, label=KEY=VALUE, not_label=KEY, rack=, trust=sealed.",
    ),
]
Gpus = Annotated[int | None, typer.Option(min=0, help="GPUs on each node.")]
Ranks = Annotated[int | None, typer.Option(min=1, help="A gang: on so many nodes at once, or on none.")]
Preemptible = Annotated[
    bool,
    typer.Option("--preemptible", help="May be stopped for a job of a higher priority, and queued again."),
]
RetryOn = Annotated[
    list[str] | None,
    typer.Option(help="Tries again after: failed, timed_out, infra_failed, node_lost, device_wedged."),
]

AfterOk = Annotated[
    list[int] | None, typer.Option(min=1, metavar="JOB", help="Only when that job has succeeded.")
]
AfterAny = Annotated[
    list[int] | None, typer.Option(min=1, metavar="JOB", help="Only when that job has ended, somehow.")
]
AfterOkArray = Annotated[
    list[int] | None, typer.Option(min=1, metavar="ARRAY", help="Only when all of its jobs have succeeded.")
]
AfterAnyArray = Annotated[
    list[int] | None, typer.Option(min=1, metavar="ARRAY", help="Only when all of its jobs have ended.")
]
AfterStart = Annotated[
    list[int] | None, typer.Option("--after", min=1, metavar="JOB", help="Only when that job has begun.")
]
QueueTimeout = Annotated[
    float | None,
    typer.Option(
        "--queue-timeout", parser=positive, metavar="SECONDS", help="It fails when it has waited so long."
    ),
]


def requirements(given: Iterable[str], gpus: int | None, ranks: int | None) -> dict[str, Any]:
    """The options as the API takes them. Raises Usage for a key that there is not, or no number where one is due."""
    found: dict[str, Any] = {}
    for text in given:
        key, _, value = text.partition("=")
        key = key.replace("-", "_")
        if key not in _KEYS:
            raise Usage(f"--require {printable(text)}: {printable(key)!r} is none of {', '.join(_KEYS)}")
        if key not in _FLAGS and not value:
            raise Usage(f"--require {printable(text)}: give a value, as {key}=…")
        _add(found, key, value)
    found |= {} if gpus is None else {"gpus": gpus}
    return found | ({} if ranks is None else {"ranks": ranks})


def _add(found: dict[str, Any], key: str, value: str) -> None:
    if key == "label":
        name, _, label = value.partition("=")
        found.setdefault("labels", {})[name] = label
    elif key == "not_label":
        found.setdefault("anti_labels", []).append(value)
    elif key == "feature":
        found.setdefault("features", []).append(value)
    elif key == "gpu_memory":
        found["gpu_memory_bytes"] = _size(value)
    elif key in _FLAGS:
        found[key] = value in ("", "true", "yes")
    else:
        found[key] = _number(key, value) if key in _NUMBERS else value


def _number(key: str, value: str) -> int:
    if not value.isdecimal():
        raise Usage(f"--require {key}={printable(value)}: a whole number is due")
    return int(value)


def _size(value: str) -> int:
    """Bytes, or with k, m, g or t those of a KiB and so on."""
    unit = _UNITS.get(value[-1:].lower(), 0)
    digits = value[:-1] if unit else value
    if not digits.isdecimal():
        raise Usage(f"--require gpu_memory={printable(value)}: give bytes, or as 80g")
    return int(digits) * (unit or 1)
