"""Devices by name, and the one place where DEV is understood.

    DEV   = KIND [ ":" PART ]          upper or lower case
    KIND  = CPU | INTERP | NULL | what an installed package registers
    PART  = what the kind makes of it

`CPU`: this machine's cores, kernels compiled by LLVM in this process (`CPU:LLVM`) or, as C, by the system's compiler
(`CPU:C`). `INTERP`: the NumPy interpreter, the definition of every op. `NULL`: everything but the hardware: kernels are
ordered, scheduled and rendered (as for `CPU`: `NULL:LLVM`, `NULL:C`), nothing is stored or computed.

A package adds a kind by an entry point of its name in the group `tinyfleet.devices`, which loads a `Factory`; it is
loaded only when that name is asked for and is not built in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from threading import RLock

from engine.device.cpu import COMPILERS, Cpu
from engine.device.interpreter import Interpreter
from engine.device.null import RENDERINGS, Null
from engine.device.protocol import Device
from engine.errors import DeviceError
from engine.options import Options, current

GROUP = "tinyfleet.devices"
Factory = Callable[[str, Options], Device]


@dataclass(frozen=True, slots=True)
class Kind:
    """What stands before the colon. `make` is called with what stands behind it, and the options.

    `parts` may stand behind the colon, and the first is what no part means; with no `parts` anything may stand
    there, and `make` refuses what it does not know.
    """

    help: str
    make: Factory
    parts: tuple[str, ...] = ()


# The design's names for hardware that this build cannot reach.
ABSENT = {
    "CUDA": "NVIDIA GPUs",
    "HIP": "AMD GPUs",
    "CL": "OpenCL",
    "WEBGPU": "WebGPU",
    "FLEET": "kernels run by the fleet",
}
_NO_PART = ("",)
_kinds: dict[str, Kind] = {
    "CPU": Kind("this machine's cores", Cpu, tuple(COMPILERS)),
    "INTERP": Kind("the NumPy interpreter: slow, and right by definition", Interpreter, _NO_PART),
    "NULL": Kind("no hardware: kernels are made and counted, nothing is computed", Null, tuple(RENDERINGS)),
}
_lock = RLock()


def register(name: str, make: Factory, parts: tuple[str, ...] = (), help: str = "") -> None:
    """Make a kind of device known under `name` for this process; a device of it is made when first used."""
    with _lock:
        _kinds[name.upper()] = Kind(help, make, parts)
        _made.cache_clear()


def kinds() -> dict[str, Kind]:
    """Every kind there is by name; the installed ones are listed, not loaded."""
    installed = {entry.name.upper(): Kind(f"from {entry.value}", _loader(entry)) for entry in _entries()}
    return installed | _kinds


def names() -> list[str]:
    """The names that `get` takes; a kind without a list of parts stands once."""
    found: list[str] = []
    for name, kind in sorted(kinds().items()):
        found += [name, *(f"{name}:{part}" for part in kind.parts if part)]
    return found


def canonical(name: str | None = None, options: Options | None = None) -> str:
    """The canonical form of a device's name; None means the options' (without them the environment's DEV).

    One device has one canonical name. DeviceError lists the devices there are when the name is none of them.
    """
    given = (options or current()).device if name is None else name
    return _canonical(given, "DEV" if name is None else "device")


def get(name: str | None = None, options: Options | None = None) -> Device:
    """The device of that name (None: as `canonical`), made when first asked for and kept. DeviceError as `canonical`."""
    options = options or current()
    found = canonical(name, options)
    with _lock:
        return _made(found, options)


@lru_cache(maxsize=256)
def _canonical(given: str, source: str) -> str:
    name, colon, part = given.strip().upper().partition(":")
    kind = _kind(name)
    if kind is None or (colon and not part) or (kind.parts and part and part not in kind.parts):
        raise DeviceError(f"{source}={given!r}", _refusal(name, kind))
    if not kind.parts:
        return f"{name}:{part}" if part else name
    return name if part in ("", kind.parts[0]) else f"{name}:{part}"


def _refusal(name: str, kind: Kind | None) -> str:
    listed = f"there are {', '.join(names())}"
    if kind is None and name in ABSENT:
        return f"{ABSENT[name]}: that backend is not part of this build; {listed}"
    return f"no such device; {listed}"


def _kind(name: str) -> Kind | None:
    """A kind by name; an entry point is loaded only for a name that is not known yet."""
    with _lock:
        if name not in _kinds:
            found = next((entry for entry in _entries() if entry.name.upper() == name), None)
            if found is None:
                return None
            _kinds[name] = Kind(f"from {found.value}", _load(found))
        return _kinds[name]


def _entries() -> metadata.EntryPoints:
    return metadata.entry_points(group=GROUP)


def _load(entry: metadata.EntryPoint) -> Factory:
    try:
        found: Factory = entry.load()
    except Exception as error:
        raise DeviceError(
            f"load {entry.name} from {entry.value}", f"{type(error).__name__}: {error}"
        ) from error
    return found


def _loader(entry: metadata.EntryPoint) -> Factory:
    return lambda part, options: _load(entry)(part, options)


@lru_cache(maxsize=64)
def _made(name: str, options: Options) -> Device:
    kind, _, part = name.partition(":")
    known = _kinds[kind]
    return known.make(part or (known.parts[0] if known.parts else ""), options)
