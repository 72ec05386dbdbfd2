"""The whole product once, for real, on this machine: `python -m infra.demo [--once]`, run by `make demo`.

A server with a database in a temporary folder, an agent that joins it, a kernel job, a BEAM search, the winner
measured beside NumPy, the same search again from the cache, and the web console until Ctrl-C. With --once it
ends instead, and exits 0 only when everything was verified. Nothing it starts outlives it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from rich import box
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fleet.agents.protocol import KernelRef, KernelSpec, Program
from fleet.cli import text
from fleet.cli.waiting import wait_for_job, wait_for_search
from fleet.client import ApiError, Client, Unreachable
from fleet.resources import Job, Node, Search, TunedKernel
from infra import children

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".tinyfleet" / "demo"  # the C source stays here after the demo
SIZE = 512
THREADS = 1
BUDGET_S = 30.0
START_S = 30.0  # for the server to listen, and for the agent to be online
TICK_S = 0.05
INTERRUPTED = 130
LOG_LINES = 25
SECRET = re.compile(r"tf[a-z]_[0-9A-Za-z]{20,}")
ROWS = {"none": "unoptimized (-O2)", "heuristic": "heuristic", "numpy": "NumPy"}
FOUND = "found by BEAM"
NOISE = 0.02  # one kernel differs from itself by this much on a machine that does other things too

Answer = TypeVar("Answer")


class Failed(Exception):
    """A step did not do what it promises; the message says what was wrong."""


@dataclass
class Stage:
    """What the demo runs on: its temporary folder, its processes, and the console it talks to."""

    folder: Path
    console: Console
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    began_s: float = field(default_factory=time.monotonic)

    def log(self, name: str) -> Path:
        """The file with what the process of that name printed."""
        return self.folder / f"{name}.log"

    def start(self, name: str, *arguments: str) -> None:
        """Start `python -m …` as the process `name`."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", *arguments]
        self.processes[name] = children.start(command, self.log(name), environment, ROOT)

    def until(self, what: str, ask: Callable[[], Answer | None]) -> Answer:
        """Ask until there is an answer. Raises Failed after START_S, or when a process has ended."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Failed(f"the {name} ended with exit code {process.returncode}")
            if (answer := ask()) is not None:
                return answer
            time.sleep(TICK_S)
        raise Failed(f"{what} took longer than {START_S:.0f} s")

    def say(self, step: str, result: str, detail: str, began_s: float) -> None:
        """One line for a step that is done, with how long it took."""
        line = Table.grid(expand=True, padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=14)
        line.add_column(ratio=1)
        line.add_column(justify="right", width=7)
        took = Text(f"{time.monotonic() - began_s:.1f} s", style="dim")
        shown = Text.assemble(result, ("  " if detail else ""), (detail, "dim"))
        line.add_row(Text("✓", style="bold green"), Text(step, style="bold"), shown, took)
        self.console.print(line)


# ------------------------------------------------------------------------------------------- the steps


def start_server(stage: Stage) -> tuple[str, str]:
    """Start the server on a free loopback port; its URL and the administrator's token."""
    began_s = time.monotonic()
    ready = stage.folder / "ready.json"
    data = stage.folder / "server"
    options = ["--host", "127.0.0.1", "--port", "0", "--data", str(data), "--ready-file", str(ready)]
    stage.start("server", "api", *options)
    with stage.console.status("starting the server"):
        told = stage.until("starting the server", lambda: _json(ready))
    token = Path(told["admin_token_file"]).read_text(encoding="utf-8").strip()
    stage.say("server", str(told["url"]), "with a temporary database", began_s)
    return str(told["url"]), token


