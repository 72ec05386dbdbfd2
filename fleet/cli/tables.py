"""Resources of the API as tables and panels for a terminal. Pure: a resource in, something rich can print out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli import text
from fleet.cli.text import printable
from fleet.resources import (
    Attempt,
    Candidate,
    Job,
    Node,
    QuarantinedCandidate,
    Round,
    Search,
    Token,
    TunedKernel,
)

_STYLES = {
    **dict.fromkeys(("succeeded", "done", "online", "ready", "ok"), "green"),
    **dict.fromkeys(("running", "leased"), "cyan"),
    **dict.fromkeys(("failed", "lost", "unreachable", "wrong", "out_of_bounds", "crashed", "hung"), "red"),
    **dict.fromkeys(
        ("late", "cancelling", "preempting", "stopping", "draining", "drained", "cordoned", "compile_failed"),
        "yellow",
    ),
}
_ROW_NAMES = {"none": "unoptimized", "given": "as given", "numpy": "NumPy"}


def state(name: str | None) -> Text:
    """A state or an outcome in its colour."""
    return Text(printable((name or "–").replace("_", " ")), style=_STYLES.get(name or "", "dim"))


def grid(*columns: str) -> Table:
    """An empty table; a column whose name starts with `>` is aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="dim")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=right)
    return table


def facts(pairs: Iterable[tuple[str, RenderableType | None]]) -> Table:
    """Names and values below each other; what has no value is left out."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in pairs:
        if value not in (None, ""):
            table.add_row(name, value if not isinstance(value, str) else Text(printable(value)))
    return table


def _bold(value: str) -> Text:
    return Text(printable(value), style="bold")


def _faint(value: str) -> Text:
    return Text(printable(value), style="dim")


# ------------------------------------------------------------------------------------------------ nodes


def nodes(rows: Sequence[Node]) -> Table:
    """One line for each node."""
    table = grid(">id", "node", "state", "contact", ">cores", ">memory", "devices", "walls", "seen")
    for node in rows:
        seen = _faint(text.ago(node.last_seen_at))
        cordoned = (node.cordoned or node.cordons) and node.state == "ready"
        shown = state("cordoned" if cordoned else node.state)
        if node.contested:
            shown = Text("contested", style="bold red")
        devices = Text(
            printable(", ".join(f"{device.name} {device.model}".strip() for device in node.devices))
        )
        memory = text.size(node.memory_bytes)
        size = (str(node.cores), memory)
        table.add_row(
            str(node.id), _bold(node.name), shown, state(node.contact), *size, devices, _walls(node), seen
        )
    return table


def _walls(node: Node) -> Text:
    """Which do not stand whole."""
    lacking = [wall.name for wall in node.walls if wall.state != "up"]
    if not node.walls:
        return Text("none", style="red")
    return Text(printable(f"but {', '.join(lacking)}"), style="yellow") if lacking else Text("all")


def node(row: Node) -> RenderableType:
    """One node with its devices."""
    devices = grid("device", "model", "architecture", ">leases", "problem")
    for device in row.devices:
        held = "exclusive" if device.exclusive else f"{device.leases} of {device.slots}"
        problem = Text(printable(device.problem or device.health_reason), style="red")
        devices.add_row(_bold(device.name), printable(device.model), _faint(device.arch), held, problem)
    pairs: list[tuple[str, RenderableType | None]] = [
        ("node", _bold(f"{row.name} ({row.id})")),
        ("state", state(row.state)),
        ("contact", state(row.contact)),
        ("cordoned", "yes: it takes nothing new" if row.cordoned else ""),
        *(("cordoned by", printable(f"{each.kind}: {each.reason}")) for each in row.cordons),
        ("contested", "yes: two live agents, both refused; see nodes readmit" if row.contested else ""),
        ("trust", f"{row.trust}: {printable(row.trust_reason)}" if row.trust_reason else row.trust),
        ("pool", printable(row.pool)),
        ("rack", printable(row.rack)),
        ("labels", printable(", ".join(f"{key}={value}" for key, value in sorted(row.labels.items())))),
        ("host", f"{row.hostname}, {row.os}"),
        ("size", f"{row.cores} cores, {text.size(row.memory_bytes)}"),
        ("agent", row.agent_version),
        ("enrolled", text.ago(row.enrolled_at)),
        ("seen", text.ago(row.last_seen_at)),
    ]
    walls = grid("wall", "state", "detail")
    for wall in row.walls:
        walls.add_row(_bold(wall.name), _wall_state(wall.state), printable(wall.detail))
    whole: list[RenderableType] = [facts(pairs), "", devices]
    return Group(*whole, "", walls) if row.walls else Group(*whole)


def _wall_state(said: str) -> Text:
    return Text(printable(said), style={"up": "green", "partial": "yellow"}.get(said, "red"))


# ------------------------------------------------------------------------------------------------- jobs


def jobs(rows: Sequence[Job]) -> Table:
    """One line for each job."""
    table = grid(">id", "name", "job", "state", ">took", "result", ">submitted")
    for job in rows:
        name = _bold(job.name or "")
        table.add_row(
            str(job.id),
            name,
            job_title(job),
            state(job.state),
            took(job),
            job_result(job),
            text.ago(job.created_at),
        )
    return table


def job_title(job: Job) -> str:
    """What the job does: its kernel, or its kind."""
    return printable(text.kernel(job.spec["kernel"]) if job.spec.get("kernel") else job.kind)


def job_result(job: Job) -> Text:
    """The rate of its first row, or why it failed or waits."""
    rows = (job.result or {}).get("rows") or []
    if rows and rows[0].get("gflops"):
        row = rows[0]
        return Text(f"{text.gflops(row['gflops'])} GFLOP/s, error {text.error_size(row.get('max_error'))}")
    if job.error:
        return Text(printable(job.error.strip().splitlines()[-1]), style="red", overflow="ellipsis")
    return _faint(job.reason)


def took(thing: Job | Search | Attempt) -> str:
    """Its duration once it has ended."""
    if thing.started_at is None or thing.finished_at is None:
        return "–"
    return text.seconds(max(0.0, text.moment(thing.finished_at) - text.moment(thing.started_at)))


def job(row: Job, attempts: Sequence[Attempt]) -> RenderableType:
    """One job with the rows of its result and its attempts."""
    pairs: list[tuple[str, RenderableType | None]] = [
        ("job", _bold(f"{row.id} {row.name or ''}".strip())),
        ("does", job_title(row)),
        ("state", state(row.state)),
        ("asks for", printable(", ".join(f"{key} {value}" for key, value in row.requirements.items()))),
        ("waits", row.reason if row.state in ("blocked", "queued") else ""),
        ("took", took(row)),
        ("error", Text(printable(row.error, keep="\n"), style="red") if row.error else None),
    ]
    parts: list[RenderableType] = [facts(pairs)]
    if rows := (row.result or {}).get("rows"):
        parts += ["", comparison(rows)]
    if attempts:
        parts += ["", _attempts(attempts)]
    return Group(*parts)


def comparison(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of a kernel job, each with its ratio to NumPy when that was measured too."""
    numpy = next((row.get("gflops") for row in rows if row["name"] == "numpy"), None)
    table = grid("schedule", ">GFLOP/s", ">of NumPy", ">best time", ">max error", ">tolerance", "outcome")
    for row in rows:
        rate = row.get("gflops")
        ratio = f"{rate / numpy:.2f}×" if rate and numpy else "–"
        errors = [text.error_size(row.get(name)) for name in ("max_error", "tolerance")]
        name = _bold(_ROW_NAMES.get(row["name"], row["name"]))
        table.add_row(
            name, text.gflops(rate), ratio, text.seconds(row.get("best_s")), *errors, state(row["outcome"])
        )
    return table


