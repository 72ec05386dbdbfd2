"""tinyfleet run, logs, artifacts: a command on a node, what it prints and what it leaves."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli import following
from fleet.cli.command_arguments import (
    Artifacts,
    Command,
    Container,
    Data,
    Env,
    Files,
    Network,
    ScriptFile,
    Secrets,
    brought,
    read_script,
    variables,
)
from fleet.cli.connection import AsJson, TokenFile, Url, Usage, connected, stderr
from fleet.cli.durations import duration, positive
from fleet.cli.kernel_arguments import Arch, Key
from fleet.cli.nodes import find_node
from fleet.cli.printing import show
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

# What follows the verb's own options is the command's, dashes included.
VERBATIM = {"ignore_unknown_options": False, "allow_interspersed_args": False}
JobId = Annotated[int, typer.Argument(min=1, metavar="JOB", help="The job's id.")]


def run(
    command: Command = None,
    script: ScriptFile = None,
    file: Files = None,
    env: Env = None,
    secret: Secrets = None,
    data: Data = None,
    artifact: Artifacts = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Download the artifacts into this folder.")
    ] = None,
    network: Network = False,
    container: Container = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    arch: Arch = None,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Cores of the node.")] = 1,
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
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", parser=positive, metavar="SECONDS", help="Seconds until it is stopped."),
    ] = None,
    grace_s: Annotated[
        float | None,
        typer.Option("--grace", parser=duration, metavar="SECONDS", help="From SIGTERM to SIGKILL then."),
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Tries again after lost nodes.")] = None,
    array: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="SIZE",
            help="An array of so many, that find their index in TINYFLEET_ARRAY_INDEX; not followed.",
        ),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Of the array at most so many at a time.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Submit it and return.")] = False,
    key: Key = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Run a command on a node, follow what it prints, and exit with its status. Ctrl-C cancels it.

    Exits with 128 + N for signal N, 124 when its timeout passed, 125 when it could not be run.
    """
    if parallel is not None and array is None:
        raise Usage("--parallel is of an array: say how many jobs it has, with --array")
    with connected(url, token_file) as client:
        spec = client.command_spec(
            command or None,
            script=read_script(script, command),
            **brought(file, env, secret, data),
            artifacts=artifact or [],
            grace_s=grace_s,
            network=network,
            container=container,
            threads=threads,
        )
        wanted: dict[str, Any] = {
            "name": name,
            "priority": priority,
            "arch": arch,
            "node": find_node(client, node).id if node else None,
            "timeout_s": timeout_s,
            "max_retries": max_retries,
            "requirements": requirements(require or [], gpus, ranks) or None,
            "preemptible": preemptible or None,
            "retry_on": retry_on,
            "after": after,
            "after_ok": after_ok,
            "after_any": after_any,
            "after_ok_arrays": after_ok_array,
            "after_any_arrays": after_any_array,
            "queue_timeout_s": queue_timeout_s,
        }
        if array is not None:
            made = client.submit_array(spec, array, parallel, key, **wanted)
            said = f"array {made.id} of {made.size} jobs; see: tinyfleet arrays show {made.id}"
            show(made, Text(said), as_json)
            return
        job = client.submit_job(spec, **wanted, idempotency_key=key)
        if detach:
            show(job, Text(f"job {job.id} is {job.state}; follow it: tinyfleet logs -f {job.id}"), as_json)
            return
        raise finished(client, job, as_json, output)


def exec_in(
    job: JobId,
    command: Command = None,
    script: ScriptFile = None,
    env: Env = None,
    rank: Annotated[int, typer.Option(min=0, help="Of a gang: in which rank.")] = 0,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", parser=positive, metavar="SECONDS", help="Seconds until it is stopped."),
    ] = None,
    key: Key = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Run a command inside a job that runs, in its walls, folder and lease; follow it, and exit with its status. Ctrl-C
    cancels it, and not the job."""
    with connected(url, token_file) as client:
        following.until_begun(client, client.job(job))
        made = client.exec_command(
            job,
            command or None,
            script=read_script(script, command),
            env=variables(env),
            rank=rank,
            timeout_s=timeout_s,
            idempotency_key=key,
        )
        raise finished(client, made, as_json)


def finished(client: Client, job: Job, as_json: bool, output: Path | None = None) -> typer.Exit:
    """Follow a command to its end; the exit that is its own."""
    stderr().print(Text(f"job {job.id}", style="dim"))
    ended = following.follow(client, job, apart=not as_json)
    if output is not None and ended.artifacts:
        for path in client.download_artifacts(ended.id, output):
            stderr().print(Text(f"wrote {printable(str(path))}", style="dim"))
    if as_json:
        show(ended, "", as_json)
    status = following.exit_status(ended)
    if status in (following.EXIT_TIMED_OUT, following.EXIT_NOT_RUN) or ended.state == "cancelled":
        stderr().print(Text(f"job {ended.id} {ended.state}: {printable(ended.error, keep=chr(10))}"))
    return typer.Exit(status)


def logs(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job has finished.")] = False,
    stream: Annotated[
        str | None, typer.Option(help="Only stdout, stderr or system (what the agent says).")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Print what a job's attempts printed, first to last, each stream to its own. As JSON: one object; with --follow, one
    on a line for each piece as it comes."""
    if stream not in (None, "stdout", "stderr", "system"):
        raise typer.BadParameter("give stdout, stderr or system", param_hint="--stream")
    with connected(url, token_file) as client:
        pieces = (each for each in client.log_pieces(job, follow=follow) if stream in (None, each.stream))
        if as_json and not follow:
            found: dict[str, Any] = {"job_id": job, "stdout": b"", "stderr": b"", "system": b""}
            for piece in pieces:
                found[piece.stream] += piece.data
            decoded = {name: _decoded(value) for name, value in found.items()}
            show(decoded, "", as_json)
            return
        for piece in pieces:
            if as_json:
                line = {"job_id": job, "stream": piece.stream, "data": _decoded(piece.data)}
                typer.echo(json.dumps(line))
            else:
                _write(piece.data, sys.stderr if piece.stream != "stdout" and stream is None else sys.stdout)


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


def _write(data: bytes, out: Any) -> None:
    """As it is to a file or a pipe; to a terminal without what would steer it."""
    if out.isatty():
        out.write(printable(data.decode("utf-8", "backslashreplace"), keep="\n\t"))
    else:
        out.buffer.write(data)
    out.flush()


def artifacts(
    job: JobId,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Download them into this folder.")
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """List what a job left, or download it."""
    with connected(url, token_file) as client:
        found = client.job(job).artifacts
        missing = [name for name in names or [] if name not in found]
        if missing:
            there_is = ", ".join(sorted(found)) or "none"
            raise Usage(f"job {job} has no artifact {missing[0]!r}; there is: {there_is}")
        chosen = {name: found[name] for name in names or sorted(found)}
        written = [] if output is None else client.download_artifacts(job, output, list(chosen))
    table = Table("artifact", "blob" if output is None else "file")
    for place, (name, address) in enumerate(chosen.items()):
        table.add_row(printable(name), address if output is None else printable(str(written[place])))
    document = {"job_id": job, "artifacts": chosen, "files": [str(path) for path in written]}
    show(document, table if chosen else Text("No artifacts."), as_json)
