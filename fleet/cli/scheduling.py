"""tinyfleet why, usage, tenants: why a job waits, who held what, and what tenants may have."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from fleet.cli import text
from fleet.cli.connection import AsJson, TokenFile, Url, connected
from fleet.cli.durations import positive
from fleet.cli.printing import show
from fleet.cli.tables import facts, grid
from fleet.cli.text import printable
from fleet.scheduling_resources import TenantQuota, Usage, Why, WhyRemedy

tenants_app = typer.Typer(no_args_is_help=True, help="Tenants: what they may have, and what they have.")
_SHOWN = 6  # names of nodes in one row


def why(
    job: Annotated[int, typer.Argument(min=1, metavar="JOB", help="The job's id.")],
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say why a job waits, what would have it start, and when it likely will."""
    with connected(url, token_file) as client:
        found = client.why(job)
    show(found, _why(found), as_json)


def _why(found: Why) -> RenderableType:
    pairs: list[tuple[str, RenderableType | None]] = [
        ("job", f"{found.job_id} is {found.state}"),
        ("waits for", ", ".join(_others(found))),
        ("because", found.quota or found.reason),
        ("in line", f"{found.ahead} before it, {found.queued} wait in all" if found.groups else ""),
        ("starts", "with the next look" if found.would_start else _when(found)),
        ("runs", f"{text.seconds(found.likely_s)}, as such jobs did" if found.likely_s else ""),
        ("guesses", _guesses(found)),
    ]
    groups = grid("nodes", "lack", "how")
    for each in found.groups:
        groups.add_row(_names(each.nodes), printable(each.requirement), printable(each.problem))
    remedies = grid("without", "it would", "on")
    for remedy in found.remedies:
        would = Text("start now", style="green") if remedy.at_once else Text("wait there", style="yellow")
        remedies.add_row(_lifted(remedy), would, _names(remedy.nodes))
    parts: list[RenderableType] = [facts(pairs)]
    parts += ["", groups] if found.groups else []
    parts += ["", remedies] if found.remedies else []
    return Group(*parts)


def _others(found: Why) -> list[str]:
    jobs = [f"job {each}" for each in found.waits_for]
    return jobs + [f"array {each}" for each in found.waits_for_arrays]


def _lifted(remedy: WhyRemedy) -> str:
    shown = printable(", ".join(remedy.lift))
    return shown if remedy.timeout_s is None else f"{shown} (at most {text.seconds(remedy.timeout_s)})"


def _when(found: Why) -> str:
    said = []
    if found.expected_at is not None:
        said.append(f"likely {printable(found.expected_at)}")
    if found.planned_at is not None:
        said.append(f"by {printable(found.planned_at)} at the latest, devices are kept for it")
    return "; ".join(said)


def _guesses(found: Why) -> str:
    if found.guesses is None:
        return ""
    return f"were {text.seconds(found.guesses.off_s)} off on average, over {found.guesses.count} jobs"


def _names(nodes: list[str]) -> str:
    shown = printable(", ".join(nodes[:_SHOWN]))
    return f"{shown} and {len(nodes) - _SHOWN} more" if len(nodes) > _SHOWN else shown


# ------------------------------------------------------------------------------------------------ usage


def usage(
    days: Annotated[int, typer.Option(min=1, max=3660, help="So many days, today's included (UTC).")] = 1,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say who held what: GPU-hours by tenant and node, and what was idle or quarantined."""
    with connected(url, token_file) as client:
        found = client.usage(days)
    show(found, _usage(found), as_json)


def _usage(found: Usage) -> RenderableType:
    tenants = grid("tenant", "node", ">GPU-hours leased", ">busy", ">CPU slot-hours", ">kWh", ">attempts")
    for row in found.tenants:
        hours = [_hours(each) for each in (row.gpu_leased_s, row.gpu_busy_s, row.slot_s)]
        tenants.add_row(
            printable(row.tenant), printable(row.node), *hours, _kwh(row.joules), str(row.attempts)
        )
    nodes = grid("node", ">GPUs", ">GPU-hours", ">leased", ">busy", ">idle", ">quarantined", ">kWh")
    for node in found.nodes:
        parts = (node.gpu_s, node.leased_s, node.busy_s, node.idle_s, node.quarantined_s)
        nodes.add_row(printable(node.node), str(node.gpus), *map(_hours, parts), _kwh(node.joules))
    head = Text(f"{printable(found.since)} to {printable(found.until)}", style="dim")
    return Group(head, "", tenants, "", nodes) if found.nodes else Group(head, "", tenants)


def _kwh(joules: float) -> str:
    return f"{joules / 3.6e6:.3f}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}"


# ---------------------------------------------------------------------------------------------- tenants


@tenants_app.command("list")
def list_tenants(as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """List the tenants."""
    with connected(url, token_file) as client:
        page = client.tenants(limit=200)
    show(page, _tenants(page.items), as_json)


@tenants_app.command("quota")
def put_quota(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    weight: Annotated[
        float, typer.Option(parser=positive, metavar="NUMBER", help="Of its fair share.")
    ] = 1.0,
    gpus: Annotated[int | None, typer.Option(min=0, help="At once.")] = None,
    gpu_hours: Annotated[
        float | None, typer.Option(parser=positive, metavar="HOURS", help="Of each period.")
    ] = None,
    period_days: Annotated[int, typer.Option(min=1, max=366, help="How long a period is.")] = 30,
    queued: Annotated[int | None, typer.Option(min=0, help="Jobs that wait.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Say what a tenant may have: all of it; what is left out is without a limit."""
    with connected(url, token_file) as client:
        found = client.put_quota(
            tenant,
            weight=weight,
            max_gpus=gpus,
            gpu_seconds=None if gpu_hours is None else gpu_hours * 3600,
            period_s=period_days * 86_400.0,
            max_queued=queued,
        )
    show(found, _tenants([found]), as_json)


def _tenants(rows: list[TenantQuota]) -> RenderableType:
    table = grid("tenant", ">weight", ">share", ">GPUs", ">of", ">GPU-hours left", ">queued", ">of")
    for row in rows:
        left = "–" if row.gpu_seconds_left is None else _hours(row.gpu_seconds_left)
        table.add_row(
            printable(row.tenant),
            f"{row.weight:g}",
            f"{row.share:.1%}",
            str(row.held_gpus),
            _most(row.max_gpus),
            left,
            str(row.queued),
            _most(row.max_queued),
        )
    return table


def _most(limit: int | None) -> str:
    return "–" if limit is None else str(limit)