def _attempts(rows: Sequence[Attempt]) -> Table:
    table = grid(">attempt", "node", "device", "state", ">took", "error")
    for row in rows:
        problem = Text(printable(row.error), style="red")
        table.add_row(
            str(row.number),
            printable(row.node),
            printable(", ".join([row.device, *row.gpus])),
            state(row.outcome or row.state),
            took(row),
            problem,
        )
    return table


# --------------------------------------------------------------------------------------------- searches


def searches(rows: Sequence[Search]) -> Table:
    """One line for each search."""
    table = grid(">id", "kernel", "state", ">GFLOP/s", ">threads", ">rounds", ">tried", ">took", ">submitted")
    for search in rows:
        counts = (str(search.threads), str(search.rounds), str(search.measured))
        shown = state("cache" if search.source == "cache" else search.state)
        best = text.gflops(text.rate(search.flops, search.best_s))
        name = printable(text.kernel(search.kernel))
        table.add_row(
            str(search.id),
            name,
            shown,
            best,
            *counts,
            text.seconds(search.elapsed_s),
            text.ago(search.created_at),
        )
    return table


def search(row: Search, rounds: Sequence[Round], candidates: Sequence[Candidate]) -> RenderableType:
    """One search: its best, its rounds, its fastest candidates and those that were quarantined."""
    best = text.rate(row.flops, row.best_s)
    pairs: list[tuple[str, RenderableType | None]] = [
        ("search", _bold(f"{row.id} {text.kernel(row.kernel)}")),
        ("state", state(row.state)),
        ("waits", row.reason if row.state == "queued" else ""),
        ("source", "the cache: this kernel was tuned before" if row.source == "cache" else ""),
        ("best", f"{text.gflops(best)} GFLOP/s, {text.seconds(row.best_s)}" if row.best_s else ""),
        ("schedule", text.schedule(row.best_schedule) if row.best_schedule is not None else ""),
        ("kernel", f"{row.tuned_kernel_id} (tinyfleet kernels show)" if row.tuned_kernel_id else ""),
        ("error", Text(printable(row.error), style="red") if row.error else None),
    ]
    parts: list[RenderableType] = [facts(pairs)]
    if rounds:
        parts += ["", _rounds(rounds, row.flops)]
    if candidates:
        parts += ["", _candidates(candidates, row.flops)]
    return Group(*parts)


