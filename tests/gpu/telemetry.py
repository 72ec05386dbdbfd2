"""`python3 tests/gpu/telemetry.py`: what the probes say of a real NVIDIA GPU under loads that are known. Prints tables.

Needs Python 3.11 and nvidia-ml-py; where that is not installed, `pip install --target build/site nvidia-ml-py` beforehand and
this script finds it there. Loads come from libcuda and, for the matrix product, cuBLAS where it is found. Takes two minutes.
Exit status 1 when anything is not as promised. With $OUT the figures are written to $OUT/telemetry.json too.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "build" / "site"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fleet.agents.energy import Meter
from fleet.agents.exporter import render
from fleet.agents.probes.nvml import Nvml, Session, Unavailable
from fleet.agents.probes.nvml_fields import FIELDS, NvmlFields
from fleet.agents.probes.nvml_gpm import NvmlGpm
from fleet.agents.processes import clock

ROOT = Path(__file__).resolve().parents[2]
PART = "0"
SECONDS = float(os.environ.get("SECONDS_EACH", "12"))
PTX = b"""
.version 7.0
.target sm_70
.address_size 64
.visible .entry tiny(.param .u64 out) {
  ret;
}
.visible .entry spin(.param .u64 out, .param .u32 rounds) {
  .reg .f32 %a<8>; .reg .u32 %n, %r; .reg .pred %p; .reg .u64 %o;
  ld.param.u32 %r, [rounds]; mov.u32 %n, 0;
  mov.f32 %a0, 0f3F800001; mov.f32 %a1, 0f3F800002; mov.f32 %a2, 0f3F800003; mov.f32 %a3, 0f3F800004;
loop:
  fma.rn.f32 %a0, %a0, %a1, %a2; fma.rn.f32 %a1, %a1, %a2, %a3;
  fma.rn.f32 %a2, %a2, %a3, %a0; fma.rn.f32 %a3, %a3, %a0, %a1;
  add.u32 %n, %n, 1; setp.lt.u32 %p, %n, %r; @%p bra loop;
  ld.param.u64 %o, [out]; setp.eq.f32 %p, %a0, 0f00000000; @%p st.global.f32 [%o], %a3;
  ret;
}
\0"""


class Failed(Exception):
    """What CUDA or cuBLAS said."""


class Cuda:
    """The first GPU's primary context; `load` functions run in a thread that has made it current."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.context, self.module, device = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), device)
        self.enter()
        self.call("cuModuleLoadData", ctypes.byref(self.module), PTX)

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise Failed(f"{name} answers {status}")

    def enter(self) -> None:
        self.call("cuCtxSetCurrent", self.context)

    def allocate(self, size: int) -> ctypes.c_uint64:
        found = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(found), ctypes.c_size_t(size))
        return found

    def fill(self, at: ctypes.c_uint64, size: int) -> None:
        """With bfloat16 of ±[0.5, 1): what is all zeros costs less power."""
        block = 8 << 20
        plain = int.from_bytes(os.urandom(block), "little")
        keep, put = (int.from_bytes(word * (block // 2), "little") for word in (b"\x7f\x80", b"\x00\x3f"))
        content = ((plain & keep) | put).to_bytes(block, "little")
        for offset in range(0, size, block):
            target = ctypes.c_uint64(at.value + offset)
            self.call("cuMemcpyHtoD_v2", target, content, ctypes.c_size_t(min(block, size - offset)))

    def launch(self, name: bytes, blocks: int, threads: int, *arguments: Any) -> None:
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), self.module, name)
        pointers = (ctypes.c_void_p * len(arguments))(*[ctypes.addressof(each) for each in arguments])
        self.call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, pointers, None)

    def wait(self) -> None:
        self.call("cuCtxSynchronize")


