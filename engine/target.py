"""What kernels are compiled for: the CPU's instruction set and caches, the compiler and its flags.

Part of every cache key, so it is the same on every machine where the same code would be made: flags follow
the CPU's feature bits and never -march=native, which guesses wrong in virtual machines.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from engine.errors import CompileError
from engine.options import Options, current

# Raised when a schedule comes to mean another kernel, or a kernel other code: old results are then not reused.
SCHEDULE_VERSION = 2

# -ffast-math is banned (it breaks NaN, infinities and exp); contraction is explicit, as MULACC.
SEMANTIC_FLAGS = (
    "-std=gnu11",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fwrapv",
    "-fno-strict-aliasing",
)
_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_AVX2 = ("avx", "avx2", "fma")
_EXTRA_X86 = ("bmi1", "bmi2", "popcnt", "sse4_2", "f16c")
_GCC_NAMES = {"bmi1": "bmi", "sse4_2": "sse4.2"}


@dataclass(frozen=True)
class Features:
    """What a renderer may use: vector registers of `vector_bytes`, how many there are, fused multiply-add."""

    isa: str  # "avx512", "avx2", "sse2", "neon" or "scalar"
    vector_bytes: int
    vector_registers: int
    fma: bool


FEATURES = {
    "avx512": Features("avx512", 64, 32, True),
    "avx2": Features("avx2", 32, 16, True),
    "sse2": Features("sse2", 16, 16, False),
    "neon": Features("neon", 16, 32, True),
    "scalar": Features("scalar", 8, 16, False),
}


@dataclass(frozen=True)
class Target:
    """A device and the compiler for it. `executable` and `cores` say where, the rest says what (`id`)."""

    device: str  # "CPU"
    arch: str  # vendor-family-model, instruction sets, cache sizes
    cores: int
    compiler: str  # "gcc 12.2.0"
    flags: tuple[str, ...]
    isa: str
    version: int = SCHEDULE_VERSION
    executable: str = ""

    @property
    def features(self) -> Features:
        """What the renderer may use."""
        return FEATURES[self.isa]

    def cache_bytes(self, name: str) -> int | None:
        """The size of the cache "l1d", "l2" or "l3" in bytes; None where the system does not say."""
        found = re.search(rf"\+{name}=(\d+)K", self.arch)
        return int(found[1]) << 10 if found else None

    def to_json(self) -> dict[str, object]:
        """The parts that decide which code is made and how fast it is, as JSON values."""
        return {
            "device": self.device,
            "arch": self.arch,
            "cores": self.cores,
            "compiler": self.compiler,
            "flags": list(self.flags),
            "isa": self.isa,
            "version": self.version,
        }

    @cached_property
    def id(self) -> str:
        """Hex SHA3-256 of the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha3_256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Processor:
    """What the system says of its CPU: `name` is vendor-family-model."""

    machine: str
    name: str
    flags: frozenset[str]
    caches: tuple[tuple[str, int], ...]  # ("l1d", bytes), ("l2", bytes), …


def detect(prefer: str | None = None, options: Options | None = None) -> Target:
    """This machine's CPU and its C compiler: the one named `prefer`, else the options' (CC), else clang or gcc.

    CC is a name or a path of clang or gcc; its id is that of the same compiler found without it. CompileError,
    saying what to install, when there is none; naming CC when that is no such compiler.
    """
    return _detected(prefer, "" if prefer else (options or current()).compiler)


@lru_cache(maxsize=1)
def processor_target() -> Target:
    """This machine's CPU and no compiler: enough to schedule and render for, and never fails."""
    return describe(read_processor(), "none", ())


@lru_cache(maxsize=8)
def _detected(prefer: str | None, chosen: str) -> Target:
    executable, compiler = chosen_compiler(chosen) if chosen else find_compiler(prefer)
    return describe(read_processor(), compiler, SEMANTIC_FLAGS, executable)


def describe(processor: Processor, compiler: str, flags: tuple[str, ...], executable: str = "") -> Target:
    """The CPU device `processor` with a compiler, whose flags for its instruction set are added to `flags`."""
    isa = instruction_set(processor)
    return Target(
        device="CPU",
        arch=architecture(processor, isa),
        cores=len(os.sched_getaffinity(0)),
        compiler=compiler,
        flags=flags + isa_flags(processor, isa),
        isa=isa,
        executable=executable,
    )


