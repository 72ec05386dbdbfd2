"""A question whose answer is known, put to an NVIDIA GPU by its driver's own interface: no compiler, no toolkit.

Every thread takes its number through a chain of integer and of float operations that have one exact result each, which
the processor here knows in closed form. A GPU that a job left broken (stuck clocks, flipped bits, a context that died)
answers wrongly, answers an error, or does not answer; `fleet.agents.walls.gpu` asks in a process that can be killed.
"""

from __future__ import annotations

import ctypes
from array import array
from typing import Any

from fleet.agents.walls import nvml

THREADS = 1 << 18  # 1,024 blocks: several for each multiprocessor of the largest GPU
ROUNDS = 4096  # of each chain: 40 to 60 ms on an H200's slowest clock, and still exact in float32
_BLOCK = 256
_FACTOR, _SUM = 1664525, 1013904223  # Numerical Recipes' generator modulo 2^32
_MASK = 0xFFFFFFFF
# u = u * factor + sum (mod 2^32) and f = f * 1 + 1 (below 2^24, so exact), ROUNDS times; then u xor int(f).
_PTX = (
    f"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry known(.param .u64 answers) {{
  .reg .pred %more; .reg .u64 %at, %offset; .reg .u32 %i, %block, %thread, %u, %round, %g; .reg .f32 %f;
  ld.param.u64 %at, [answers];
  cvta.to.global.u64 %at, %at;
  mov.u32 %block, %ctaid.x; mov.u32 %thread, %tid.x;
  mad.lo.u32 %i, %block, {_BLOCK}, %thread;
  mov.u32 %u, %i;
  and.b32 %g, %i, 1023;
  cvt.rn.f32.u32 %f, %g;
  mov.u32 %round, 0;
again:
  mad.lo.u32 %u, %u, {_FACTOR}, {_SUM};
  fma.rn.f32 %f, %f, 0f3F800000, 0f3F800000;
  add.u32 %round, %round, 1;
  setp.lt.u32 %more, %round, {ROUNDS};
  @%more bra again;
  cvt.rzi.u32.f32 %g, %f;
  xor.b32 %u, %u, %g;
  mul.wide.u32 %offset, %i, 4;
  add.u64 %at, %at, %offset;
  st.global.u32 [%at], %u;
  ret;
}}
""".encode()
    + b"\0"
)


class Refused(Exception):
    """What the driver said instead of an answer."""


def expected() -> array[int]:
    """The right answers, THREADS of uint32."""
    factor, term = 1, 0
    for _ in range(ROUNDS):
        factor, term = factor * _FACTOR & _MASK, (term * _FACTOR + _SUM) & _MASK
    return array("I", ((i * factor + term) & _MASK ^ ((i & 1023) + ROUNDS) for i in range(THREADS)))


def problem(number: int) -> str:
    """What is wrong with the answer of the GPU of this minor number; empty for nothing, and where no CUDA is to ask.

    It keeps the driver loaded and a context's remains: call it in a process that ends afterwards.
    """
    address = nvml.pci_address(number)
    if address is None:
        return ""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    try:
        gpu = Asked(address)
        gpu.launch()
        answers = gpu.answers()
        gpu.close()
    except Refused as refusal:
        return str(refusal)
    return wrong(answers)


def wrong(answers: array[int]) -> str:
    """How many answers differ from the known ones, in words; empty when none does."""
    right = expected()
    if answers == right:
        return ""
    bad = [i for i in range(THREADS) if answers[i] != right[i]]
    first = bad[0]
    return f"{len(bad)} of {THREADS} known answers are wrong (thread {first}: {answers[first]}, not {right[first]})"


class Asked:
    """A GPU that is asked again and again, in one context. Refused when it, its driver or CUDA does not answer.

    Like `problem`, for a process that ends afterwards.
    """

    def __init__(self, address: str) -> None:
        """`address`: its PCI address, as NVML writes it."""
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise Refused(f"CUDA's driver is not here: {error}") from error
        device = ctypes.c_int()
        context, self._module, self._function, self._memory = (ctypes.c_void_p() for _ in range(4))
        self._call("cuInit", 0)
        self._call("cuDeviceGetByPCIBusId", ctypes.byref(device), address.encode())
        self._call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
        self._context = context
        self._call("cuModuleLoadData", ctypes.byref(self._module), _PTX)
        self._call("cuModuleGetFunction", ctypes.byref(self._function), self._module, b"known")
        self._call("cuMemAlloc_v2", ctypes.byref(self._memory), ctypes.c_size_t(THREADS * 4))

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._cuda, name)(*arguments)
        if status:
            raise Refused(f"{name} answers {status}")

    def launch(self) -> None:
        """Have every thread answer once, and wait for that."""
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(self._memory))
        self._call("cuMemsetD32_v2", self._memory, 0, ctypes.c_size_t(THREADS))
        shape = (THREADS // _BLOCK, 1, 1, _BLOCK, 1, 1, 0)
        self._call("cuLaunchKernel", self._function, *shape, None, parameters, None)
        self._call("cuCtxSynchronize")

    def answers(self) -> array[int]:
        """What the last launch answered, THREADS of uint32."""
        found = (ctypes.c_uint32 * THREADS)()
        self._call("cuMemcpyDtoH_v2", found, self._memory, ctypes.c_size_t(THREADS * 4))
        return array("I", bytes(found))

    def close(self) -> None:
        """End the context."""
        self._call("cuCtxDestroy_v2", self._context)
