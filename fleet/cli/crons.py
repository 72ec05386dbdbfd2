"""tinyfleet crons: jobs that start by the clock, their runs and the numbers they declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleet.cli import text
from fleet.cli.command_arguments import (
    Artifacts,
    Container,
    Data,
    Env,
    Files,
    Network,
    ScriptFile,
    Secrets,
    brought,
    read_script,
)
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, Usage, connected, stderr, the_one
from fleet.cli.durations import positive
from fleet.cli.kernel_arguments import read_json
from fleet.cli.nodes import find_node
from fleet.cli.printing import show, show_page
from fleet.cli.requirements import (
    Gpus,
    Preemptible,
    QueueTimeout,
    Ranks,
    Require,
    RetryOn,
    requirements,
)
from fleet.cli.tables import facts, grid, state
from fleet.cli.text import printable
from fleet.client import Client
from fleet.client_wire import given
from fleet.cron_resources import Cron, CronRun, Series

app = typer.Typer(no_args_is_help=True, help="Jobs that start by the clock.")
CronName = Annotated[str, typer.Argument(metavar="CRON", help="The cron's name or id.")]
SPARKS = "▁▂▃▄▅▆▇█"
ARTIFACT = "results.json"  # where a command declares its numbers


@app.command("add")
def add_cron(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dots, dashes.")],
    schedule: Annotated[
        str, typer.Argument(metavar="SCHEDULE", help="'30 2 * * 1-5', or @hourly, @daily, @weekly, @monthly.")
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND [ARGUMENTS]...]", help="What each run runs; results.json is kept."
        ),
    ] = None,
    spec: Annotated[
        Path | None, typer.Option(help="A JSON file with the spec of the job instead; - reads stdin.")
    ] = None,
    timezone: Annotated[str, typer.Option(help="Of the tz database, as Europe/Zurich.")] = "UTC",
    overlap: Annotated[
        str, typer.Option(help="While another run is under way: skip, queue or replace.")
    ] = "skip",
    catch_up: Annotated[
        str, typer.Option(help="Of times when the server was away run none, the last or all.")
    ] = "last",
    most_caught_up: Annotated[int, typer.Option(min=1, max=100, help="The bound of --catch-up all.")] = 10,
    watch: Annotated[
        list[str] | None,
        typer.Option(
            help="SERIES:lower or SERIES:higher, and :0.1 for a tolerance of 10 %; repeat it for more."
        ),
    ] = None,
    script: ScriptFile = None,
    file: Files = None,
    env: Env = None,
    secret: Secrets = None,
    data: Data = None,
    artifact: Artifacts = None,
    network: Network = False,
    container: Container = None,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    require: Require = None,
    gpus: Gpus = None,
    ranks: Ranks = None,
    preemptible: Preemptible = False,
    retry_on: RetryOn = None,
    queue_timeout_s: QueueTimeout = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", parser=positive, metavar="SECONDS", help="Seconds until a run is stopped."),
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Tries again after lost nodes.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Do not go by the clock yet.")] = False,
    key: Annotated[str | None, typer.Option("--idempotency-key", help="The same key, the same cron.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Add a cron. Its job is checked now as if it were submitted."""
    with connected(url, token_file) as client:
        what = {
            **brought(file, env, secret, data),
            "artifacts": artifact,
            "network": network,
            "container": container,
        }
        job = given(
            spec=_spec(client, spec, command, script, what),
            node=find_node(client, node).id if node else None,
            priority=priority,
            timeout_s=timeout_s,
            max_retries=max_retries,
            requirements=requirements(require or [], gpus, ranks) or None,
            preemptible=preemptible or None,
            retry_on=retry_on,
            queue_timeout_s=queue_timeout_s,
        )
        cron = client.add_cron(
            name,
            schedule,
            job,
            timezone=timezone,
            overlap=overlap,
            catch_up=catch_up,
            most_caught_up=most_caught_up,
            watch=[_watched(each) for each in watch or ()],
            paused=paused,
            idempotency_key=key,
        )
    due = cron.upcoming[0] if cron.upcoming else "when it is resumed"
    show(cron, Text(f"cron {printable(cron.name)} ({cron.id}) is due next {due}"), as_json)