def copying(cuda: Cuda) -> Callable[[], None]:
    """2 GiB to another place, over and over."""
    size = 2 << 30
    first, second = cuda.allocate(size), cuda.allocate(size)

    def once() -> None:
        for _ in range(20):
            cuda.call("cuMemcpyDtoDAsync_v2", second, first, ctypes.c_size_t(size), None)
        cuda.wait()

    return once


def tiny(cuda: Cuda) -> Callable[[], None]:
    """Kernels of one thread that do nothing, one after the other."""
    out = cuda.allocate(4096)

    def once() -> None:
        for _ in range(200):
            cuda.launch(b"tiny", 1, 1, out)
            cuda.wait()

    return once


def spinning(cuda: Cuda, rounds: int = 200_000) -> Callable[[], None]:
    """Multiply-adds on every multiprocessor, no tensor cores."""
    out = cuda.allocate(4096)

    def once() -> None:
        cuda.launch(b"spin", 132 * 8, 256, out, ctypes.c_uint32(rounds))
        cuda.wait()

    return once


def product(cuda: Cuda) -> Callable[[], None]:
    """bfloat16 matrix products of 8192³ by cuBLAS. Raises Failed where there is none."""
    blas = cublas()
    size, handle = 8192, ctypes.c_void_p()
    matrices = [cuda.allocate(size * size * 2) for _ in range(3)]
    for each in matrices[:2]:
        cuda.fill(each, size * size * 2)
    if blas.cublasCreate_v2(ctypes.byref(handle)):
        raise Failed("cublasCreate_v2 failed")
    one, zero = ctypes.c_float(1.0), ctypes.c_float(0.0)

    def once() -> None:
        for _ in range(20):
            status = blas.cublasGemmEx(
                *(handle, 1, 0, size, size, size, ctypes.byref(one)),
                *(ctypes.c_void_p(matrices[0].value), 14, size, ctypes.c_void_p(matrices[1].value), 14, size),
                *(ctypes.byref(zero), ctypes.c_void_p(matrices[2].value), 14, size, 68, -1),
            )
            if status:
                raise Failed(f"cublasGemmEx answers {status}")
        cuda.wait()

    return once


def cublas() -> ctypes.CDLL:
    """cuBLAS, from wherever a toolkit or a Python package has put it."""
    places = [Path(each) for each in ("/usr/local", "/usr/lib/x86_64-linux-gnu", "/opt", *sys.path) if each]
    patterns = ("cuda*/lib64/libcublas.so.*", "cuda*/targets/*/lib/libcublas.so.*", "libcublas.so.*")
    patterns += ("nvidia/cublas/lib/libcublas.so.*", "nvidia/cu*/lib/libcublas.so.*")
    found = [str(path) for place in places for pattern in patterns for path in sorted(place.glob(pattern))]
    for name in ("libcublas.so", "libcublas.so.13", "libcublas.so.12", *found):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise Failed("cuBLAS is not here")


@contextmanager
def load(cuda: Cuda, once: Callable[[], None] | None, duty_s: float = 0.0) -> Iterator[None]:
    """In a thread, until the block ends; with `duty_s`, that long on and that long off."""
    stop, failed = threading.Event(), []

    def run() -> None:
        try:
            cuda.enter()
            begun = time.monotonic()
            while once is not None and not stop.is_set():
                if duty_s and int((time.monotonic() - begun) / duty_s) % 2:
                    stop.wait(0.005)
                else:
                    once()
        except Failed as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


class Row(NamedTuple):
    """What was seen under one load."""

    load: str
    busy: float
    sm_active: float
    occupancy: float
    tensor: float
    memory: float
    low_w: float
    mean_w: float
    high_w: float
    counter_j: float
    sampled_j: float
    off_percent: float
    sm_mhz: float
    throttled: str


def value(samples: list[Any], name: str, label: str = "") -> float:
    found = [each.value for each in samples if each.name == f"fleet_gpu_{name}" and label in each.labels]
    return found[0] if found else float("nan")


