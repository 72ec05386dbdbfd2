"""One runnable file for a kernel that went wrong under LLVM: the assembly of two kernels in Python that needs llvmlite.

As the C file of engine.repro it has the candidate and the unscheduled kernel of the same shrunk shape, runs both on
the same inputs between guard pages, and says what differs.
"""

from __future__ import annotations

import json
from math import prod

from engine.kernel import Kernel
from engine.opts import schedule_to_json
from engine.outcome import Measured
from engine.pipeline import Rendered
from engine.shapes import shape_of
from engine.target import Target
from engine.toolchain import LIBM, features_of

# Buffers between guard pages with a canary on both sides; inputs are small whole numbers.
_SCRIPT = '''\
"""{header}
Run it with llvmlite installed: it says what the candidate does that the kernel as written does not.
"""

import ctypes
import mmap
import signal

import llvmlite.binding as llvm

FEATURES = {features!r}
FUNCTION = {entry!r}
TILES = {tiles}
SCRATCH = {scratch}  # bytes of memory of its own that the candidate gets behind its buffers
# (function, tiles, bytes between both) of the candidate's second phase, if it has one.
SECOND = {second!r}
# (bytes, bytes of an element, is it a float?) of the output and of each input.
BUFFERS = {buffers!r}
CANARY, GUARD, FILL = 4096, 1 << 20, 0xA5
# PROT_NONE and PROT_READ | PROT_WRITE
NOTHING, READ_WRITE = 0, 3

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def place(size):
    """The address of so many bytes between canaries and guard pages."""
    room = -(-(size + 2 * CANARY) // 4096) * 4096
    start = libc.mmap(None, room + 2 * GUARD, NOTHING, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    assert libc.mprotect(start + GUARD, room, READ_WRITE) == 0
    ctypes.memset(start + GUARD, FILL, room)
    return start + GUARD + CANARY


def fill(address, number):
    """Whole numbers from -4 to 4."""
    size, item, floats = BUFFERS[number]
    kinds = {{8: ctypes.c_double, 4: ctypes.c_float}} if floats else {{8: ctypes.c_int64, 4: ctypes.c_int32}}
    kind = kinds.get(item, ctypes.c_uint8)
    state = 1 + number
    values = (kind * (size // ctypes.sizeof(kind))).from_address(address)
    for i in range(len(values)):
        state = (state * 1664525 + 1013904223) % (1 << 32)
        value = (state >> 16) % 9 - 4
        values[i] = value if kind is not ctypes.c_uint8 else value & 1


def load(assembly):
    """What gives the kernels of some assembly by name."""
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu={cpu!r}, features=FEATURES, opt=2, codemodel="jitdefault", jit=True
    )
    module = llvm.parse_assembly(assembly)
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    passes = llvm.create_pass_builder(machine, tuning).getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, llvm.create_pass_builder(machine, tuning))
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_long, ctypes.c_long)
    return lambda name: kernel(engine.get_function_address(name))


def call(kernel, addresses, tiles):
    kernel((ctypes.c_void_p * len(addresses))(*addresses), 0, tiles)


def differences(naive, candidate):
    """What the candidate did wrong, line by line."""
    for number, (size, item, _) in enumerate(BUFFERS):
        behind = ctypes.string_at(candidate[number] + size, CANARY)
        before = ctypes.string_at(candidate[number] - CANARY, CANARY)
        if behind != bytes([FILL]) * CANARY or before != bytes([FILL]) * CANARY:
            yield f"buffer {{number}}: wrote outside it"
        a, b = (ctypes.string_at(of[number], size) for of in (naive, candidate))
        if number and a != b:
            yield f"input {{number - 1}} was changed"
        wrong = [at for at in range(size) if a[at] != b[at]] if not number and a != b else []
        if wrong:
            yield f"the output differs in {{len(wrong)}} bytes, first in element {{wrong[0] // item}}"


def main():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name in {libm!r}:
        llvm.add_symbol(name, ctypes.cast(getattr(libc, name), ctypes.c_void_p).value)
    placed = []
    for assembly, tiles, second in ((NAIVE, 1, None), (CANDIDATE, TILES, SECOND)):
        kernels = load(assembly)
        addresses = [place(size) for size, _, _ in BUFFERS]
        for number, address in enumerate(addresses[1:], 1):
            fill(address, number)
        signal.alarm(10)  # a candidate that hangs ends here
        output, *inputs = addresses
        partials = place(second[2]) if second else None
        call(kernels(FUNCTION), [partials or output, *inputs, place(SCRATCH)], tiles)
        if second:
            call(kernels(second[0]), [output, *inputs, partials], second[1])
        placed.append(addresses)
    found = list(differences(*placed))
    print(*found, "BAD" if found else "no difference found on these inputs", sep="\\n")
    return bool(found)


CANDIDATE = r"""
{candidate}"""

NAIVE = r"""
{naive}"""

if __name__ == "__main__":
    raise SystemExit(main())
'''


def llvm_repro(
    kernel: Kernel, candidate: Rendered, naive: Rendered, target: Target, measured: Measured
) -> str:
    """The file for a candidate of `kernel` (a shrunk one); `measured` says what happened."""
    nodes = (kernel.output, *kernel.params)
    features = features_of(target)
    second = candidate.combine
    detail = measured.detail.replace("\\", "/").replace('"""', "'''")
    header = (
        f"{measured.outcome.value}: {detail}\n\n"
        f"schedule: {json.dumps(schedule_to_json(measured.schedule))}\n"
        f"target:   {target.arch} ({target.compiler})\n"
    )
    return _SCRIPT.format(
        header=header,
        features=features,
        cpu="x86-64" if features else "generic",
        entry=candidate.entry,
        tiles=candidate.tiles,
        scratch=candidate.scratch,
        second=(second.entry, second.tiles, candidate.partials) if second else None,
        buffers=[
            (prod(shape_of(node)) * node.dtype.itemsize, node.dtype.itemsize, node.dtype.is_float)
            for node in nodes
        ],
        libm=LIBM,
        candidate=candidate.source,
        naive=naive.source,
    )
