"""Verbs of the engine: search for a fast kernel, run and compare kernels, show the target, options and devices."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from errno import EACCES, EDQUOT, EFBIG, EIO, ENOSPC, EROFS
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from engine import device, heuristic
from engine.compare import NUMPY, Row, compare
from engine.device import ABSENT, canonical, kinds
from engine.errors import DeviceError, EngineError, InvalidGraph, InvalidOption
from engine.flags import Flags, described, flag_of
from engine.kernel import Kernel
from engine.options import OPTIONS, Options, current
from engine.opts import Schedule, schedule_from_json, schedule_to_json
from engine.picks import pick
from engine.profile.report import seconds
from engine.profile.verb import calibrate, profile_script
from engine.programs import cost, program
from engine.search import DEFAULT, SearchResult, search
from engine.search import Progress as SearchProgress
from engine.serialize import kernel_hash
from engine.store import Store
from engine.target import Target
from engine.toolchain import Compiler, detect

app = typer.Typer(no_args_is_help=True, help="The compiler engine: search, run and compare kernels.")

TIMED = "CPU"  # the one device whose candidates can be compiled and timed by themselves
# Why a file cannot be written any further: not the engine's fault.
NO_ROOM = frozenset({ENOSPC, EDQUOT, EROFS, EFBIG, EIO, EACCES})
Wanted = tuple[str, Schedule | Literal["numpy"]]


class ProgramName(StrEnum):
    """The named programs."""

    GEMM = "gemm"
    REDUCE = "reduce"
    COPY = "copy"
    ELEMENTWISE = "elementwise"


class DTypeName(StrEnum):
    """Element types of named programs."""

    FLOAT32 = "float32"
    INT32 = "int32"


ProgramArgument = Annotated[
    ProgramName, typer.Argument(help="gemm M,N,K · reduce ROWS,COLUMNS · copy or elementwise of any shape")
]
ShapeArgument = Annotated[str, typer.Argument(help="sizes separated by commas, e.g. 512,512,512")]
DTypeOption = Annotated[DTypeName, typer.Option("--dtype", help="element type")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, max=1024, help="worker threads")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="seed of the random inputs")]
TimeOption = Annotated[float, typer.Option("--time", min=0.001, help="seconds of timing for a row")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead of tables", is_eager=True)]
StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="where measurements are kept [default: ~/.cache/tinyfleet/engine]"),
]


def _flag(name: str) -> Any:
    """The option of a search's flag: a value that cannot be is refused in the flag's own words."""
    flag = flag_of(name)

    def read(given: Any) -> Any:
        try:
            return flag.read(given) if isinstance(given, str) else given  # a default is read already
        except InvalidOption as error:
            raise typer.BadParameter(str(error)) from None

    return typer.Option(
        f"--{name}", parser=read, metavar=flag.type, help=flag.help, show_default=flag.default
    )


def _list_flags(context: typer.Context, wanted: bool) -> None:
    """Print them and end, before what else is missing is complained of."""
    if wanted:
        _print_facts(described(), as_json=bool(context.params.get("as_json")))
        raise typer.Exit


@app.command("target")
def target_command(as_json: JsonOption = False) -> None:
    """What kernels are compiled for here: the CPU, the compiler and its flags."""
    with _reported():
        found = detect()
        facts = {**found.to_json(), "id": found.id}
        if as_json:
            typer.echo(json.dumps(facts))
            return
        table = Table(show_header=False)
        for name, value in facts.items():
            table.add_row(name, " ".join(value) if isinstance(value, list) else str(value))
        Console().print(table)


@app.command("options")
def options_command(as_json: JsonOption = False) -> None:
    """The variables that set the engine's options: what each means, and what it is here."""
    with _reported():
        now, unset = current(), {option: getattr(Options(), option.field) for option in OPTIONS}
        rows = [
            {
                "variable": option.variable,
                "type": option.type,
                "default": option.default,
                "now": option.default
                if (set_to := getattr(now, option.field)) == unset[option]
                else str(set_to),
                "help": option.help,
            }
            for option in OPTIONS
        ]
        _print_facts(rows, as_json)