def watched(name: str, seconds: float, probe: Nvml, gpm: NvmlGpm) -> Row:
    """Sample power ten times a second for so long, and everything else at the end."""
    meter, reads = Meter(), []
    gpm.read(PART)
    joules, begun = probe.joules(PART) or 0.0, clock()
    while (at := clock()) < begun + seconds:
        meter.ring.push(at, probe.watts(PART) or 0.0)
        if len(reads) <= at - begun:
            reads.append(probe.read(PART))
        time.sleep(max(0.0, 0.1 - (clock() - at)))
    counted, ended = (probe.joules(PART) or 0.0) - joules, clock()
    meter.ring.push(ended, probe.watts(PART) or 0.0)
    sampled = (meter.ring.at(ended) or 0.0) - (meter.ring.at(begun) or 0.0)
    found, window = gpm.read(PART), meter.ring.window(ended, 60)
    assert window is not None
    held = {
        each.labels.rpartition('reason="')[2].rstrip('"')
        for read in reads
        for each in read
        if each.name.endswith("throttled") and each.value
    }
    return Row(
        name,
        *(statistics.mean(value(read, "busy_ratio") for read in reads),),
        *(
            value(found, f"{each}_ratio")
            for each in ("sm_active", "sm_occupancy", "tensor_active", "memory_bandwidth")
        ),
        *(window.low, window.mean, window.high, counted, sampled, 100 * (sampled / counted - 1)),
        *(
            statistics.median(value(read, "clock_hertz", 'domain="sm"') for read in reads) / 1e6,
            " ".join(sorted(held)) or "-",
        ),
    )


def cost(call: Callable[[], object], count: int = 40) -> tuple[float, float]:
    """Median wall and processor microseconds of a call."""
    walls, busy = [], []
    for _ in range(count):
        wall, cpu = time.perf_counter(), time.thread_time()
        call()
        walls.append(time.perf_counter() - wall)
        busy.append(time.thread_time() - cpu)
    return statistics.median(walls) * 1e6, statistics.mean(busy) * 1e6


def costs(session: Session, probe: Nvml, fields: NvmlFields, gpm: NvmlGpm) -> dict[str, tuple[float, float]]:
    """Of single calls, and of what the telemetry does."""
    device = session.devices[PART]
    singles = {
        name: (lambda function=function, more=more: session.ask(function, device.handle, *more))
        for name, function, *more in (
            ("power (usage)", "nvmlDeviceGetPowerUsage"),
            ("energy", "nvmlDeviceGetTotalEnergyConsumption"),
            ("utilization", "nvmlDeviceGetUtilizationRates"),
            ("memory", "nvmlDeviceGetMemoryInfo"),
            ("temperature", "nvmlDeviceGetTemperature", 0),
            ("clock reasons", "nvmlDeviceGetCurrentClocksEventReasons"),
            ("clock", "nvmlDeviceGetClockInfo", 1),
            ("power limit", "nvmlDeviceGetEnforcedPowerLimit"),
            ("fan", "nvmlDeviceGetFanSpeed"),
            ("link width", "nvmlDeviceGetCurrPcieLinkWidth"),
            ("ECC total", "nvmlDeviceGetTotalEccErrors", 0, 0),
            ("processes", "nvmlDeviceGetComputeRunningProcesses"),
        )
    }
    single_fields = {
        f"field {name}": (lambda wanted=wanted: session.fields(device, [wanted]))
        for name, wanted in {"power instant": (186, 0), "energy": (83, 0), **FIELDS}.items()
        if session.fields(device, [wanted])[0] is not None
    }
    whole = {
        "10 Hz: watts": lambda: probe.watts(PART),
        "1 Hz: nvml": lambda: probe.read(PART),
        "10 s: nvml_fields": lambda: fields.read(PART),
        "10 s: nvml_gpm": lambda: gpm.read(PART),
    }
    everything = probe.read(PART) + fields.read(PART) + gpm.read(PART)
    whole["render one GPU"] = lambda: render(everything)
    return {name: cost(call) for name, call in (singles | single_fields | whole).items()}


