"""One runnable file for a kernel that went wrong.

In C for a candidate that crashed, hung, wrote out of bounds or lied: the file has the candidate and the unscheduled
kernel of the same shrunk shape, runs both on the same inputs between guard pages, and says what differs: compile
it with the line at its top and run it. In Python for a kernel that could not be compiled: the file rebuilds it from
its JSON and its schedule, and compiles it again.
"""

from __future__ import annotations

import hashlib
import json
import os
from math import prod
from pathlib import Path

from engine.errors import InvalidGraph
from engine.ir import print_graph
from engine.kernel import Kernel
from engine.opts import Schedule, schedule_to_json
from engine.outcome import Measured
from engine.pipeline import Rendered
from engine.serialize import kernel_text
from engine.shapes import shape_of
from engine.target import Target

CANDIDATE, NAIVE = "candidate", "naive"

# Buffers between guard pages with a canary behind each; inputs are small whole numbers.
_HARNESS = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {{ BUFFERS = {buffers}, SCRATCH = {scratch}, CANARY = 4096, GUARD = 1 << 20 }};
static const size_t sizes[BUFFERS] = {{ {sizes} }};  /* bytes; the output first */
static const size_t items[BUFFERS] = {{ {items} }};  /* bytes of an element */
static const int floats[BUFFERS] = {{ {floats} }};   /* is it a float? */

static unsigned char *place(size_t bytes) {{
  size_t room = (bytes + 2 * CANARY + 4095) / 4096 * 4096;
  unsigned char *start = mmap(0, room + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED || mprotect(start + GUARD, room, PROT_READ | PROT_WRITE)) exit(2);
  memset(start + GUARD, 0xA5, room);
  return start + GUARD + CANARY;
}}

static void fill(unsigned char *data, int buffer) {{
  unsigned state = 1 + buffer;
  for (size_t i = 0; i < sizes[buffer] / items[buffer]; i++) {{
    state = state * 1664525u + 1013904223u;
    int value = (int)(state >> 16) % 9 - 4;
    if (floats[buffer]) ((float *)data)[i] = value;
    else if (items[buffer] == 8) ((long *)data)[i] = value;
    else if (items[buffer] == 4) ((int *)data)[i] = value;
    else data[i] = value & 1;
  }}
}}

int main(void) {{
  void *a[BUFFERS], *b[BUFFERS + 1];
  for (int i = 0; i < BUFFERS; i++) {{
    a[i] = place(sizes[i]);
    b[i] = place(sizes[i]);
    if (i) fill(a[i], i), fill(b[i], i);
  }}
  b[BUFFERS] = place(SCRATCH);
  {naive}(a, 0, 1);
  alarm(10); /* a candidate that hangs ends here */
  {run}
  int bad = 0;
  for (int i = 0; i < BUFFERS; i++) {{
    unsigned char *x = a[i], *y = b[i];
    for (size_t j = 0; j < CANARY; j++)
      if (y[sizes[i] + j] != 0xA5 || y[-1 - (long)j] != 0xA5) {{
        printf("buffer %d: wrote outside it\\n", i), bad = 1;
        break;
      }}
    if (i && memcmp(x, y, sizes[i])) printf("input %d was changed\\n", i - 1), bad = 1;
  }}
  size_t wrong = 0, first = 0;
  for (size_t j = sizes[0]; j-- > 0;)
    if (((unsigned char *)a[0])[j] != ((unsigned char *)b[0])[j]) first = j, wrong++;
  if (wrong) printf("the output differs in %zu bytes, first in element %zu\\n", wrong, first / {itemsize}), bad = 1;
  puts(bad ? "BAD" : "no difference found on these inputs");
  return bad;
}}
"""

_SCRIPT = """\
# {device} could not compile this kernel:
{error}
#
{graph}
# Run this file with the engine installed: it compiles the kernel again.

import json

import numpy as np

from engine import device
from engine.opts import schedule_from_json
from engine.programs import random_inputs
from engine.runtime.interp import evaluate
from engine.serialize import kernel_from_json