def _spec(
    client: Client,
    file: Path | None,
    command: list[str] | None,
    script: Path | None = None,
    what: Mapping[str, Any] | None = None,
) -> Any:
    """The spec in the file, or the command's with `what` it brings. Raises Usage when that is not one thing to run."""
    brings = {name: value for name, value in (what or {}).items() if value}
    if [file is not None, bool(command), script is not None].count(True) != 1:
        raise Usage(
            "say what to run: -- COMMAND, --script FILE, or --spec FILE for another kind of job; one of them"
        )
    if file is not None:
        if brings:
            raise Usage(
                f"--spec {file}: what a command brings along ({', '.join(brings)}) stands in that file"
            )
        return read_json(file, "--spec")
    text = None if script is None else read_script(script, command)
    artifacts = [ARTIFACT, *(brings.pop("artifacts", ()))]
    return client.command_spec(command or None, script=text, artifacts=artifacts, **brings)


def _watched(given: str) -> dict[str, Any]:
    name, _, rest = given.partition(":")
    better, _, tolerance = rest.partition(":")
    if better not in ("lower", "higher"):
        raise Usage(f"--watch {given}: say which way it gets better, as {name or 'loss'}:lower")
    return {"name": name, "better": better, **({"tolerance": _ratio(given, tolerance)} if tolerance else {})}


def _ratio(given: str, tolerance: str) -> float:
    try:
        return positive(tolerance)
    except typer.BadParameter as error:
        raise Usage(f"--watch {given}: the tolerance {error}; 0.05 is five percent") from error


def find_cron(client: Client, name: str) -> Cron:
    """The cron of that name or id. Raises Usage when there is none."""
    if name.isdigit():
        return client.cron(int(name))
    return the_one(client.crons(name=name).items, f"cron {name!r}", "crons list")