@app.command("devices")
def devices_command(as_json: JsonOption = False) -> None:
    """What DEV can name: the devices there are, and those whose backend is not part of this build."""
    with _reported():
        chosen = canonical()
        rows = [
            {
                "name": name,
                "help": kind.help,
                "parts": list(kind.parts),
                "chosen": chosen.split(":")[0] == name,
            }
            for name, kind in sorted(kinds().items())
        ]
        rows += [
            {"name": name, "help": f"{what}: not part of this build", "parts": [], "chosen": False}
            for name, what in ABSENT.items()
            if name not in kinds()
        ]
        _print_facts(rows, as_json)


def _print_facts(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows of one kind as JSON or as a table."""
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return ", ".join(part for part in value if part) if isinstance(value, list) else str(value)


@app.command("search")
def search_command(
    name: ProgramArgument,
    shape: ShapeArgument,
    dtype: DTypeOption = DTypeName.FLOAT32,
    budget: Annotated[float, _flag("budget")] = DEFAULT.budget_s,
    threads: Annotated[int, _flag("threads")] = DEFAULT.threads,
    compiler: Annotated[Compiler | None, _flag("compiler")] = DEFAULT.compiler,
    width: Annotated[int, _flag("width")] = DEFAULT.width,
    per_round: Annotated[int, _flag("per-round")] = DEFAULT.per_round,
    patience: Annotated[int, _flag("patience")] = DEFAULT.patience,
    finalists: Annotated[int, _flag("finalists")] = DEFAULT.finalists,
    seed: Annotated[int, _flag("seed")] = DEFAULT.seed,
    flags: Annotated[
        bool, typer.Option("--flags", help="list the flags and exit", callback=_list_flags, is_eager=True)
    ] = False,
    time_s: Annotated[
        float, typer.Option("--time", min=0, help="seconds of comparing for a row, after the budget; 0: none")
    ] = 0.5,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for the fastest schedule of a program, then compare it with the others, measured interleaved."""
    chosen = Flags(budget, threads, compiler, width, per_round, patience, finalists, seed)
    with _reported():
        kernel, target = _kernel(name, shape, dtype), _timed_on(compiler)
        kept = _store(store)
        resumable = _resumable(kernel, target, threads, kept)
        with _room_in(kept), resumable, _progress(budget, quiet=as_json) as progress:
            result = search(kernel, target, store=kept, flags=chosen, progress=_advance(progress))
        wanted: list[Wanted] = [("none", ()), ("model", pick(kernel, target, threads))]
        if result.best is not None:
            wanted.append(("tuned", result.best.schedule))
        wanted.append((NUMPY, NUMPY))
        rows = []
        if time_s:
            with _room_in(kept):
                rows = compare(kernel, wanted, target, store=kept, threads=threads, seed=seed, time_s=time_s)
        _print_search(kernel, result, rows, kept, as_json)
        if result.best is None:
            raise typer.Exit(1)


@app.command("run")
def run_command(
    name: ProgramArgument,
    shape: ShapeArgument,
    schedule: Annotated[
        str, typer.Option("--schedule", help="none, heuristic, model, tuned (best in the store) or JSON")
    ] = "model",
    others: Annotated[
        list[str] | None, typer.Option("--compare", help="more rows: none, heuristic, model, tuned, numpy")
    ] = None,
    dtype: DTypeOption = DTypeName.FLOAT32,
    threads: ThreadsOption = 1,
    time_s: TimeOption = 1.0,
    seed: SeedOption = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a program on random inputs, check it against the interpreter, and time it."""
    with _reported():
        kernel, target = _kernel(name, shape, dtype), _timed_on()
        kept = _store(store)
        names = dict.fromkeys([schedule, *(others or [])])
        wanted = [(_row_name(text), _schedule(text, kernel, target, threads, kept)) for text in names]
        with _room_in(kept):
            rows = compare(kernel, wanted, target, store=kept, threads=threads, seed=seed, time_s=time_s)
        if as_json:
            typer.echo(json.dumps([_row_json(row) for row in rows]))
        else:
            _print_rows(Console(), kernel, rows)
        if any(row.best_s is None for row in rows):
            raise typer.Exit(1)


@app.command(
    "profile",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
)
def profile_command(
    context: typer.Context,
    script: Annotated[
        Path | None, typer.Argument(help="a Python script; its arguments follow", dir_okay=False, exists=True)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="kernels shown")] = 20,
    anew: Annotated[bool, typer.Option("--calibrate", help="measure this machine's peaks anew")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a script and show each of its kernels: time, % of DRAM, SRAM and ALU peaks, and what binds it."""
    with _reported():
        if script is None and not anew:
            raise InvalidOption("SCRIPT", "", "name a script to run, or give --calibrate")
        if anew:
            calibrate(as_json and script is None, quiet=script is not None)
        if script is not None:
            raise typer.Exit(profile_script(script, context.args, limit, as_json))


# ------------------------------------------------------------------------------------------- arguments


def _kernel(name: ProgramName, shape: str, dtype: DTypeName) -> Kernel:
    try:
        sizes = [int(size) for size in shape.split(",")]
    except ValueError:
        raise InvalidGraph(
            f"{shape!r} must be sizes separated by commas, e.g. 512,512,512", "shape"
        ) from None
    return program(name.value, sizes, dtype.value)


def _timed_on(compiler: Compiler | None = None) -> Target:
    """What candidates are compiled for and timed on. InvalidOption when DEV names no device, or one of others.

    Without a compiler it is the one that DEV says.
    """
    given = current().device
    try:
        named = device.canonical().partition(":")[0]
    except DeviceError as error:
        raise InvalidOption("DEV", given, error.code) from None
    if named.partition(":")[0] != TIMED:
        raise InvalidOption("DEV", given, f"kernels can be timed on {TIMED} only: set that, or unset it")
    return detect(compiler)


def _schedule(
    text: str, kernel: Kernel, target: Target, threads: int, store: Store
) -> Schedule | Literal["numpy"]:
    if text == "none":
        return ()
    if text == "numpy":
        return NUMPY
    if text == "model":
        return pick(kernel, target, threads)
    if text == "heuristic":
        return heuristic.schedule(kernel, target, threads)
    if text == "tuned":
        return _tuned(kernel, target, threads, store)
    try:
        document = json.loads(text)
    except ValueError:
        raise InvalidGraph(
            f"{text!r} must be none, heuristic, model, tuned or a JSON list", "schedule"
        ) from None
    return schedule_from_json(document)


def _tuned(kernel: Kernel, target: Target, threads: int, store: Store) -> Schedule:
    best = store.best(kernel_hash(kernel), target.id, threads)
    if best is None:
        raise InvalidGraph("nothing tuned is stored for this kernel: run `search` first", "schedule")
    return best.schedule


def _row_name(text: str) -> str:
    return "schedule" if text.startswith("[") else text


def _store(place: Path | None) -> Store:
    """The store, made if need be. Exit status 2, naming the option, where none can be."""
    kept = Store(place or current().cache / "engine")
    try:
        kept.objects.mkdir(parents=True, exist_ok=True)
        if not os.access(kept.objects, os.W_OK | os.X_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as error:
        reason = f"nothing can be kept in {kept.directory}: {error.strerror}; name a folder to write to"
        typer.echo(f"error: --store: {reason}", err=True)
        raise typer.Exit(2) from None
    return kept


@contextmanager
def _room_in(store: Store) -> Iterator[None]:
    """A disk that becomes full, or read-only, as one line and exit status 1, naming the option."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        reason = f"nothing more can be kept in {store.directory}: {error.strerror}"
        fix = "what was found so far is there: make room and search again, or name another folder"
        typer.echo(f"error: --store: {reason}; {fix}", err=True)
        raise typer.Exit(1) from None


@contextmanager
def _resumable(kernel: Kernel, target: Target, threads: int, store: Store) -> Iterator[None]:
    """Say what a search that somebody interrupts leaves."""
    try:
        yield
    except KeyboardInterrupt:
        best = store.best(kernel_hash(kernel), target.id, threads)
        found = (
            "nothing is" if best is None or best.time_s is None else f"the best, {seconds(best.time_s)}, is"
        )
        typer.echo(f"interrupted: {found} stored; the same search starts from there", err=True)
        raise


@contextmanager
def _reported() -> Iterator[None]:
    """Engine errors as one line and an exit status: 2 for what the caller asked, 1 for the rest."""
    try:
        yield
    except EngineError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, InvalidGraph | InvalidOption) else 1) from None


# -------------------------------------------------------------------------------------------- progress


@contextmanager
def _progress(budget_s: float, quiet: bool) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        progress.add_task("starting", total=budget_s, best="")
        yield progress


def _advance(progress: Progress) -> Callable[[SearchProgress], None]:
    task = progress.task_ids[0]

    def advance(step: SearchProgress) -> None:
        best = f"best {seconds(step.best_s)}  " if step.best_s else ""
        best += f"ends in {step.left_s:.0f} s"
        description = f"round {step.round} {step.phase:<7} {step.done}/{step.total}"
        completed = min(step.elapsed_s, step.budget_s)
        progress.update(task, description=description, completed=completed, best=best)

    return advance


# ---------------------------------------------------------------------------------------------- output


def _print_search(kernel: Kernel, result: SearchResult, rows: list[Row], store: Store, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_search_json(result, rows)))
        return
    console = Console()
    if rows:
        _print_rows(console, kernel, rows)
    measured = len(result.measured)
    counts = f"{_counted(measured, 'candidate')} in {_counted(len(result.rounds), 'round')}"
    summary = f"{counts}, {result.elapsed_s:.1f} s"
    console.print(f"{summary} (stopped: {result.stopped})")
    if result.best is None:
        console.print("no candidate was right: see the quarantine in the store")
        return
    console.print(f"schedule: {json.dumps(schedule_to_json(result.best.schedule))}", soft_wrap=True)
    console.print(f"source:   {store.directory / 'sources' / f'{result.best.source_hash}.c'}", soft_wrap=True)
    for path in store.objects.glob(f"{result.best.object_hash}.*"):
        console.print(f"object:   {path}", soft_wrap=True)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _search_json(result: SearchResult, rows: list[Row]) -> dict[str, Any]:
    return {
        "kernel_hash": result.kernel_hash,
        "target_id": result.target_id,
        "threads": result.threads,
        "best": result.best.to_json() if result.best else None,
        "rounds": [asdict(entry) for entry in result.rounds],
        "measured": len(result.measured),
        "elapsed_s": result.elapsed_s,
        "stopped": result.stopped,
        "rows": [_row_json(row) for row in rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    schedule = None if row.schedule is None else schedule_to_json(row.schedule)
    return {**asdict(row), "outcome": row.outcome.value, "schedule": schedule}


def _print_rows(console: Console, kernel: Kernel, rows: list[Row]) -> None:
    """The table, and below it why rows failed: reasons are long and would squeeze the columns."""
    console.print(_table(kernel, rows))
    for row in rows:
        if row.detail and row.best_s is None:
            console.print(f"{_shown(row)}: {row.detail}", soft_wrap=True, markup=False, highlight=False)


def _table(kernel: Kernel, rows: list[Row]) -> Table:
    """One row each; narrow enough for 80 columns whatever the figures."""
    work = cost(kernel)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, collapse_padding=True, pad_edge=False)
    for heading in ("", "outcome", "best", "median", "GFLOP/s", "GB/s", "error", "tolerance"):
        table.add_column(heading, justify="left" if heading in ("", "outcome") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row, work.flops, work.bytes))
    return table


def _cells(row: Row, flops: float, moved: float) -> list[str]:
    cells = [_shown(row), row.outcome.value]
    if row.best_s is None or row.median_s is None:
        return cells
    rates = [f"{flops / row.best_s / 1e9:.1f}", f"{moved / row.best_s / 1e9:.1f}"]
    errors = ["" if e is None else f"{e:.2g}" for e in (row.max_error, row.tolerance)]
    return [*cells, seconds(row.best_s), seconds(row.median_s), *rates, *errors]


def _shown(row: Row) -> str:
    """A row's name as every table of this project has it."""
    return {"none": "unoptimized", NUMPY: "NumPy"}.get(row.name, row.name)
