"""Node verbs of the `tinyfleet` command: run the agent, and look at this machine as a node."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from fleet.agents.access import AccessKeeper, keeper
from fleet.agents.attempts import DATA
from fleet.agents.authorities import pin, pinned
from fleet.agents.client import ControlPlane, Refused, Rejected, Unreachable
from fleet.agents.datasets import DataSets
from fleet.agents.doctor import Finding, examine, usable
from fleet.agents.enrolment import check_can_join, identity
from fleet.agents.hints import Hints
from fleet.agents.images import Images
from fleet.agents.instruments import Instruments, NoInstruments, Process
from fleet.agents.inventory import CONTAINERS, inventory
from fleet.agents.journal import AlreadyRunning, Identity, Journal, Unusable, identity_in
from fleet.agents.keys import BadKey, Signer
from fleet.agents.protocol import Inventory
from fleet.agents.resets import Resets
from fleet.agents.root_access import Where
from fleet.agents.root_logins_unit import LoginsProblem, turn_off, turn_on
from fleet.agents.root_sshd import SshdProblem
from fleet.agents.runner import Runner
from fleet.agents.settings import Settings, SettingsError, settings
from fleet.agents.staging import Stager
from fleet.agents.starter import Starter
from fleet.agents.transfers import Transfers
from fleet.agents.updates import Updates
from fleet.agents.walls import calls
from fleet.agents.worker import Link, Worker

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
node = typer.Typer(no_args_is_help=True, help="Look at this machine as a node.")
app.add_typer(node, name="node")

_USAGE, _REFUSED, _UNREACHABLE = 2, 3, 4
_log = logging.getLogger(__name__)


@app.command()
def agent(
    server: Annotated[str | None, typer.Option(help="The control plane's URL; else TINYFLEET_URL.")] = None,
    state: Annotated[Path | None, typer.Option(help="Where the agent keeps what it must remember.")] = None,
    join_token_file: Annotated[
        Path | None, typer.Option(help="File with the one-use join token; else TINYFLEET_JOIN_TOKEN.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The node's name; else the host's.")] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="The only authority that may vouch for the server, in PEM; kept from the join on."),
    ] = None,
    ca_sha256: Annotated[
        str | None, typer.Option(help="Or that authority's sha256, as `tinyfleet ca init` printed it.")
    ] = None,
    job_network: Annotated[
        bool, typer.Option("--job-network", help="Let commands that ask for it reach the network, all of it.")
    ] = False,
    pull_images: Annotated[
        bool,
        typer.Option("--pull-images", help="Fetch images that commands ask for and that are not here."),
    ] = False,
    walls: Annotated[
        str | None,
        typer.Option(
            help="Round attempts: all that the machine has, required (nothing starts without one), none, or some by name."
        ),
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(help="Serve /metrics on this host:port too, beside pushing it.")
    ] = None,
    setup: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the agent on a node: enrol, take work, report.

    SIGTERM and SIGINT end the agent and leave its attempts running: an agent that is started again with the same
    --state takes them up. Without one they end when their lease does, within a minute.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        told = settings(
            os.environ,
            server=server,
            state=state,
            name=name,
            join_token_file=join_token_file,
            setup=setup,
            ca_file=ca_file,
            ca_sha256=ca_sha256,
            walls=walls,
            job_network=job_network,
            pull_images=pull_images,
            metrics_listen=metrics_listen,
        )
        serve(told)
    except (SettingsError, AlreadyRunning, BadKey) as error:
        raise _exit(str(error), _USAGE) from error
    except Unusable as error:
        raise _exit(f"--state {error}", _USAGE) from error
    except (Refused, Rejected) as error:
        raise _exit(f"the control plane did not accept this node: {error}", _REFUSED) from error


def _exit(message: str, code: int) -> typer.Exit:
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(code)


def serve(told: Settings) -> None:
    """Be the agent until SIGTERM or SIGINT."""
    # Its memory, environment and open files are closed to other processes of its user, attempts among them.
    calls.prctl(calls.PR_SET_DUMPABLE, 0)
    with closing(Journal(told.state)) as journal:
        check_can_join(told, journal)
        pin(told)
        with closing(Hints(told.state)) as hints:
            _serve(told, journal, hints)


def _serve(told: Settings, journal: Journal, hints: Hints) -> None:
    stop = threading.Event()
    _stop_on_signals(stop, hints)
    with closing(Starter(told.state, told.setup, told.walls, told.network)) as starter:
        starter.ensure()  # it warms up while the devices are looked at
        here = inventory(told.state, told.walls, told.network, told.containers)
        for wall in here.walls:
            if wall.state != "up":
                _log.warning("wall %s is %s: %s", wall.name, wall.state, wall.detail)
        for device in here.devices:
            if device.problem:
                _log.warning("device %s cannot be used: %s", device.name, device.problem)
        signer = Signer(told.state)
        who = identity(told, journal, signer, here, stop.wait)
        if who is not None and not stop.is_set():
            runner = Runner(told.state, starter, told.limits, told.start_s, data_sets(told))
            _work(told, journal, hints, here, who, signer, runner, stop)
    _log.info("stopped; attempts that run go on until their lease ends")


def _stop_on_signals(stop: threading.Event, hints: Hints) -> None:
    def on_signal(*_: object) -> None:
        stop.set()
        hints.hint()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _work(
    told: Settings,
    journal: Journal,
    hints: Hints,
    here: Inventory,
    who: Identity,
    signer: Signer,
    runner: Runner,
    stop: threading.Event,
) -> None:
    _log.info("node %d, %s, at %s", who.node_id, who.name, told.server)
    with ControlPlane(told.server, signer, pinned(told.state)) as control:
        stager = Stager(control, runner, data_sets(told), hints.hint, images(told, here))
        transfers = Transfers(
            control, runner, told.state / "blobs", told.blob_cache_bytes, hints.hint, stager
        )
        access = keeper(os.environ, hints.hint)
        updates = Updates(control, told.state, here.agent_version, hints.hint) if here.updatable else None
        with _instruments(told, control, hints, here) as instruments:
            resets = Resets(hints.hint, instruments.aside)
            link = Link(control, journal, here, who.node_id, access, updates, stager.kept, resets.reports)
            with _kept(access), _kept(updates), _kept(resets):
                Worker(
                    link, journal, runner, transfers, hints, stop, instruments, access, updates, resets
                ).run()


def data_sets(told: Settings) -> DataSets:
    """The node's cache of them."""
    return DataSets(told.state / DATA, told.data_bytes)