def swings(cuda: Cuda, once: Callable[[], None], session: Session) -> dict[str, tuple[float, float, float]]:
    """Least, mean and most power of a load of half a second on and off, by NVML's two ways to ask."""
    device, found = session.devices[PART], {"usage": [0.0] * 0, "instant": [0.0] * 0}
    with load(cuda, once, duty_s=0.5):
        time.sleep(2)
        for _ in range(80):
            found["usage"].append((session.ask("nvmlDeviceGetPowerUsage", device.handle) or 0) / 1e3)
            found["instant"].append((session.fields(device, [(186, 0)])[0] or 0) / 1e3)
            time.sleep(0.1)
    return {name: (min(each), statistics.mean(each), max(each)) for name, each in found.items()}


def process(cuda: Cuda, once: Callable[[], None], gpu: str) -> dict[str, Any]:
    """The telemetry's own process for 30 s, collecting every second, with an attempt of ten seconds in it."""
    command = [sys.executable, "-m", "fleet.agents.telemetry", "--state", "/tmp", "--version", "trial"]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:2])}
    child = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    heard: list[dict[str, Any]] = []
    threading.Thread(target=lambda: heard.extend(map(json.loads, child.stdout)), daemon=True).start()  # type: ignore[arg-type]

    def tell(**more: Any) -> None:
        child.stdin.write(json.dumps({"every_s": 1.0, **more}).encode() + b"\n")  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]

    tell()
    with load(cuda, once):
        time.sleep(15)  # the counter is compared with power first
        before, at = _ticks(child.pid), time.monotonic()
        attempt = {"key": "1-1", "devices": [f"gpu{gpu}"], "job_id": 1, "started": clock() - 0.2}
        tell(attempts=[attempt])
        time.sleep(10)
        ended = clock()
        tell(attempts=[attempt | {"ended": ended}])
        time.sleep(5)
        share = (_ticks(child.pid) - before) / os.sysconf("SC_CLK_TCK") / (time.monotonic() - at)
    resident = int(Path(f"/proc/{child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    child.stdin.close()
    child.wait(10)
    energies = [each["energy"]["1-1"] for each in heard if "energy" in each]
    text = next(each["metrics"] for each in reversed(heard) if "metrics" in each)
    lines = [
        line for line in text.splitlines() if line.startswith(("fleet_gpu", "fleet_collector", "fleet_job"))
    ]
    return {
        "core_percent": 100 * share,
        "resident_mib": resident / 2**20,
        "attempt_s": ended - attempt["started"],
        "attempt": energies[0] if energies else None,
        "exposition": lines,
    }


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def main() -> int:
    """Measure, print, judge."""
    session = Session()
    probe, fields, gpm = Nvml(session), NvmlFields(session), NvmlGpm(session)
    try:
        probe.parts()
    except Unavailable as error:
        print(f"no NVIDIA GPU can be asked here: {error}")
        return 1
    print(session.devices[PART].info)
    cuda = Cuda()
    loads: list[tuple[str, Callable[[], None] | None]] = [("idle", None), ("tiny launches", tiny(cuda))]
    loads += [("copy on the device", copying(cuda)), ("fp32 multiply-adds", spinning(cuda))]
    heaviest = loads[-1][1]
    try:
        loads.append(("bf16 matrix product", product(cuda)))
        heaviest = loads[-1][1]
    except Failed as error:
        print(f"the matrix product is left out: {error}")
    assert heaviest is not None
    rows, counters = [], {}
    for name, once in loads:
        with load(cuda, once):
            time.sleep(3)
            before = dict(
                zip(FIELDS, session.fields(session.devices[PART], list(FIELDS.values())), strict=True)
            )
            rows.append(watched(name, SECONDS, probe, gpm))
            after = dict(
                zip(FIELDS, session.fields(session.devices[PART], list(FIELDS.values())), strict=True)
            )
        counters[name] = {
            each: (now - before[each]) / SECONDS
            for each, now in after.items()
            if now is not None and before[each] is not None
        }
    print(
        f"\n{'load':<22}{'util':>6}{'SM':>7}{'occ':>7}{'tensor':>8}{'DRAM':>7}{'low W':>8}{'mean W':>8}{'high W':>8}{'counter J':>11}{'sampled J':>11}{'off %':>7}{'MHz':>6}  held down by"
    )
    for row in rows:
        shares = f"{row.busy:6.0%}{row.sm_active:7.1%}{row.occupancy:7.1%}{row.tensor:8.1%}{row.memory:7.1%}"
        watts = f"{row.low_w:8.0f}{row.mean_w:8.0f}{row.high_w:8.0f}{row.counter_j:11.0f}{row.sampled_j:11.0f}{row.off_percent:7.2f}"
        print(f"{row.load:<22}{shares}{watts}{row.sm_mhz:6.0f}  {row.throttled}")
    print("\nfield values: increase per second under each load (what stands still is left out)")
    for name, found in counters.items():
        print(f"  {name}: " + ", ".join(f"{each} {rate:.4g}" for each, rate in found.items() if rate))
    print("\nhalf a second on and off: least, mean, most W")
    swung = swings(cuda, heaviest, session)
    for name, (low, mean, high) in swung.items():
        print(f"  {name:<10}{low:8.0f}{mean:8.0f}{high:8.0f}")
    print("\nmedian wall and mean processor time of a call, µs")
    prices = costs(session, probe, fields, gpm)
    for name, (wall, busy) in prices.items():
        print(f"  {name:<34}{wall:10.1f}{busy:10.1f}")
    own = process(cuda, heaviest, probe.identity(PART)[0])
    print(
        f"\nits own process, {len(session.devices)} GPUs, collecting every second: {own['core_percent']:.2f} % of a core, {own['resident_mib']:.1f} MiB"
    )
    expected = rows[-1].mean_w * own["attempt_s"]
    print(f"an attempt of {own['attempt_s']:.1f} s: {own['attempt']}, by its mean power {expected:.0f} J")
    print("\n".join(own["exposition"]))
    if os.environ.get("OUT"):
        document = {
            "rows": [row._asdict() for row in rows],
            "counters": counters,
            "swings": swung,
            "costs": prices,
            "process": own,
        }
        Path(os.environ["OUT"], "telemetry.json").write_text(json.dumps(document, indent=1))
    return judged(rows, own, expected)


def judged(rows: list[Row], own: dict[str, Any], expected: float) -> int:
    """What was promised, each with its verdict; 1 when one does not hold."""
    attempt = own["attempt"] or {"joules": 0.0, "method": "none"}
    off = abs(attempt["joules"] / expected - 1)
    by_name = {row.load: row for row in rows}
    promises = [
        (
            "joules against sampled power within 1 %",
            all(abs(row.off_percent) <= 1 for row in rows if row.mean_w > 100),
        ),
        (
            "the copy fills the memory bandwidth and no tensor core",
            by_name["copy on the device"].memory > 0.7 and by_name["copy on the device"].tensor < 0.01,
        ),
        (
            "tiny launches look busier than they are",
            by_name["tiny launches"].busy > 10 * by_name["tiny launches"].sm_active,
        ),
        (
            "an attempt's joules by the counter, within 3 % of power times time",
            attempt["method"] == "counter" and off <= 0.03,
        ),
        ("at most 0.5 % of a core", own["core_percent"] <= 0.5),
    ]
    if "bf16 matrix product" in by_name:
        promises.append(
            ("the product keeps the tensor cores busy", by_name["bf16 matrix product"].tensor > 0.7)
        )
    print()
    for what, held in promises:
        print(f"{'ok  ' if held else 'BAD '} {what}")
    return 0 if all(held for _, held in promises) else 1


if __name__ == "__main__":
    sys.exit(main())