def _json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def start_agent(stage: Stage, client: Client, url: str) -> Node:
    """Enrol an agent with a one-use join token; the node once it is online with a usable device."""
    began_s = time.monotonic()
    join = stage.folder / "join-token"
    descriptor = os.open(join, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(client.join_token().secret)
    options = ["--server", url, "--state", str(stage.folder / "agent"), "--join-token-file", str(join)]
    stage.start("agent", "fleet.agents", "agent", *options, "--name", "demo")
    with stage.console.status("the agent joins"):
        node = stage.until("joining the fleet", lambda: _online(client))
    cpu = node.devices[0]
    if cpu.problem:
        raise Failed(f"device {cpu.name} cannot be used: {cpu.problem}")
    size = f"{node.cores} cores, {text.size(node.memory_bytes)}"
    stage.say("node", f"{node.name} has joined", f"{cpu.model}, {size}", began_s)
    return node


def _online(client: Client) -> Node | None:
    nodes = client.nodes().items
    return nodes[0] if nodes and nodes[0].state == "ready" and nodes[0].contact == "online" else None


def gemm() -> KernelRef:
    """The kernel of the demo: a square fp32 matrix product."""
    return KernelRef(program=Program.GEMM, shape=[SIZE, SIZE, SIZE], dtype="float32")


def run_job(stage: Stage, client: Client) -> None:
    """A kernel job with the engine's own schedule, verified against the interpreter."""
    began_s = time.monotonic()
    spec = KernelSpec(kernel=gemm(), schedule="heuristic", threads=THREADS)
    job = finished(stage, client, client.submit_job(spec, name="first-gemm"))
    row = job_rows(job)[0]
    check_row(row)
    speed = f"{row['gflops']:.1f} GFLOP/s"
    error = f"error {row['max_error']:.1e} ≤ {row['tolerance']:.1e}"
    stage.say("kernel job", f"gemm {SIZE}: {speed}", error, began_s)


def finished(stage: Stage, client: Client, job: Job) -> Job:
    """Wait for the job. Raises Failed unless it succeeded."""
    done = wait_for_job(client, job, stage.console)
    if done.state != "succeeded":
        raise Failed(f"job {done.id} {done.state}: {done.error or done.reason}")
    return done


def job_rows(job: Job) -> list[dict[str, Any]]:
    """The rows of a kernel job's result. Raises Failed when there are none."""
    rows: list[dict[str, Any]] = (job.result or {}).get("rows") or []
    if not rows:
        raise Failed(f"job {job.id} succeeded without a result")
    return rows


def check_row(row: Mapping[str, Any]) -> None:
    """Raises Failed unless the row was measured and its error is within the tolerance."""
    if row["outcome"] != "ok" or not row["gflops"]:
        raise Failed(f"{row['name']}: {row['outcome']} {row['detail']}".strip())
    if row["max_error"] is None or row["tolerance"] is None or row["max_error"] > row["tolerance"]:
        raise Failed(f"{row['name']}: error {row['max_error']} is not within {row['tolerance']}")


def run_search(stage: Stage, client: Client, budget_s: float) -> TunedKernel:
    """A BEAM search over the fleet; its winner, confirmed at full shape."""
    began_s = time.monotonic()
    begun = client.run_search(gemm(), threads=THREADS, budget_s=budget_s)
    search = wait_for_search(client, begun, stage.console)
    tuned = winner(client, search)
    bad = [
        name for name in ("wrong", "out_of_bounds", "crashed", "hung") for _ in outcomes(client, search, name)
    ]
    tried = f"{search.measured} candidates in {search.rounds} rounds, {len(bad)} quarantined"
    tried += (
        ", confirmed by a second run" if tuned.confirmed_at is not None else ", not confirmed by others yet"
    )
    stage.say("BEAM search", f"{tuned.gflops:.1f} GFLOP/s", tried, began_s)
    return tuned


def outcomes(client: Client, search: Search, name: str) -> Iterator[int]:
    """One number for each round's candidates with this outcome."""
    for each in client.rounds(search.id):
        yield from range(each.outcomes.get(name, 0))


def winner(client: Client, search: Search) -> TunedKernel:
    """The search's tuned kernel. Raises Failed when it found none."""
    if search.state != "done" or search.tuned_kernel_id is None:
        raise Failed(f"search {search.id} {search.state}: {search.error or 'it found no kernel'}")
    return client.kernel(search.tuned_kernel_id)


def compare(stage: Stage, client: Client, tuned: TunedKernel) -> list[dict[str, Any]]:
    """The winner beside the others, measured in turns by one job on as many threads."""
    began_s = time.monotonic()
    spec = KernelSpec(
        kernel=gemm(),
        schedule=tuned.schedule,
        compare=["none", "heuristic", "numpy"],
        threads=THREADS,
        seed=1,
    )
    rows = job_rows(finished(stage, client, client.submit_job(spec, name="comparison")))
    for row in rows:
        check_row(row)
    missing = set(ROWS) - {row["name"] for row in rows}
    if missing or len(rows) != len(ROWS) + 1:
        raise Failed(f"the comparison lacks rows: {', '.join(sorted(missing)) or 'the schedule found'}")
    threads = f"{THREADS} thread{'' if THREADS == 1 else 's'} each"
    stage.say("comparison", "4 kernels, measured in turns", threads, began_s)
    return rows


def show_comparison(stage: Stage, rows: Sequence[Mapping[str, Any]], tuned: TunedKernel) -> None:
    """The table, the winning schedule, and the C source, which is kept."""
    numpy = next(row["gflops"] for row in rows if row["name"] == "numpy")
    table = Table(
        box=box.ROUNDED, border_style="dim", header_style="dim", caption_style="dim", caption_justify="left"
    )
    table.caption = f"gemm {SIZE}×{SIZE}×{SIZE} float32; errors against the float64 interpreter, K = {SIZE}"
    table.add_column("schedule", no_wrap=True)
    table.add_column("")
    for column in ("GFLOP/s", "of NumPy", "max error", "tolerance"):
        table.add_column(column, justify="right")
    most = max(row["gflops"] for row in rows)
    for row in sorted(rows, key=lambda row: float(row["gflops"])):
        best = row["name"] not in ROWS
        shade = "green" if best else "cyan"
        bar = ProgressBar(
            total=most, completed=row["gflops"], width=16, complete_style=shade, finished_style=shade
        )
        figures = [f"{row['gflops']:.1f}", f"{row['gflops'] / numpy:.2f}×"]
        errors = [f"{row['max_error']:.1e}", f"{row['tolerance']:.1e}"]
        table.add_row(
            ROWS.get(row["name"], FOUND), bar, *figures, *errors, style="bold green" if best else ""
        )
    stage.console.print(table)
    if note := tie(rows):
        stage.console.print(Text(f" {note}", style="dim"))
    stage.console.print(_named("schedule", text.schedule(tuned.schedule)))


def tie(rows: Sequence[Mapping[str, Any]]) -> str:
    """What to say when the schedule found is as fast as the heuristic's, or slower by no more than noise."""
    heuristic = next(float(row["gflops"]) for row in rows if row["name"] == "heuristic")
    found = next(float(row["gflops"]) for row in rows if row["name"] not in ROWS)
    if abs(found - heuristic) > NOISE * heuristic:
        return ""
    return f"{FOUND}: within {NOISE * 100:.0f} % of the heuristic's schedule: noise"


def _named(name: str, value: str) -> Table:
    """A name and a value that may take several lines."""
    line = Table.grid(padding=(0, 1))
    line.add_column(width=10, style="dim")
    line.add_column()
    line.add_row(f" {name}", Text(value))
    return line


def keep_source(stage: Stage, client: Client, tuned: TunedKernel) -> None:
    """Write the winner's C source to a file that outlives the demo."""
    source = client.kernel_source(tuned.id)
    if "void" not in source:
        raise Failed(f"the source of kernel {tuned.id} is no C function")
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"gemm-{SIZE}.c"
    path.write_text(source, encoding="utf-8")
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    stage.console.print(_named("C source", f"{shown}, {len(source.splitlines())} lines"))


def search_again(stage: Stage, client: Client, tuned: TunedKernel, budget_s: float) -> None:
    """The same search once more: answered from the cache, at once."""
    began_s = time.monotonic()
    again = client.run_search(gemm(), threads=THREADS, budget_s=budget_s)
    if again.source != "cache" or again.state != "done" or again.tuned_kernel_id != tuned.id:
        raise Failed(f"search {again.id} is {again.state} from {again.source}, not answered by the cache")
    took_ms = (time.monotonic() - began_s) * 1e3
    stage.say("same search", f"from the cache in {took_ms:.0f} ms", "nothing was measured again", began_s)


# ------------------------------------------------------------------------------------ from start to end


def play(stage: Stage, budget_s: float) -> str:
    """Every step in turn; the console's address with its token. Raises Failed at the first that fails."""
    url, token = start_server(stage)
    with Client(url, token) as client:
        start_agent(stage, client, url)
        run_job(stage, client)
        tuned = run_search(stage, client, budget_s)
        rows = compare(stage, client, tuned)
        show_comparison(stage, rows, tuned)
        keep_source(stage, client, tuned)
        search_again(stage, client, tuned, budget_s)
    return f"{url}/console#token={token}"


def stay(stage: Stage, address: str) -> None:
    """Say where the console is, and wait for Ctrl-C. Raises Failed when a process ends meanwhile."""
    stage.console.print(Text.assemble("\n  The console: ", (address, "bold underline")), soft_wrap=True)
    stage.console.print(Text("  Ctrl-C ends the demo and all that it started.", style="dim"))
    while True:
        for name, process in stage.processes.items():
            if process.poll() is not None:
                raise Failed(f"the {name} ended with exit code {process.returncode}")
        time.sleep(1.0)


def report(stage: Stage, error: Exception) -> None:
    """What failed, and the last lines that the server and the agent printed, without secrets."""
    stage.console.print(Text.assemble(("✗ ", "bold red"), (str(error), "bold")), soft_wrap=True)
    for name in stage.processes:
        content = stage.log(name).read_text(encoding="utf-8", errors="replace")
        lines = [text.printable(line) for line in SECRET.sub("tf…", content).splitlines()[-LOG_LINES:]]
        stage.console.print(Text(f"\nlast lines of the {name}'s log:", style="dim"))
        stage.console.print(Text("\n".join(lines) or "(empty)"), soft_wrap=True)


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def ending_everything() -> Iterator[None]:
    """Whatever happens inside, signals included: afterwards nothing that was started is left."""
    children.adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        children.stop_all()


def run(console: Console, once: bool, budget_s: float) -> int:
    """The demo; its exit code."""
    with tempfile.TemporaryDirectory(prefix="tinyfleet-demo-") as folder, ending_everything():
        stage = Stage(Path(folder), console)
        try:
            address = play(stage, budget_s)
            console.print(f"[bold green]✓[/] all verified in {time.monotonic() - stage.began_s:.0f} s")
            if not once:
                with suppress(KeyboardInterrupt):
                    stay(stage, address)
        except (Failed, ApiError, Unreachable) as error:
            report(stage, error)
            return 1
        except KeyboardInterrupt:
            console.print(Text("\nended", style="dim"))
            return INTERRUPTED
    return 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.demo", description=__doc__.split("\n\n")[0] if __doc__ else ""
    )
    parser.add_argument(
        "--once", action="store_true", help="end after the last step instead of showing the console"
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET_S, help="seconds of the BEAM search (default 30)"
    )
    options = parser.parse_args()
    console = Console(highlight=False)
    console.print(
        Text.assemble("\n", ("tinyfleet", "bold"), ("  the whole product once, on this machine\n", "dim"))
    )
    return run(console, options.once, options.budget)


if __name__ == "__main__":
    sys.exit(main())
