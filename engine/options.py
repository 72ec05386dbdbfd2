"""What can be set from outside: one frozen value, read from the environment and passed down.

Nothing in the engine looks at the environment by itself, and there is no flag to flip while it runs: an option
changes what it changes by being in the `Options` that a device was made with.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from errno import EACCES
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import InvalidOption

MOST_THREADS = 1024
DEBUG_LEVELS = 4
BEAM_S = 0.1, 3600.0


class Pinning(StrEnum):
    """Where worker threads may run."""

    NONE = "none"  # wherever the system puts them
    CORES = "cores"  # each on a core of its own, of those that the process may use


@dataclass(frozen=True, slots=True)
class Options:
    """The engine's options; `OPTIONS` says what each means and which variable it is read from."""

    device: str = "CPU"
    compiler: str = ""
    threads: int = 0
    cache: Path = Path("~/.cache/tinyfleet")
    debug: int = 0
    pinning: Pinning = Pinning.NONE
    beam: float | None = None

    @property
    def kernels(self) -> Path:
        """The folder of compiled kernels; made, for its owner only: code is loaded from it."""
        return _private(self.cache, "kernels")

    @property
    def repros(self) -> Path:
        """The folder of kernels that could not be compiled, each as a file that shows it; made if need be."""
        return _private(self.cache, "repros")


@dataclass(frozen=True, slots=True)
class Option:
    """One option: the variable, the field of `Options`, how its text is read, what it is without one."""

    variable: str
    field: str
    type: str
    default: str
    help: str
    read: Callable[[str], Any]


def from_environment(environ: Mapping[str, str]) -> Options:
    """The options that `environ` asks for; an empty variable counts as none. InvalidOption names one that cannot be."""
    given = {o.field: o.read(text) for o in OPTIONS if (text := environ.get(o.variable, "").strip())}
    return Options(**{"cache": _default_cache(environ), **given})


def _default_cache(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "tinyfleet"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # neither HOME nor the system knows one
        return Path("/nonexistent")


def current() -> Options:
    """The options of this process's environment, read again only when one of the variables has changed."""
    return _parsed(tuple(os.environ.get(name, "") for name in _VARIABLES))


@lru_cache(maxsize=16)
def _parsed(texts: tuple[str, ...]) -> Options:
    return from_environment(dict(zip(_VARIABLES, texts, strict=True)))


def _text(text: str) -> str:
    return text


def _whole(variable: str, low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
            raise InvalidOption(variable, text, f"set a whole number from {low} to {high}, or unset it")
        return int(text)

    return read


def _seconds(variable: str, low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if found != 0 and not low <= found <= high:  # nor what is no number
            raise InvalidOption(variable, text, f"set 0 or seconds from {low:g} to {high:g}, or unset it")
        return found

    return read


def _pinning(variable: str) -> Callable[[str], Pinning]:
    def read(text: str) -> Pinning:
        if text not in list(Pinning):
            raise InvalidOption(variable, text, f"set {' or '.join(Pinning)}, or unset it")
        return Pinning(text)

    return read


def _folder(variable: str) -> Callable[[str], Path]:
    def read(text: str) -> Path:
        found = Path(text).expanduser()
        if not found.is_absolute():
            raise InvalidOption(variable, text, "set an absolute path, or unset it")
        return found

    return read


def _private(cache: Path, name: str) -> Path:
    """A folder of the cache, made; where the default one cannot be written to, of one that goes with the process."""
    try:
        return _made(cache / name)
    except OSError as error:
        if cache != _default_cache(os.environ):
            reason = f"nothing can be kept there ({error.strerror}): set a folder to write to"
            raise InvalidOption("TINYFLEET_CACHE", str(cache / name), reason) from error
        return _made(_for_this_process(str(cache), str(error.strerror)) / name)


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(EACCES, os.strerror(EACCES), str(folder))
    return folder


@lru_cache(maxsize=1)
def _for_this_process(wanted: str, why: str) -> Path:
    """A cache that only this process knows and that goes with it, told of once."""
    folder = Path(tempfile.mkdtemp(prefix="tinyfleet-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    print(
        f"tinyfleet: {wanted} cannot be used ({why}); kernels are kept in {folder} until this process ends: "
        "set TINYFLEET_CACHE to a folder to keep them",
        file=sys.stderr,
    )
    return folder


OPTIONS = (
    Option("DEV", "device", "device", "CPU", "where tensors that name no device are computed", _text),
    Option("CC", "compiler", "program", "clang, else gcc", "the C compiler: a name or path of either", _text),
    Option(
        "THREADS",
        "threads",
        "1 to 1024",
        "all cores",
        "threads of one kernel",
        _whole("THREADS", 1, MOST_THREADS),
    ),
    Option(
        "PIN",
        "pinning",
        " or ".join(Pinning),
        str(Pinning.NONE),
        "worker threads: moved by the system, or each on a core of its own (of those left to the process)",
        _pinning("PIN"),
    ),
    Option(
        "TINYFLEET_CACHE",
        "cache",
        "folder",
        "~/.cache/tinyfleet",
        "where compiled kernels, measurements and repros are kept",
        _folder("TINYFLEET_CACHE"),
    ),
    Option(
        "BEAM",
        "beam",
        f"0, or {BEAM_S[0]:g} to {BEAM_S[1]:g} seconds",
        "the model's pick",
        "schedules of new kernels: the best that a search has stored; if none has, search so long (0: do not)",
        _seconds("BEAM", *BEAM_S),
    ),
    Option(
        "DEBUG",
        "debug",
        f"0 to {DEBUG_LEVELS}",
        "0",
        "print each new kernel, and list of them: 1 name and cost, 2 schedule, 3 graph, 4 source",
        _whole("DEBUG", 0, DEBUG_LEVELS),
    ),
)
_VARIABLES = (*(option.variable for option in OPTIONS), "XDG_CACHE_HOME", "HOME")