def _rounds(rows: Sequence[Round], flops: float | None) -> Table:
    table = grid(">round", ">made", ">illegal", ">known", ">measured", "outcomes", ">best GFLOP/s")
    for row in rows:
        outcomes = ", ".join(
            f"{count} {name.replace('_', ' ')}" for name, count in sorted(row.outcomes.items())
        )
        counts = [
            str(count) for count in (row.number, row.generated, row.illegal, row.duplicate, row.candidates)
        ]
        table.add_row(*counts, printable(outcomes), text.gflops(text.rate(flops, row.best_s)))
    return table


def _candidates(rows: Sequence[Candidate], flops: float | None) -> Table:
    table = grid(">GFLOP/s", ">time", ">round", "outcome", ">max error", "schedule")
    for row in rows:
        speed = text.gflops(text.rate(flops, row.time_s))
        numbers = (speed, text.seconds(row.time_s), str(row.round))
        error = text.error_size(row.max_error)
        table.add_row(*numbers, state(row.outcome), error, _schedule_and_detail(row.schedule, row.detail))
    return table


def _schedule_and_detail(schedule: Sequence[Sequence[Any]], detail: str) -> Text:
    line = Text(text.schedule(schedule))
    return line.append(f"  {printable(detail)}", style="dim") if detail else line


# ----------------------------------------------------------------------------------- kernels and tokens


def kernels(rows: Sequence[TunedKernel]) -> Table:
    """One line for each tuned kernel."""
    table = grid(">id", "kernel", ">threads", ">GFLOP/s", ">GB/s", ">time", "schedule", "architecture")
    for row in rows:
        speeds = (text.gflops(row.gflops), text.gflops(row.gbps), text.seconds(row.time_s))
        name = printable(text.kernel(row.kernel))
        architecture = _faint(row.arch.split("+")[0])
        table.add_row(str(row.id), name, str(row.threads), *speeds, text.schedule(row.schedule), architecture)
    return table


def kernel(row: TunedKernel) -> Table:
    """One tuned kernel."""
    return facts(
        [
            ("kernel", _bold(f"{row.id} {text.kernel(row.kernel)}")),
            (
                "speed",
                f"{text.gflops(row.gflops)} GFLOP/s, {text.gflops(row.gbps)} GB/s, {text.seconds(row.time_s)}",
            ),
            ("threads", str(row.threads)),
            ("schedule", text.schedule(row.schedule)),
            ("error", f"{text.error_size(row.max_error)}, tolerance {text.error_size(row.tolerance)}"),
            ("architecture", row.arch),
            ("found", f"by search {row.search_id}, {text.ago(row.created_at)}"),
            ("confirmed", _confirmed(row)),
            ("hash", row.kernel_hash),
        ]
    )


def _confirmed(row: TunedKernel) -> str:
    if row.confirmed_at is None:
        return "not yet: served to nobody but its finder"
    return f"by node {row.confirmed_by}, {text.ago(row.confirmed_at)}"


def quarantine(rows: Sequence[QuarantinedCandidate]) -> Table:
    """One line for each quarantined candidate, with the reason."""
    table = grid(">id", "outcome", "why", "schedule", ">search", ">when")
    for row in rows:
        found_by = str(row.search_id or "–")
        why = printable(row.detail)
        table.add_row(
            str(row.id),
            state(row.outcome),
            why,
            text.schedule(row.schedule),
            found_by,
            text.ago(row.created_at),
        )
    return table


def tokens(rows: Sequence[Token]) -> Table:
    """One line for each bearer token."""
    table = grid(">id", "name", "role", ">created", "expires", "revoked")
    for row in rows:
        ends = (row.expires_at or "never", text.ago(row.revoked_at) if row.revoked_at else "")
        table.add_row(str(row.id), printable(row.name), row.role, text.ago(row.created_at), *ends)
    return table
