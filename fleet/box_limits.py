"""What a box of a model must be, and how a node compares: want, have, and what to do, line by line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt

from fleet.agents.protocol import LARGEST_INT

Bytes = Annotated[StrictInt, Field(ge=1, le=LARGEST_INT)]
Small = Annotated[StrictInt, Field(ge=1, le=1024)]
Rate = Annotated[StrictFloat | StrictInt, Field(gt=0, le=1e21)]


class Limits(BaseModel):
    """The limits of a model of box. What is left out is not looked at, but for burn-ins, which every box has to pass."""

    model_config = ConfigDict(extra="forbid")
    gpus: Annotated[StrictInt, Field(ge=0, le=64)] = Field(description="how many GPUs, no more and no less")
    gpu_model: str | None = Field(
        default=None, min_length=1, max_length=200, description="what each GPU's name has in it"
    )
    gpu_arch: str | None = Field(
        default=None, min_length=1, max_length=100, description="what each GPU's architecture begins with"
    )
    gpu_memory_bytes: Bytes | None = Field(default=None, description="of each GPU, at least")
    pcie_width: Annotated[StrictInt, Field(ge=1, le=32)] | None = Field(
        default=None, description="lanes of each GPU's link under load, at least"
    )
    pcie_generation: Annotated[StrictInt, Field(ge=1, le=10)] | None = Field(
        default=None, description="of each GPU's link under load, at least"
    )
    cores: Small | None = Field(default=None, description="at least")
    memory_bytes: Bytes | None = Field(default=None, description="of the machine, at least")
    drives: Small | None = Field(default=None, description="that answer, at least")
    drive_bytes: Bytes | None = Field(default=None, description="of each drive, at least")
    gpu_temperature_celsius: Annotated[StrictFloat | StrictInt, Field(gt=0, le=150)] | None = Field(
        default=None, description="of each GPU at the end of its burn-in, at most"
    )
    gpu_burnin_rate: Rate | None = Field(
        default=None, description="known operations a second of each GPU's burn-in, at least"
    )
    cpu_burnin_rate: Rate | None = Field(
        default=None, description="floating-point operations a second of the CPU's burn-in, at least"
    )


@dataclass(frozen=True)
class Burnt:
    """How the burn-in of a device went. `problem`: why it did not pass, empty when it did."""

    problem: str = ""
    rate: float | None = None
    link_width: int | None = None
    link_generation: int | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class FoundGpu:
    """A GPU as it was found; None is what nobody said."""

    name: str
    model: str = ""
    arch: str = ""
    memory_bytes: int = 0
    link_width: int | None = None
    link_generation: int | None = None
    temperature: float | None = None
    burnt: Burnt = field(default_factory=lambda: Burnt("it was not tested"))


@dataclass(frozen=True)
class Found:
    """A node as it was found. `drives`: capacity in bytes by serial, of those that answer; None without its metrics."""

    cores: int
    memory_bytes: int
    gpus: tuple[FoundGpu, ...] = ()
    drives: Mapping[str, int] | None = None
    cpu: Burnt = field(default_factory=lambda: Burnt("it was not tested"))


@dataclass(frozen=True)
class Line:
    """One limit held against one device: what the model wants, what is there, and the fix when that is not enough."""

    what: str
    want: str
    have: str
    ok: bool
    fix: str = ""


METRICS = "see that its agent pushes its metrics: tinyfleet node doctor says what it can measure"
SEAT = "seat the GPU and its riser anew, and look at the slot's settings in the firmware"


def compare(limits: Limits, found: Found) -> tuple[Line, ...]:
    """Every limit as a line, in the order of the model."""
    lines: list[Line] = [
        _line(
            "gpus",
            f"{limits.gpus}",
            f"{len(found.gpus)}",
            len(found.gpus) == limits.gpus,
            "look for one that is off the bus: lspci, the kernel's log, power cables",
        )
    ]
    for gpu in found.gpus:
        lines += _gpu(limits, gpu)
    lines += _machine(limits, found)
    lines.append(_burnt("cpu", limits.cpu_burnin_rate, found.cpu, "GFLOP/s", 1e9))
    return tuple(lines)


def _gpu(limits: Limits, gpu: FoundGpu) -> Iterable[Line]:
    name, burnt = gpu.name, gpu.burnt
    width = burnt.link_width if burnt.link_width is not None else gpu.link_width
    generation = burnt.link_generation if burnt.link_generation is not None else gpu.link_generation
    heat = burnt.temperature if burnt.temperature is not None else gpu.temperature
    wrong_gpu = "it is another GPU than was ordered, or its driver does not know it"
    if limits.gpu_model is not None:
        fits = limits.gpu_model.lower() in gpu.model.lower()
        yield _line(f"{name} model", limits.gpu_model, gpu.model, fits, wrong_gpu)
    if limits.gpu_arch is not None:
        fits = gpu.arch.startswith(limits.gpu_arch)
        yield _line(f"{name} architecture", limits.gpu_arch, gpu.arch, fits, wrong_gpu)
    if limits.gpu_memory_bytes is not None:
        yield _least(f"{name} memory", limits.gpu_memory_bytes, gpu.memory_bytes or None, _gib, wrong_gpu)
    if limits.pcie_width is not None:
        yield _least(f"{name} PCIe width", limits.pcie_width, width, lambda lanes: f"x{lanes:g}", SEAT)
    if limits.pcie_generation is not None:
        shown: Callable[[float], str] = lambda number: f"gen {number:g}"  # noqa: E731 - two words
        yield _least(f"{name} PCIe generation", limits.pcie_generation, generation, shown, SEAT)
    if limits.gpu_temperature_celsius is not None:
        yield _heat(name, limits.gpu_temperature_celsius, heat)
    yield _burnt(name, limits.gpu_burnin_rate, burnt, "Gop/s", 1e9)


def _heat(name: str, most: float, heat: float | None) -> Line:
    have = "not measured" if heat is None else f"{heat:g} °C"
    fix = METRICS if heat is None else "look at fans, dust, thermal paste, and what blows into the box"
    return _line(f"{name} temperature", f"at most {most:g} °C", have, heat is not None and heat <= most, fix)


def _machine(limits: Limits, found: Found) -> Iterable[Line]:
    if limits.cores is not None:
        fix = "look at the processor, and at cores that the firmware turned off"
        yield _least("cores", limits.cores, found.cores, lambda count: f"{count:g}", fix)
    if limits.memory_bytes is not None:
        fix = "seat the modules anew; dmidecode -t memory lists them"
        yield _least("memory", limits.memory_bytes, found.memory_bytes or None, _gib, fix)
    drives = found.drives
    if limits.drives is not None:
        count = None if drives is None else len(drives)
        fix = "seat the drives anew; lsblk and smartctl --scan list them"
        yield _least("drives", limits.drives, count, lambda count: f"{count:g}", fix)
    if limits.drive_bytes is not None:
        smallest = None if not drives else min(drives.values())
        fix = "replace the drive that is smaller"
        yield _least("smallest drive", limits.drive_bytes, smallest, _gib, fix)


def _burnt(name: str, least: float | None, burnt: Burnt, unit: str, scale: float) -> Line:
    what = f"{name} burn-in"
    want = "passed" if least is None else f"passed at {least / scale:.4g} {unit}"
    if burnt.problem:
        return _line(what, want, burnt.problem, False, "mend or replace it, then measure again")
    have = "passed" if burnt.rate is None else f"passed at {burnt.rate / scale:.4g} {unit}"
    fast = least is None or (burnt.rate is not None and burnt.rate >= least)
    return _line(what, want, have, fast, "look for throttling (heat, power limit), then measure again")


def _least(what: str, least: float, have: float | None, shown: Callable[[float], str], fix: str) -> Line:
    if have is None:
        return _line(what, f"at least {shown(least)}", "not measured", False, METRICS)
    return _line(what, f"at least {shown(least)}", shown(have), have >= least, fix)


def _line(what: str, want: str, have: str, ok: bool, fix: str) -> Line:
    return Line(what, want, have or "nothing", ok, "" if ok else fix)


def _gib(size: float) -> str:
    return f"{size / 2**30:.4g} GiB"


def reason(model: str, lines: Sequence[Line]) -> str:
    """Why a node is not accepted, in one line."""
    wrong = [line for line in lines if not line.ok]
    first = wrong[0]
    more = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"it is no {model}: {first.what} should be {first.want}, is {first.have}{more}"
