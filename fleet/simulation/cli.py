"""tinyfleet simulate: a fleet of simulated nodes against a real server."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from fleet.cli.connection import (
    EXIT_REFUSED,
    EXIT_UNREACHABLE,
    AsJson,
    TokenFile,
    Url,
    Usage,
    connected,
    fail,
    stderr,
)
from fleet.simulation.boxes import BOXES, Box
from fleet.simulation.crowd import LOOK_S, Crowd, FaultFile, Wanted
from fleet.simulation.faults import BadFault, Fault, FaultKind
from fleet.simulation.wire import NoAnswer, Refusal

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
_FAULTS = f"KIND[=VALUE]:NODE[:DEVICE], such as xid=79:sim-003:2. Kinds: {', '.join(FaultKind)}."


@app.callback()
def _verbs() -> None:
    """A group, also with one verb."""


@app.command()
def simulate(
    nodes: Annotated[int, typer.Option(min=1, max=2000, help="How many nodes.")] = 50,
    box: Annotated[
        list[str] | None, typer.Option(help=f"Their models, taken in turn: {', '.join(BOXES)}.")
    ] = None,
    fault: Annotated[list[str] | None, typer.Option(help=_FAULTS)] = None,
    faults_file: Annotated[
        Path | None, typer.Option(help="The same, one a line; read again whenever it changes.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.1, max=100_000, help="Seconds of a job that pass in one of the clock.")
    ] = 1.0,
    load: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of time for which GPUs work without any job.")
    ] = 0.6,
    prefix: Annotated[str, typer.Option(help="What the nodes' names begin with.")] = "sim",
    state: Annotated[
        Path, typer.Option(help="Where the nodes' keys are kept, so that they are the same next time.")
    ] = Path("tinyfleet-simulation"),
    duration: Annotated[float | None, typer.Option(min=0.0, help="End after so many seconds.")] = None,
    as_json: AsJson = False,
    url: Url = None,
    token_file: TokenFile = None,
) -> None:
    """Simulate a fleet until Ctrl-C: real enrolment, signed syncs and metrics of made-up hardware; jobs of the kind
    noop run in simulated time. Meant for a server of your own: the nodes stay in its list as lost."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    with connected(url, token_file) as client:
        fixed = [_fault(text) for text in fault or ()]
        boxes = [_box(name) for name in box or ["h200x8"]]
        crowd = Crowd(Wanted(nodes, boxes, prefix, speed, load), client.base_url, state)
        _set(crowd, fixed)
        try:
            crowd.join(client, _progress(nodes))
        except Refusal as error:
            raise fail(f"a node was refused: {error}", code=EXIT_REFUSED) from error
        except NoAnswer as error:
            raise fail(str(error), code=EXIT_UNREACHABLE) from error
        server = client.base_url
    crowd.start()
    _say({"server": server, "nodes": nodes}, f"{nodes} nodes at work at {server}; Ctrl-C ends them", as_json)
    _run(crowd, fixed, FaultFile(faults_file) if faults_file else None, duration)
    crowd.stop()
    done = crowd.counts()
    document = {"syncs": done.syncs, "pushes": done.pushes, "failures": done.failures}
    _say(document, f"{done.syncs} syncs, {done.pushes} pushes, {done.failures} failures", as_json)


def _box(name: str) -> Box:
    if name not in BOXES:
        raise Usage(f"--box {name}: there is {', '.join(BOXES)}")
    return BOXES[name]


def _fault(text: str) -> Fault:
    try:
        return Fault.parse(text)
    except BadFault as error:
        raise Usage(f"--fault {error}") from error


def _set(crowd: Crowd, faults: list[Fault]) -> None:
    try:
        crowd.set_faults(faults)
    except BadFault as error:
        raise Usage(f"--fault {error}") from error


def _progress(nodes: int) -> Callable[[int], None]:
    def told(count: int) -> None:
        if sys.stderr.isatty():
            stderr().print(Text(f"\rjoined {count} of {nodes}"), end="")

    return told


def _run(crowd: Crowd, fixed: list[Fault], file: FaultFile | None, duration: float | None) -> None:
    """Until a signal, or the end of the time; the file of faults is followed."""
    stop = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    left = duration
    while not stop.is_set() and (left is None or left > 0):
        _follow(crowd, fixed, file)
        pause = LOOK_S if left is None else min(LOOK_S, left)
        stop.wait(pause)
        left = None if left is None else left - pause


def _follow(crowd: Crowd, fixed: list[Fault], file: FaultFile | None) -> None:
    if file is None:
        return
    try:
        changed = file.changed()
        if changed is not None:
            crowd.set_faults([*fixed, *changed])
    except BadFault as error:
        stderr().print(Text(f"--faults-file: {error}; the faults before stay"))


def _say(document: Mapping[str, object], line: str, as_json: bool) -> None:
    print(json.dumps(document) if as_json else line, flush=True)