def find_compiler(prefer: str | None = None) -> tuple[str, str]:
    """(path, "name version") of the C compiler: clang, else gcc, or only `prefer`."""
    for name in (prefer,) if prefer else ("clang", "gcc"):
        path = shutil.which(name)
        if path is not None:
            return path, _version(path, name)
    raise CompileError(
        "target",
        f"no C compiler found ({prefer or 'clang or gcc'}): install one, e.g. apt install clang, or gcc",
    )


def chosen_compiler(chosen: str) -> tuple[str, str]:
    """(absolute path, "name version") of the compiler that CC names. CompileError unless it is clang or gcc."""
    path = shutil.which(chosen)
    if path is None:
        raise CompileError(
            "target", f"CC={chosen!r} is no program here: set a name or a path of clang or gcc"
        )
    # what predefines __GNUC__ compiles C as gcc does; --version alone would take any GNU program for it
    if "#define __GNUC__ " not in _asked(path, "-dM", "-E", "-x", "c", os.devnull):
        raise CompileError("target", f"CC={chosen!r} is neither clang nor gcc: set one of them, or unset CC")
    return os.path.abspath(path), _version(path, "gcc")


def _asked(path: str, *options: str) -> str:
    """What the compiler prints; nothing when it cannot be started or does not answer."""
    try:
        return subprocess.run(
            [path, *options], capture_output=True, text=True, errors="replace", timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _version(path: str, name: str) -> str:
    """ "gcc 12.2.0" or "clang 14.0.6", whatever the distribution adds to it."""
    answer = _asked(path, "--version")
    first = answer.partition("\n")[0]
    kind = "clang" if "clang" in first else "gcc" if "Free Software" in answer else name
    # gcc puts the distribution in brackets first; what is outside them is its own
    found = re.search(r"\d+(\.\d+)+", re.sub(r"\(.*?\)", "", first))
    return f"{kind} {found[0] if found else 'unknown'}"


def read_processor() -> Processor:
    """This machine's CPU, from /proc and /sys."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    return parse_processor(platform.machine(), text, _caches())


def parse_processor(machine: str, cpuinfo: str, caches: tuple[tuple[str, int], ...] = ()) -> Processor:
    """The first processor of a /proc/cpuinfo text."""
    fields: dict[str, str] = {}
    for line in cpuinfo.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        fields[key.strip()] = value.strip()
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    name = "-".join(fields[key] for key in names if key in fields) or machine
    flags = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    return Processor(machine, name, flags, caches)


def _caches() -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, type_, size = ((index / leaf).read_text().strip() for leaf in ("level", "type", "size"))
        if type_ != "Instruction":
            found[f"l{level}{'d' if type_ == 'Data' else ''}"] = int(size.rstrip("K")) * 1024
    return tuple(sorted(found.items()))


def instruction_set(processor: Processor) -> str:
    """The widest of FEATURES that the CPU's feature bits allow."""
    if processor.machine in ("x86_64", "AMD64"):
        if processor.flags.issuperset(_AVX512 + _AVX2):
            return "avx512"
        return "avx2" if processor.flags.issuperset(_AVX2) else "sse2"
    return "neon" if processor.machine == "aarch64" else "scalar"


def isa_flags(processor: Processor, isa: str) -> tuple[str, ...]:
    """Compiler flags for the instruction set, from feature bits."""
    if isa not in ("avx512", "avx2"):
        return ()  # SSE2 and NEON are in their platforms' baselines
    names = (*(_AVX512 if isa == "avx512" else ()), *_AVX2)
    extra = tuple(name for name in _EXTRA_X86 if name in processor.flags)
    wide = ("-mprefer-vector-width=512",) if isa == "avx512" else ()
    return (*(f"-m{_GCC_NAMES.get(name, name)}" for name in names + extra), *wide)


def architecture(processor: Processor, isa: str) -> str:
    """vendor-family-model+instruction sets+cache sizes: machines with one such name are interchangeable."""
    used = sorted(processor.flags & frozenset(_AVX512 + _AVX2 + _EXTRA_X86)) or [isa]
    caches = [f"{name}={size >> 10}K" for name, size in processor.caches]
    return "+".join([f"{processor.machine}-{processor.name}", *used, *caches])
