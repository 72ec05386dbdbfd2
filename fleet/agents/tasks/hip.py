"""The known-answer question of `fleet.agents.walls.known_answer`, put to an AMD GPU: the same chains, compiled on the node.

The node's own ROCm is asked through ctypes: hiprtc compiles the source for the GPU that is there, libamdhip64 runs it. What
the compiler could work out beforehand (factors, the number of rounds) is an argument of the kernel, so that the GPU does it.
"""

from __future__ import annotations

import ctypes
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.agents.probes.pcie import generation
from fleet.agents.walls.known_answer import ROUNDS, THREADS, Refused

_BLOCK = 256
_FACTOR, _TERM = 1664525, 1013904223  # as the CUDA kernel has them: the answers are the same
# No standard header: hiprtc brings what HIP is, and a node need not have more of ROCm than its two libraries.
SOURCE = b"""
extern "C" __global__ void known(
    unsigned int* answers, unsigned int factor, unsigned int term, float one, unsigned int rounds) {
  unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
  unsigned int u = i;
  float f = (float)(i & 1023u);
  for (unsigned int round = 0; round < rounds; ++round) {
    u = u * factor + term;
    f = __builtin_fmaf(f, one, one);
  }
  answers[i] = u ^ (unsigned int)f;
}
"""
_FOLDERS = ("", "/opt/rocm/lib/")
_VERSIONS = (".7", ".6", ".5", "")


@dataclass(frozen=True)
class Place:
    """An AMD GPU on the bus: its folder in sysfs, and its address as HIP takes it ("0000:03:00.0")."""

    folder: Path
    address: str

    def link(self) -> tuple[int | None, int | None]:
        """Width and generation of its link as it is now; None for what its driver does not say."""
        width = self._said("current_link_width")
        return int(width) if width.isdecimal() and width != "0" else None, generation(
            self._said("current_link_speed")
        )

    def temperature(self) -> float | None:
        """The highest that its driver says, in degrees Celsius (it says thousandths)."""
        files = sorted(self.folder.glob("hwmon/hwmon*/temp*_input"))
        said = [self._said(str(file.relative_to(self.folder))) for file in files]
        found = [int(each) / 1000 for each in said if re.fullmatch(r"-?\d+", each)]
        return max(found, default=None)

    def _said(self, name: str) -> str:
        try:
            return (self.folder / name).read_text().strip()
        except OSError:
            return ""


def place(number: int, root: Path = Path("/")) -> Place | None:
    """Where the AMD GPU of this number is, by its render node; None where that is no GPU of amdgpu's."""
    folder = root / f"sys/class/drm/renderD{128 + number}/device"
    try:
        if (folder / "driver").resolve(strict=True).name != "amdgpu":
            return None
        return Place(folder, folder.resolve(strict=True).name)
    except OSError:
        return None


def _library(name: str, folders: Iterable[str] = _FOLDERS) -> Any:
    tried = [f"{folder}{name}{version}" for folder in folders for version in _VERSIONS]
    for path in tried:
        try:
            return ctypes.CDLL(path)
        except OSError:
            continue
    raise Refused(f"ROCm's {name} is not here: install it, in /opt/rocm/lib or where the linker looks")


class Asked:
    """A GPU that is asked again and again. Refused when it, its driver or ROCm does not answer.

    For a process that ends afterwards, as `known_answer.Asked`.
    """

    def __init__(self, address: str, hip: Any = None, compiler: Any = None) -> None:
        """`address`: its PCI address. `hip` and `compiler`: ROCm's libraries, else those of this node."""
        self._hip = hip or _library("libamdhip64.so")
        device = ctypes.c_int()
        self._module, self._function, self._memory = (ctypes.c_void_p() for _ in range(3))
        self._call("hipInit", 0)
        self._call("hipDeviceGetByPCIBusId", ctypes.byref(device), address.encode())
        self._call("hipSetDevice", device)
        code = _compiled(compiler or _library("libhiprtc.so"))
        self._call("hipModuleLoadData", ctypes.byref(self._module), code)
        self._call("hipModuleGetFunction", ctypes.byref(self._function), self._module, b"known")
        self._call("hipMalloc", ctypes.byref(self._memory), ctypes.c_size_t(THREADS * 4))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._hip, name)(*arguments)
        if status:
            raise Refused(f"{name} answers {status}")

    def launch(self) -> None:
        """Have every thread answer once, and wait for that."""
        given = (
            ctypes.c_void_p(self._memory.value),
            ctypes.c_uint32(_FACTOR),
            ctypes.c_uint32(_TERM),
            ctypes.c_float(1.0),
            ctypes.c_uint32(ROUNDS),
        )
        parameters = (ctypes.c_void_p * len(given))(*(ctypes.addressof(each) for each in given))
        self._call("hipMemset", self._memory, 0, ctypes.c_size_t(THREADS * 4))
        shape = (THREADS // _BLOCK, 1, 1, _BLOCK, 1, 1, 0)
        self._call("hipModuleLaunchKernel", self._function, *shape, None, parameters, None)
        self._call("hipDeviceSynchronize")

    def answers(self) -> array[int]:
        """What the last launch answered, THREADS of uint32."""
        found = (ctypes.c_uint32 * THREADS)()
        self._call("hipMemcpyDtoH", found, self._memory, ctypes.c_size_t(THREADS * 4))
        return array("I", bytes(found))

    def close(self) -> None:
        """Give back what was taken."""
        self._call("hipFree", self._memory)
        self._call("hipModuleUnload", self._module)


def _compiled(compiler: Any) -> Any:
    """The kernel for the device that is set: hiprtc takes its architecture when none is named. Refused with its log."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()

    def call(name: str, *arguments: Any) -> None:
        status = getattr(compiler, name)(*arguments)
        if status:
            raise Refused(f"{name} answers {status}{_log(compiler, program)}")

    call("hiprtcCreateProgram", ctypes.byref(program), SOURCE, b"known.hip", 0, None, None)
    call("hiprtcCompileProgram", program, 0, None)
    call("hiprtcGetCodeSize", program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    call("hiprtcGetCode", program, code)
    call("hiprtcDestroyProgram", ctypes.byref(program))
    return code


def _log(compiler: Any, program: ctypes.c_void_p) -> str:
    size = ctypes.c_size_t()
    if not program.value or compiler.hiprtcGetProgramLogSize(program, ctypes.byref(size)) or size.value < 2:
        return ""
    text = ctypes.create_string_buffer(size.value)
    if compiler.hiprtcGetProgramLog(program, text):
        return ""
    return f": {text.value.decode(errors='replace')[:400]}"