def images(told: Settings, here: Inventory) -> Images | None:
    """The node's images; None where no container runs."""
    offered = CONTAINERS in here.features
    return Images(told.state, told.image_bytes, told.pull_images) if offered else None


@contextmanager
def _kept(keeper: AccessKeeper | Updates | Resets | None) -> Iterator[None]:
    """Look after logins, the version, or resets, if that is meant."""
    if keeper is not None:
        keeper.start()
    try:
        yield
    finally:
        if keeper is not None:
            keeper.stop()


@contextmanager
def _instruments(
    told: Settings, control: ControlPlane, hints: Hints, here: Inventory
) -> Iterator[Instruments]:
    if not told.telemetry:
        yield NoInstruments()
        return
    process = Process(
        control,
        told.state,
        hints.hint,
        told.metrics_listen,
        here.agent_version,
        config=told.telemetry_config,
    )
    with closing(process):
        process.start()
        yield process


@node.command()
def doctor(
    state: Annotated[Path, typer.Option(help="Where the agent would keep its files.")] = Path(
        "/var/lib/tinyfleet"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine has as a node, what it lacks and what to do. Exit code 1: no device is usable."""
    findings = examine(state)
    if as_json:
        document = {"usable": usable(findings), "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(document, indent=2))
    else:
        _print_table(findings)
    if not usable(findings):
        raise typer.Exit(1)


@node.command("logins")
def logins(
    state: Annotated[Literal["on", "off"], typer.Argument(help="on or off; as root.")],
    address: Annotated[
        str, typer.Option(help="The name or address that people connect to; else the host's.")
    ] = "",
    folder: Annotated[Path, typer.Option("--root", hidden=True)] = Path("/"),
) -> None:
    """Let the fleet give people logins on this installed node, or end that with every account that it made."""
    try:
        if os.geteuid() != 0:
            raise LoginsProblem("run it as root: sudo tinyfleet node logins on")
        changed = turn_on(folder, address) if state == "on" else turn_off(folder, Where.from_env(os.environ))
    except (LoginsProblem, SshdProblem, OSError) as error:
        raise _exit(str(error), _USAGE) from error
    for path in changed:
        typer.echo(f"wrote {path}" if path.exists() else f"removed {path}")
    typer.echo("next: systemctl daemon-reload && systemctl restart tinyfleet-root tinyfleet-agent")


@node.command("rotate-key")
def rotate_key(
    state: Annotated[Path, typer.Option(help="Where the agent keeps its files.")] = Path(
        "/var/lib/tinyfleet"
    ),
) -> None:
    """Give the node a new key, beside its running agent, which signs with it from then on.

    The old key is accepted for another hour. A new one comes by itself every 30 days.
    """
    try:
        who = identity_in(state)
        if who is None:
            raise _exit(f"--state {state}: no node has joined from here", _USAGE)
        with ControlPlane(who.server, Signer(state), pinned(state)) as control:
            typer.echo(f"{who.name} signs with the key {control.rotate_key(who.node_id)}")
    except (Unusable, BadKey) as error:
        raise _exit(f"--state {error}", _USAGE) from error
    except Unreachable as error:
        raise _exit(str(error), _UNREACHABLE) from error
    except (Refused, Rejected) as error:
        raise _exit(f"the control plane did not accept the new key: {error}", _REFUSED) from error


def _print_table(findings: list[Finding]) -> None:
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        typer.echo(f"{finding.verdict:<8}{finding.subject:<{width + 2}}{finding.found}")
        if finding.fix:
            typer.echo(f"{'':<{width + 10}}→ {finding.fix}")
