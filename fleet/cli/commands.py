"""tinyfleet run, logs, artifacts: a command on a node, what it prints and what it leaves."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from fleet.cli import following
from fleet.cli.connection import AsJson, TokenFile, Url, Usage, connected, stderr
from fleet.cli.durations import duration, positive
from fleet.cli.kernel_arguments import Arch, Key
from fleet.cli.nodes import find_node
from fleet.cli.printing import show
from fleet.cli.requirements import Gpus, Preemptible, Ranks, Require, requirements
from fleet.cli.text import printable
from fleet.client import Client
from fleet.resources import Job

# What follows the verb's own options is the command's, dashes included.
VERBATIM = {"ignore_unknown_options": False, "allow_interspersed_args": False}
JobId = Annotated[int, typer.Argument(min=1, metavar="JOB", help="The job's id.")]
Command = Annotated[
    list[str] | None, typer.Argument(metavar="[--] COMMAND [ARGUMENTS]...", help="What to run.")
]


def run(
    command: Command = None,
    script: Annotated[
        Path | None, typer.Option(help="A file with a script to run instead; - reads stdin.")
    ] = None,
    file: Annotated[
        list[str] | None,
        typer.Option("--file", "-f", metavar="LOCAL[:PATH]", help="A file to take along; to PATH there."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable; or this one's."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", "-s", metavar="NAME[=SECRET]", help="A variable with a kept secret in it."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="NAME=DATA-SET", help="A data set, read-only in data/NAME."),
    ] = None,
    artifact: Annotated[
        list[str] | None,
        typer.Option("--artifact", "-a", metavar="GLOB", help="Keep these files too: *, ?, **; quote it."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Download the artifacts into this folder.")
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Reach the network; only on nodes that allow it.")
    ] = False,
    container: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Run it in a container of this image; where nodes have podman."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    arch: Arch = None,
    node: Annotated[str | None, typer.Option(help="Only on this node.")] = None,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Cores of the node.")] = 1,
    require: Require = None,
    gpus: Gpus = None,
    ranks: Ranks = None,
    preemptible: Preemptible = False,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", parser=positive, metavar="SECONDS", help="Seconds until it is stopped."),
    ] = None,
    grace_s: Annotated[
        float | None,
        typer.Option("--grace", parser=duration, metavar="SECONDS", help="From SIGTERM to SIGKILL then."),
    ] = None,
    max_retries: Annotated[int | None, typer.Option(help="Tries again after lost nodes.")] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Submit it and return.")] = False,
    key: Key = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Run a command on a node, follow what it prints, and exit with its status. Ctrl-C cancels it.

    Exits with 128 + N for signal N, 124 when its timeout passed, 125 when it could not be run.
    """
    with connected(url, token_file) as client:
        files = dict(_local(each) for each in file or [])
        job = client.run_command(
            command or None,
            script=_script(script, command),
            files=files,
            executable=[path for path, local in files.items() if local.stat().st_mode & 0o100],
            env=dict(_variable(each) for each in env or []),
            secrets=dict(_secret(each) for each in secret or []),
            data=dict(_data_set(each) for each in data or []),
            artifacts=artifact or [],
            grace_s=grace_s,
            network=network,
            container=container,
            threads=threads,
            name=name,
            priority=priority,
            arch=arch,
            node=find_node(client, node).id if node else None,
            timeout_s=timeout_s,
            max_retries=max_retries,
            requirements=requirements(require or [], gpus, ranks) or None,
            preemptible=preemptible or None,
            idempotency_key=key,
        )
        if detach:
            show(job, Text(f"job {job.id} is {job.state}; follow it: tinyfleet logs -f {job.id}"), as_json)
            return
        raise finished(client, job, as_json, output)


def exec_in(
    job: JobId,
    command: Command = None,
    script: Annotated[
        Path | None, typer.Option(help="A file with a script to run instead; - reads stdin.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME[=VALUE]", help="A variable; or this one's."),
    ] = None,
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
            script=_script(script, command),
            env=dict(_variable(each) for each in env or []),
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


def _script(path: Path | None, command: list[str] | None) -> str | None:
    if (path is None) == (not command):
        raise Usage("give a command after --, or a file with --script; exactly one of them")
    if path is None:
        return None
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"--script {path}: it cannot be read as text: {error}") from error


def _local(given: str) -> tuple[str, Path]:
    local, _, path = given.partition(":")
    found = Path(local)
    if not found.is_file():
        raise Usage(f"--file {given}: there is no file {local}")
    if not path and (found.is_absolute() or ".." in found.parts):
        path = found.name
    return path or found.as_posix(), found


def _data_set(given: str) -> tuple[str, str]:
    name, sign, address = given.partition("=")
    if not sign:
        raise Usage(f"--data {given}: give a name and a data set, as images=1f3a…; see: tinyfleet data push")
    return name, address


def _secret(given: str) -> tuple[str, str]:
    variable, _, name = given.partition("=")
    return variable, name or variable


def _variable(given: str) -> tuple[str, str]:
    name, sign, value = given.partition("=")
    if not sign:
        if name not in os.environ:
            raise Usage(f"--env {name}: there is no such variable here; give it a value, {name}=…")
        value = os.environ[name]
    return name, value


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
