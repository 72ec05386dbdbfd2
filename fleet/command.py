"""The `tinyfleet` command: verbs from several packages, each loaded only when it is named.

A file of verbs registers a typer app in the entry-point group `tinyfleet.commands`. The files of this
repository join their verbs at the top (`VERBS`); any other file becomes one group under its entry point's
name, as the engine's does. The list of verbs is written down here, so that `tinyfleet --help` imports none
of them: the API alone would cost half a second and the engine as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from fleet.mistakes import Usage

GROUP = "tinyfleet.commands"

# Entry point → the verbs its app puts at the top level, with the line that --help shows.
VERBS: dict[str, dict[str, str]] = {
    "client": {
        "nodes": "The nodes: list, show, label, cordon, uncordon, drain, retest, accept, trust, readmit, retire.",
        "box-models": "What a box of each model must be: list, show, set, remove.",
        "stock": "The boxes that there are: list, count, show, add, move.",
        "run": "Run a command on a node, follow it, and exit as it does.",
        "exec": "Run a command inside a job that runs.",
        "ssh": "Log into a node, with a login of yours.",
        "logs": "What a job printed, or prints.",
        "artifacts": "What a job left: list, download.",
        "data": "Data sets that nodes keep for commands: push, list, show, remove.",
        "racks": "Racks and where nodes stand: list, put, place.",
        "jobs": "Jobs: submit, batch, list, show, logs, cancel, clone, retry.",
        "arrays": "Up to 100,000 jobs that differ in their index: submit, list, show, cancel.",
        "why": "Why a job waits, what would have it start, and when it likely will.",
        "usage": "Who held what: GPU-hours by tenant and node.",
        "windows": "Nodes kept for a tenant or for work on them: reserve, maintain, list, cancel.",
        "tenants": "Tenants: list, quota.",
        "crons": "Jobs that start by the clock: add, list, show, change, history, run, pause, resume, accept, remove.",
        "searches": "BEAM searches for fast kernels: run, list, show, cancel.",
        "kernels": "The best kernels found so far: list, show, quarantined, purge.",
        "tokens": "Bearer tokens: list, create, revoke.",
        "webhooks": "Send events elsewhere: add, list, deliveries, test, redeliver, enable, rotate, remove.",
        "gc": "Collect what has been kept for long enough, or say what would go.",
        "secrets": "Secrets that the server uses: set, list, remove.",
        "people": "Remove a person everywhere.",
        "keys": "Your SSH keys: add, import, list, remove.",
        "access": "Logins on nodes: request, list, show, approve, deny, revoke, certificate, known-hosts.",
        "join-token": "One-use tokens with which a node joins: create.",
        "updates": "Which version nodes run: status, set, promote, pause, resume.",
        "whoami": "Who the server takes you for.",
    },
    "server": {
        "serve": "Run the server: API, controllers and web console in one process.",
        "audit": "Who asked for what: verify that nobody has changed it, anchor.",
        "secret-keys": "The keys of the secrets at rest: rotate.",
        "ca": "A lab's own certificate authorities: init, issue, ssh.",
        "release": "The releases that this server has for its nodes: add, list, remove.",
    },
    "node": {
        "agent": "Run the agent on a node: enroll, take work, report.",
        "node": "Look at this machine as a node: doctor, rotate-key, logins; bootstrap another.",
    },
    "simulation": {
        "simulate": "A fleet of simulated nodes against a real server, with switchable faults.",
    },
}
# Files that keep their verbs to themselves: one group under the entry point's name.
GROUPS = {"engine": "The tensor compiler on this machine, without a server."}
# Verbs that people look for beside those of another file: (file, the group there, the verb).
GRAFTED = {"node": (("client", "nodes", "bootstrap"),)}
UNLISTED = "Verbs of an installed extension."


def _lacks(verb: str, error: ModuleNotFoundError) -> typer.Exit:
    """A node's installation has no control plane in it."""
    typer.echo(
        f"error: {verb} needs {error.name}, which is not installed here: a node has the agent's part only; "
        "pip install tinyfleet has all",
        err=True,
    )
    return typer.Exit(2)


class Unloaded(TyperCommand):
    """A verb that --help can list; its file is imported by `load`."""

    def __init__(self, name: str, summary: str, entry: metadata.EntryPoint) -> None:
        super().__init__(name, help=summary, short_help=summary)
        self.entry = entry

    def load(self) -> Any:
        """The real command, imported now. A file without the verb it is listed with is our bug."""
        try:
            loaded = self.entry.load()
        except ModuleNotFoundError as error:
            raise _lacks(str(self.name), error) from error
        group = get_group(loaded)
        if self.entry.name not in VERBS:
            group.name = self.name
            return group
        command: Any = group.commands[str(self.name)]
        for file, above, verb in GRAFTED.get(str(self.name), ()):
            below: Any = _group(file).commands[above]
            command.commands[verb] = below.commands[verb]
        return command


def _group(file: str) -> Any:
    """The verbs of an installed file."""
    (entry,) = metadata.entry_points(group=GROUP, name=file)
    return get_group(entry.load())


def verbs() -> Iterator[Unloaded]:
    """Every verb of every installed file, in the order in which --help lists them."""
    installed = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    for file, summaries in VERBS.items():
        if file in installed:
            for verb, summary in summaries.items():
                yield Unloaded(verb, summary, installed[file])
    for name, entry in sorted(installed.items()):
        if name not in VERBS:
            yield Unloaded(name, GROUPS.get(name, UNLISTED), entry)


class Joined(TyperGroup):
    """The top level: knows all verbs, imports the one that was named."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {str(verb.name): verb for verb in verbs()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Like every group's, but the verb found is imported first."""
        name, verb, rest = super().resolve_command(ctx, args)
        return name, verb.load() if isinstance(verb, Unloaded) else verb, rest

    def invoke(self, ctx: Any) -> Any:
        """Like every group's; what a verb says of its command line is an error in words, wherever it comes up."""
        try:
            return super().invoke(ctx)
        except Usage as error:
            said = "".join(each if each.isprintable() or each == "\n" else "?" for each in str(error))
            typer.echo(f"error: {said}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Joined,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables would print secrets
    epilog="Exit codes: 0 done, 1 the job or search failed, 2 usage, 3 refused, 4 server unreachable, "
    "5 not ended within --wait-timeout.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tinyfleet {metadata.version('tinyfleet')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Manage a fleet of GPU servers: nodes, jobs, and the search for fast kernels."""


def main() -> None:
    """The console script."""
    app(prog_name="tinyfleet")


if __name__ == "__main__":
    main()
