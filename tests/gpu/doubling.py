"""`python3 tests/gpu/doubling.py`: a kernel by CUDA's driver alone, that doubles numbers. Prints {"gpus", "right"} as JSON."""

from __future__ import annotations

import ctypes
import json
from typing import Any

COUNT = 1 << 16
PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry twice(.param .u64 values)
{
  .reg .u64 %a, %o; .reg .u32 %i, %b, %t, %v;
  ld.param.u64 %a, [values];
  cvta.to.global.u64 %a, %a;
  mov.u32 %b, %ctaid.x; mov.u32 %t, %tid.x;
  mad.lo.u32 %i, %b, 256, %t;
  mul.wide.u32 %o, %i, 4;
  add.u64 %a, %a, %o;
  ld.global.u32 %v, [%a];
  add.u32 %v, %v, %v;
  st.global.u32 [%a], %v;
  ret;
}
\0"""


class Failed(Exception):
    """What CUDA said."""


def answer() -> dict[str, Any]:
    """How many GPUs CUDA sees, and whether the first doubles numbers as it should. Failed names the call."""
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: Any) -> None:
        status = getattr(cuda, name)(*arguments)
        if status:
            raise Failed(f"{name} answers {status}")

    count, device = ctypes.c_int(), ctypes.c_int()
    context, module, function, memory = (ctypes.c_void_p() for _ in range(4))
    call("cuInit", 0)
    call("cuDeviceGetCount", ctypes.byref(count))
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuCtxCreate_v2", ctypes.byref(context), 0, device)
    call("cuModuleLoadData", ctypes.byref(module), PTX)
    call("cuModuleGetFunction", ctypes.byref(function), module, b"twice")
    values = (ctypes.c_uint32 * COUNT)(*range(COUNT))
    call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(COUNT * 4))
    call("cuMemcpyHtoD_v2", memory, values, ctypes.c_size_t(COUNT * 4))
    parameters = (ctypes.c_void_p * 1)(ctypes.addressof(memory))
    call("cuLaunchKernel", function, COUNT // 256, 1, 1, 256, 1, 1, 0, None, parameters, None)
    call("cuMemcpyDtoH_v2", values, memory, ctypes.c_size_t(COUNT * 4))
    call("cuCtxDestroy_v2", context)
    return {"gpus": count.value, "right": list(values) == [2 * number for number in range(COUNT)]}


if __name__ == "__main__":
    print(json.dumps(answer()))
