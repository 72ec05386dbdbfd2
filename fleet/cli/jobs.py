"""tinyfleet jobs: submit a job, follow it, stop it."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleet.cli import tables, waiting
from fleet.cli.connection import After, AsJson, Limit, TokenFile, Url, connected, stderr
from fleet.cli.durations import WaitTimeout, duration, positive
from fleet.cli.kernel_arguments import (
    Arch,
    Dtype,
    Key,
    Shape,
    Threads,
    kernel,
    read_list,
    read_spec,
    schedule_argument,
)
from fleet.cli.nodes import find_node
from fleet.cli.printing import exit_by_state, patiently, show, show_page
from fleet.cli.requirements import (
    AfterAny,
    AfterAnyArray,
    AfterOk,
    AfterOkArray,
    AfterStart,
    Gpus,
    Preemptible,
    QueueTimeout,
    Ranks,
    Require,
    RetryOn,
    requirements,
)
from fleet.cli.text import printable
from fleet.client import Client
from fleet.resources import Job

app = typer.Typer(no_args_is_help=True, help="Submit jobs and follow them.")
JobId = Annotated[int, typer.Argument(min=1, metavar="JOB", help="The job's id.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 if it is not a success.")]


@app.command("submit")
def submit_job(
    what: Annotated[
        str | None, typer.Argument(metavar="[WHAT]", help="gemm, reduce, copy, elementwise or noop.")
    ] = None,
    shape: Shape = None,
    spec: Annotated[
        Path | None, typer.Option(help="A JSON file with the whole spec instead; - reads stdin.")
    ] = None,
    schedule: Annotated[
        str, typer.Option(help="none, heuristic, tuned, a JSON list of opts, or its file.")
    ] = "heuristic",
    compare: Annotated[
        list[str] | None, typer.Option(help="Also measure: none, heuristic, tuned, numpy.")
    ] = None,
    dtype: Dtype = "float32",
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the inputs.")] = 0,
    time_s: Annotated[
        float,
        typer.Option("--time", parser=positive, metavar="SECONDS", help="Seconds of timing for each row."),
    ] = 1.0,
    seconds: Annotated[
        float, typer.Option(parser=duration, metavar="SECONDS", help="noop: how long it takes.")
    ] = 0.0,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    arch: Arch = None,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", parser=positive, metavar="SECONDS", help="Seconds until it is stopped."),
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Tries again after lost nodes.")] = None,
    require: Require = None,
    gpus: Gpus = None,
    ranks: Ranks = None,
    preemptible: Preemptible = False,
    retry_on: RetryOn = None,
    after: AfterStart = None,
    after_ok: AfterOk = None,
    after_any: AfterAny = None,
    after_ok_array: AfterOkArray = None,
    after_any_array: AfterAnyArray = None,
    queue_timeout_s: QueueTimeout = None,
    key: Key = None,
    wait: Wait = False,
    wait_timeout: WaitTimeout = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Submit a kernel to run, verify and time, or a noop."""
    with connected(url, token_file) as client:
        options = {"compare": compare or [], "threads": threads, "seed": seed, "time_s": time_s}
        if spec is not None:
            body = read_spec(spec)
        elif what == "noop":
            body = {"kind": "noop", "seconds": seconds}
        else:
            body = {"kind": "kernel", "kernel": kernel(what, shape, dtype), **options}
            body["schedule"] = schedule_argument(schedule)
        job = client.submit_job(
            body,
            name=name,
            priority=priority,
            arch=arch,
            node=find_node(client, node).id if node else None,
            timeout_s=timeout_s,
            max_retries=max_retries,
            requirements=requirements(require or [], gpus, ranks),
            preemptible=preemptible or None,
            queue_timeout_s=queue_timeout_s,
            retry_on=retry_on,
            after=after,
            after_ok=after_ok,
            after_any=after_any,
            after_ok_arrays=after_ok_array,
            after_any_arrays=after_any_array,
            idempotency_key=key,
        )
        if waited := wait or wait_timeout is not None:
            job = _ended(client, job, wait_timeout, as_json)
    submitted = Text(f"job {job.id} is {job.state}; follow it: tinyfleet jobs show {job.id}")
    show(job, tables.job(job, []) if waited else submitted, as_json)
    if waited:
        exit_by_state(job)


def _ended(client: Client, job: Job, within_s: float | None, as_json: bool) -> Job:
    return patiently(job, partial(waiting.wait_for_job, client, job, stderr(), within_s), as_json)


@app.command("list")
def list_jobs(
    state: Annotated[str | None, typer.Option(help="Only in this state.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only of this kind; expand, measure and confirm are searches'.")
    ] = None,
    limit: Limit = 30,
    after: After = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List jobs, newest first."""
    with connected(url, token_file) as client:
        page = client.jobs(state=state, kind=kind, after=after, limit=limit)
    show_page(page, tables.jobs(page.items), "No jobs.", as_json)


@app.command("show")
def show_job(
    job: JobId,
    wait: Wait = False,
    wait_timeout: WaitTimeout = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Show a job with its result and its attempts."""
    with connected(url, token_file) as client:
        found = client.job(job)
        if waited := wait or wait_timeout is not None:
            found = _ended(client, found, wait_timeout, as_json)
        attempts = client.attempts(job)
    show(found, tables.job(found, attempts), as_json)
    if waited:
        exit_by_state(found)


@app.command("logs")
def show_logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job has finished.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Print the log of a job's attempts, first to last. As JSON: one object; with --follow, one on a line for each
    piece as it comes."""
    with connected(url, token_file) as client:
        pieces = client.job_logs(job, follow=follow)
        for piece in pieces if follow or not as_json else ["".join(pieces)]:
            if as_json:
                piece = json.dumps({"job_id": job, "log": piece}) + "\n"
            sys.stdout.write(printable(piece, keep="\n\t") if sys.stdout.isatty() else piece)
            sys.stdout.flush()


@app.command("cancel")
def cancel_job(job: JobId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Stop a job."""
    with connected(url, token_file) as client:
        changed = client.cancel_job(job)
    show(changed, Text(f"job {changed.id} is {changed.state}"), as_json)


@app.command("clone")
def clone_job(job: JobId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Submit a job again, as it was asked for."""
    with connected(url, token_file) as client:
        found = client.clone_job(job)
    show(found, Text(f"job {found.id} is {found.state}, as job {job} was asked for"), as_json)


@app.command("retry")
def retry_job(job: JobId, as_json: AsJson = False, url: Url = None, token_file: TokenFile = None) -> None:
    """Try a job that failed or was cancelled again; it is a new one."""
    with connected(url, token_file) as client:
        found = client.retry_job(job)
    show(found, Text(f"job {found.id} is {found.state}, in place of job {job}"), as_json)


@app.command("batch")
def submit_batch(
    file: Annotated[
        Path, typer.Argument(help="A JSON list of requests, as POST /v1/jobs takes; - reads stdin.")
    ],
    key: Key = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Submit up to 10,000 jobs at once, all or none."""
    with connected(url, token_file) as client:
        requests = read_list(file)
        ids = client.submit_batch(requests, key)
    show({"ids": ids}, Text(f"{len(ids)} jobs are queued: {ids[0]} to {ids[-1]}"), as_json)
