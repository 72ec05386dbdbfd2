"""What telemetry costs: the agent's process on a simulated box of eight GPUs, beside Prometheus' node_exporter, all at once.

Eight Radeons made of files: what hardware takes to answer is not in it. And eight H200 behind a library in the place of the
driver's, which burns the processor time that a real one's calls took (tests/gpu/telemetry.py measures that). Power ten times a second; an exposition every second, as node_exporter is scraped.
The reach is 0.5 % of a core and 60 MiB. Then the exposition's text alone, beside the Prometheus client library's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.table import Table

from fleet.agents.exporter import render
from fleet.agents.samples import Sample, labels
from tests.bench.racing import in_process, race, shown
from tests.fleet.agents.probes import box, nvidia
from tests.whole import ROOT

GPUS = 8
REACH_CORE, REACH_MIB = 0.5, 60.0
WARM_S = 13.0  # until energy counters were compared with power
NODE_EXPORTER = "node_exporter, every 1 s"


class Watched:
    """A process: what it uses, and the last text that it said."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.text = ""

    def busy_s(self) -> float:
        """Processor time of all its threads, to the nanosecond."""
        files = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(file.read_text().split()[0]) for file in files) * 1e-9

    def mib(self, field: str = "VmRSS") -> float:
        """Resident memory now, or the most (VmHWM)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024

    @property
    def series(self) -> int:
        """In its last text."""
        return sum(bool(line) and not line.startswith("#") for line in self.text.splitlines())


@contextmanager
def telemetry(name: str, root: Path, every_s: float, environ: dict[str, str]) -> Iterator[Watched]:
    """The agent's process of a machine below `root`."""
    command = [sys.executable, "-m", "fleet.agents.telemetry", "--state", str(root), "--root", str(root)]
    child = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    watched = Watched(name, child.pid)

    def hear() -> None:
        for line in child.stdout or ():
            watched.text = json.loads(line).get("metrics", watched.text)

    with child:
        threading.Thread(target=hear, daemon=True).start()
        child.stdin.write(json.dumps({"every_s": every_s}).encode() + b"\n")
        child.stdin.flush()
        yield watched
        child.stdin.close()


@contextmanager
def node_exporter(root: Path, every_s: float) -> Iterator[Watched | None]:
    """Prometheus' own, of the same machine, scraped as often; None where it is not installed."""
    program = shutil.which("prometheus-node-exporter") or shutil.which("node_exporter")
    if program is None:
        yield None
        return
    address = "127.0.0.1:19101"
    command = [program, f"--web.listen-address={address}", f"--path.sysfs={root}/sys"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watched, stop = Watched(NODE_EXPORTER, child.pid), threading.Event()

    def scrape() -> None:
        while not stop.wait(every_s):
            try:
                with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                    watched.text = answer.read().decode()
            except OSError:
                continue

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield watched
    finally:
        stop.set()
        thread.join()
        child.kill()
        child.wait()


def radeons(root: Path) -> Path:
    """A box of eight."""
    box.host(root, cpus=32)
    for index in range(GPUS):
        box.radeon(root, index)
    return root


def h200s(folder: Path) -> dict[str, str]:
    """The environment of a process that shall find eight."""
    nvidia.build(folder)
    gpu = nvidia.H200 | {"field186": 150_000, "field271": 0} | nvidia.H200_COSTS
    nvidia.table(folder / "table", *[gpu] * GPUS)
    return {"LD_LIBRARY_PATH": str(folder), "NVML_TABLE": str(folder / "table")}


def agent_mib() -> float:
    """Resident memory of a process that has loaded all that the agent loads."""
    program = "import fleet.agents.cli; print(open('/proc/self/status').read())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("VmRSS")) / 1024


def exposition(series: int) -> tuple[Callable[[], object], Callable[[], object] | None]:
    """Functions that write that many series: ours, and the client library's where it is installed."""
    texts = [
        labels(gpu=str(number % 8), uuid=f"GPU-{number}", sensor=f"s{number}") for number in range(series)
    ]
    samples = [
        Sample("fleet_gpu_temperature_celsius", text, 50 + number / 7) for number, text in enumerate(texts)
    ]
    try:
        from prometheus_client import CollectorRegistry, Gauge, generate_latest
    except ImportError:
        return lambda: render(samples), None
    registry = CollectorRegistry()
    gauge = Gauge(
        "fleet_gpu_temperature_celsius", "Temperature.", ["gpu", "uuid", "sensor"], registry=registry
    )
    for number in range(series):
        gauge.labels(str(number % 8), f"GPU-{number}", f"s{number}").set(50 + number / 7)
    return lambda: render(samples), lambda: generate_latest(registry)


def measured(runs: list[Watched], seconds: float, table: Table) -> None:
    """Rows of what each process uses over so many seconds."""
    time.sleep(WARM_S)
    before, begun = [each.busy_s() for each in runs], time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    for each, was in zip(runs, before, strict=True):
        share, most = 100 * (each.busy_s() - was) / took, each.mib("VmHWM")
        ours = each.name != NODE_EXPORTER
        good = share <= REACH_CORE and most <= REACH_MIB
        reach = f"≤ {REACH_CORE} %, {REACH_MIB:.0f} MiB {'✓' if good else 'missed'}" if ours else ""
        figures = (str(each.series), f"{share:.2f}", f"{each.mib():.1f}", f"{most:.1f}")
        table.add_row(each.name, *figures, reach)


def compared(seconds: float) -> None:
    """Print the table of processes."""
    table = Table(
        "process", "series", "% of a core", "MiB", "most MiB", "reach", title=f"telemetry of {GPUS} GPUs"
    )
    with shown(table, f"{seconds:g} s, all processes at once"), ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        amd, nvidia_root = radeons(folder / "amd"), folder / "nvidia"
        box.host(nvidia_root, cpus=32)
        boxes = {"8 Radeons": (amd, {}), "8 H200": (nvidia_root, h200s(folder))}
        runs = [
            held.enter_context(telemetry(f"{name}, every {every_s:g} s", root, every_s, environ))
            for name, (root, environ) in boxes.items()
            for every_s in (1.0, 10.0)
        ]
        theirs = held.enter_context(node_exporter(amd, 1.0))
        measured([*runs, *([theirs] if theirs is not None else [])], seconds, table)
        if theirs is None:
            table.add_row(NODE_EXPORTER, "is not installed", "", "", "", "")
        table.add_row("the agent itself, as it starts", "", "", f"{agent_mib():.1f}", "", "")


def written(seconds: float) -> None:
    """Print the table of the text."""
    ours, theirs = exposition(2000)
    racers = [in_process("ours", ours), *([in_process("prometheus_client", theirs)] if theirs else [])]
    table = Table("2,000 series as text", "median ms", "best ms", title="the exposition")
    with shown(table):
        for name, times in race(racers, seconds).items():
            table.add_row(name, f"{times.median_s * 1e3:.2f}", f"{times.best_s * 1e3:.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.telemetry", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        raise SystemExit("the H200 here are a library in C: apt-get install gcc")
    compared(seconds)
    written(max(0.1, seconds / 15))


if __name__ == "__main__":
    main()