DEVICE = {device!r}
SCHEDULE = json.loads({schedule!r})
KERNEL = json.loads({kernel!r})

if __name__ == "__main__":
    kernel = kernel_from_json(KERNEL)
    prepared = device.get(DEVICE).prepare(kernel, schedule_from_json(SCHEDULE))
    print("It compiles. Greatest difference from the interpreter, on random inputs:")
    inputs = random_inputs(kernel, 0)
    print(np.max(np.abs(np.subtract(prepared(inputs), evaluate(kernel, inputs), dtype=np.float64)), initial=0.0))
"""


def keep(kernel: Kernel, schedule: Schedule, device: str, error: str, directory: Path) -> Path:
    """Write the Python file for a kernel that `device` could not compile for the reason `error`; where it is."""
    text = compile_repro(kernel, schedule, device, error)
    place = directory / f"{hashlib.sha3_256(text.encode()).hexdigest()[:16]}.py"
    scratch = place.with_suffix(f".{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, place)
    return place


def compile_repro(kernel: Kernel, schedule: Schedule, device: str, error: str) -> str:
    """The Python file's text. Of a kernel that has no JSON (it is too large for one) only the graph stands in it."""
    try:
        document = kernel_text(kernel)
    except InvalidGraph as refusal:
        document, error = "null", f"{error}\nIt cannot be rebuilt from this file: {refusal}"
    return _SCRIPT.format(
        device=device,
        error=_commented(error),
        graph=_commented("\n".join(print_graph(kernel.output))),
        schedule=json.dumps(schedule_to_json(schedule)),
        kernel=document,
    )


def _commented(text: str) -> str:
    return "\n".join(f"#   {line}" for line in text.splitlines())


def repro(kernel: Kernel, candidate: Rendered, naive: Rendered, target: Target, measured: Measured) -> str:
    """The file for a candidate of `kernel` (a shrunk one); `measured` says what happened."""
    nodes = (kernel.output, *kernel.params)
    harness = _HARNESS.format(
        buffers=len(nodes),
        sizes=", ".join(str(prod(shape_of(node)) * node.dtype.itemsize) for node in nodes),
        items=", ".join(str(node.dtype.itemsize) for node in nodes),
        floats=", ".join(str(int(node.dtype.is_float)) for node in nodes),
        itemsize=kernel.dtype.itemsize,
        naive=NAIVE,
        run=_run(candidate),
        scratch=max(candidate.scratch, 1),
    )
    sources = f"{_renamed(candidate, CANDIDATE)}\n{_renamed(naive, NAIVE)}"
    return f"{_header(candidate.scheduled.opts, target, measured)}{sources}\n{harness}"


def _run(candidate: Rendered) -> str:
    """The candidate's calls: one, or one for each of its two phases."""
    if candidate.combine is None:
        return f"{CANDIDATE}(b, 0, {candidate.tiles});"
    second = candidate.combine
    return (
        f"void *partials = place({candidate.partials}), *output = b[0];\n"
        f"  b[0] = partials;\n"
        f"  {CANDIDATE}(b, 0, {candidate.tiles});\n"
        f"  b[0] = output, b[BUFFERS] = partials;\n"
        f"  {second.entry.replace(candidate.entry, CANDIDATE)}(b, 0, {second.tiles});"
    )


def _renamed(rendered: Rendered, name: str) -> str:
    """The source with another entry point: both were rendered under one name."""
    return rendered.source.replace(rendered.entry, name)


def _header(schedule: Schedule, target: Target, measured: Measured) -> str:
    flags = " ".join(target.flags)
    detail = measured.detail.replace("*/", "* /")
    return (
        f"/* {measured.outcome.value}: {detail}\n"
        f" * schedule: {json.dumps(schedule_to_json(schedule))}\n"
        f" * target:   {target.arch} ({target.compiler})\n"
        f" * compile:  cc -O2 -w {flags} THIS.c -o repro -lm && ./repro\n"
        " */\n"
    )