@app.command("change")
def change_cron(
    cron: CronName,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- COMMAND [ARGUMENTS]...]", help="What each run runs from now on."),
    ] = None,
    spec: Annotated[Path | None, typer.Option(help="A JSON file with the spec of the job instead.")] = None,
    schedule: Annotated[str | None, typer.Option(help="When, from now on.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of the tz database, as Europe/Zurich.")] = None,
    overlap: Annotated[str | None, typer.Option(help="skip, queue or replace.")] = None,
    catch_up: Annotated[str | None, typer.Option(help="none, last or all.")] = None,
    most_caught_up: Annotated[
        int | None, typer.Option(min=1, max=100, help="The bound of --catch-up all.")
    ] = None,
    watch: Annotated[list[str] | None, typer.Option(help="The series to compare, all of them.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Change a cron; what is not named stays, and so does its history."""
    with connected(url, token_file) as client:
        found = find_cron(client, cron)
        new = _spec(client, spec, command) if command or spec is not None else None
        changed = client.change_cron(
            found.id,
            schedule=schedule,
            timezone=timezone,
            overlap=overlap,
            catch_up=catch_up,
            most_caught_up=most_caught_up,
            watch=[_watched(each) for each in watch] if watch else None,
            job=None if new is None else {**found.job, "spec": new},
        )
    due = changed.upcoming[0] if changed.upcoming else "when it is resumed"
    show(changed, Text(f"cron {printable(changed.name)} is due next {due}"), as_json)


@app.command("list")
def list_crons(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List the crons: how each stands, and when it is due."""
    with connected(url, token_file) as client:
        page = client.crons(after=after, limit=limit)
    show_page(page, crons_table(page.items), "No crons.", as_json)


def crons_table(rows: Sequence[Cron]) -> Table:
    """One line for each cron."""
    table = grid(">id", "cron", "schedule", "zone", "health", "last run", "due")
    for cron in rows:
        due = "paused" if cron.paused else (cron.upcoming or ["never"])[0]
        last = cron.last_run
        ran = Text.assemble(state(last.state), f" {text.ago(last.scheduled_at)}") if last else Text("–")
        table.add_row(
            str(cron.id),
            printable(cron.name),
            printable(cron.schedule),
            cron.timezone,
            state(cron.health),
            ran,
            due,
        )
    return table


@app.command("show")
def show_cron(cron: CronName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Show a cron, when it is due, and how its numbers went."""
    with connected(url, token_file) as client:
        found = find_cron(client, cron)
        series = client.cron_series(found.id)
    document = {**found.model_dump(mode="json"), "series": [each.model_dump(mode="json") for each in series]}
    show(document, _whole(found, series), as_json)


def _whole(cron: Cron, series: Sequence[Series]) -> RenderableType:
    policy = f"overlap {cron.overlap}, catch up {cron.catch_up}"
    pairs: list[tuple[str, RenderableType | None]] = [
        ("cron", f"{cron.name} ({cron.id})"),
        ("schedule", f"{cron.schedule} in {cron.timezone}"),
        ("policy", policy),
        ("health", Text.assemble(state(cron.health), f" {printable(cron.health_reason)}")),
        ("paused", f"by {cron.paused_by}" if cron.paused else ""),
        ("due", "\n".join(cron.upcoming)),
        (
            "last run",
            f"{cron.last_run.state} {text.ago(cron.last_run.scheduled_at)}" if cron.last_run else "",
        ),
        ("last success", text.ago(cron.last_success_at)),
    ]
    if not series:
        return facts(pairs)
    table = grid("series", ">last", ">baseline", "verdict", "history")
    for each in series:
        last = each.points[-1]
        baseline = "–" if last.baseline is None else f"{last.baseline:.4g}"
        history = sparkline([point.value for point in each.points])
        table.add_row(printable(each.name), f"{last.value:.4g}", baseline, _verdict(last.verdict), history)
    return Group(facts(pairs), "", table)


def _verdict(name: str) -> Text:
    return Text(name, style={"regressed": "bold red", "better": "green", "ok": "green"}.get(name, "dim"))


def sparkline(values: Sequence[float]) -> str:
    """The last 40 values as bars between the least and the greatest."""
    shown = values[-40:]
    least, most = min(shown), max(shown)
    spread = most - least
    return "".join(SPARKS[int((each - least) / spread * 7.999)] if spread else SPARKS[3] for each in shown)


@app.command("history")
def show_history(
    cron: CronName,
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List a cron's runs, newest first, also those skipped or missed."""
    with connected(url, token_file) as client:
        page = client.cron_runs(find_cron(client, cron).id, after=after, limit=limit)
    show_page(page, runs_table(page.items), "It has not run yet.", as_json)


def runs_table(rows: Sequence[CronRun]) -> Table:
    """One line for each run."""
    table = grid(">run", "due", "state", ">job", "why")
    for run in rows:
        why = run.error or run.reason or ("a number has regressed" if run.regressed else "")
        job = "" if run.job_id is None else str(run.job_id)
        shown = state(run.state) if not run.regressed else Text("regressed", style="bold red")
        table.add_row(str(run.id), run.scheduled_at, shown, job, Text(printable(why)))
    return table


@app.command("run")
def run_now(
    cron: CronName,
    key: Annotated[str | None, typer.Option("--idempotency-key", help="The same key, the same run.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Run a cron now, beside its schedule."""
    with connected(url, token_file) as client:
        run = client.run_cron(find_cron(client, cron).id, idempotency_key=key)
    job = (
        f"; follow it: tinyfleet jobs show {run.job_id}"
        if run.job_id is not None
        else f": {run.reason or run.error}"
    )
    show(run, Text(f"run {run.id} is {run.state}{printable(job)}"), as_json)


@app.command("pause")
def pause_cron(
    cron: CronName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Start nothing more by the clock."""
    with connected(url, token_file) as client:
        changed = client.pause_cron(find_cron(client, cron).id)
    show(changed, Text(f"cron {printable(changed.name)} is paused"), as_json)


@app.command("resume")
def resume_cron(
    cron: CronName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Go by the clock again."""
    with connected(url, token_file) as client:
        changed = client.resume_cron(find_cron(client, cron).id)
    due = (changed.upcoming or ["never"])[0]
    show(changed, Text(f"cron {printable(changed.name)} is due next {due}"), as_json)


@app.command("accept")
def accept_series(
    cron: CronName,
    series: Annotated[str, typer.Argument(help="The series that is right as it is now.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Begin the baseline of a series anew, after a change that was wanted."""
    with connected(url, token_file) as client:
        changed = client.accept_series(find_cron(client, cron).id, series)
    show(changed, Text(f"the baseline of {printable(series)} begins anew"), as_json)


@app.command("remove")
def remove_cron(
    cron: CronName, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None
) -> None:
    """Remove a cron; what runs of it is cancelled."""
    with connected(url, token_file) as client:
        found = find_cron(client, cron)
        client.remove_cron(found.id)
    if as_json:
        show({"id": found.id, "name": found.name, "removed": True}, "", as_json)
    else:
        stderr().print(Text(f"cron {printable(found.name)} is removed"))
