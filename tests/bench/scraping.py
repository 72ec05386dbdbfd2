"""One API process under a fleet: what scraping 300 simulated nodes every ten seconds costs it, and how long a scrape takes.

The server is a process of its own, the simulated nodes another, and this one scrapes as Prometheus does: a bearer token,
gzip, kept-alive connections, each node once an interval. Processor time is the server's own, from /proc, so that other load
on the machine stretches the times of scrapes, not the cost. Rows add up: nodes at rest (they sync), pushing, scraped.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.table import Table

from fleet.client import Client
from tests.bench.racing import shown
from tests.whole import Process, start, until

EVERY_S = 10.0
SCRAPERS = 4
REACH_CORE, REACH_S, REACH_SERIES = 0.30, 0.1, 1000  # series of each node


@dataclass(frozen=True)
class Window:
    """What the server took of a core, and how long each scrape took."""

    core: float
    scrapes_s: list[float]
    series: int = 0
    stale: int = 0


def processor_s(pid: int) -> float:
    """The processor time that a process has used, to the nanosecond; threads that have ended are not in it."""
    files = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(file.read_text().split()[0]) for file in files) * 1e-9


@contextmanager
def server(folder: Path, push_s: float) -> Iterator[tuple[Process, str, str]]:
    """The API with its controllers, asking for a push every `push_s`: its process, URL and administrator's token."""
    ready = folder / "ready.json"
    options = ["--port", "0", "--data", str(folder / "data"), "--ready-file", str(ready)]
    environ = {"TINYFLEET_METRICS_S": f"{push_s:g}"}
    process = start(["api", *options], folder / "server.log", environ)
    try:
        until(ready.exists, "the server listens", 60.0)
        found = json.loads(ready.read_text())
        yield process, found["url"], Path(found["admin_token_file"]).read_text().strip()
    finally:
        process.stop()


@contextmanager
def fleet(folder: Path, url: str, nodes: int) -> Iterator[None]:
    """So many simulated H200 boxes at work, in one process."""
    token = folder / "data" / "admin-token"
    options = [
        "--url",
        url,
        "--token-file",
        str(token),
        "--nodes",
        str(nodes),
        "--state",
        str(folder / "nodes"),
    ]
    process = start(["fleet.simulation", "simulate", *options, "--json"], folder / "fleet.log")
    try:
        with Client(url, token.read_text().strip()) as client:
            until(lambda: _joined(client) == nodes, "all nodes have pushed", 400.0)
        yield
    finally:
        process.stop()


def _joined(client: Client) -> int:
    """How many nodes have pushed something."""
    count, after = 0, None
    while True:
        page = client.telemetry(after=after, limit=200)
        count += sum(each.measured_at is not None for each in page.items)
        if page.next is None:
            return count
        after = page.next


def at_rest(pid: int, seconds: float) -> Window:
    """The server while nobody scrapes."""
    before, began = processor_s(pid), time.monotonic()
    threading.Event().wait(seconds)
    return Window((processor_s(pid) - before) / (time.monotonic() - began), [])


def scraped(pid: int, url: str, secret: str, seconds: float) -> Window:
    """The server while every node is scraped once in each interval, evenly spread over it."""
    headers = {"Authorization": f"Bearer {secret}", "Accept-Encoding": "gzip"}
    limits = httpx.Limits(max_connections=SCRAPERS, max_keepalive_connections=SCRAPERS)
    with httpx.Client(base_url=url, headers=headers, limits=limits, timeout=10.0) as http:
        groups = http.get("/v1/discovery/prometheus").raise_for_status().json()
        paths = [group["labels"]["__metrics_path__"] for group in groups]
        before, began = processor_s(pid), time.monotonic()
        rounds = max(1, round(seconds / EVERY_S))
        due = [
            (began + EVERY_S * (r + n / len(paths)), path)
            for r in range(rounds)
            for n, path in enumerate(paths)
        ]
        with ThreadPoolExecutor(SCRAPERS) as pool:
            found = list(pool.map(lambda each: _scrape(http, *each), due))
        left = began + rounds * EVERY_S - time.monotonic()
        threading.Event().wait(max(0.0, left))
        core = (processor_s(pid) - before) / (time.monotonic() - began)
    times = [took for took, text in found if text]
    if not times:
        raise SystemExit("the machine is too busy: no node pushes within two intervals")
    last = (line for _, text in found[-len(paths) :] for line in text.splitlines())
    series = sum(not line.startswith(b"#") for line in last)
    return Window(core, times, series, len(found) - len(times))


def _scrape(http: httpx.Client, due: float, path: str) -> tuple[float, bytes]:
    """Seconds that the scrape took, from when it was sent, and its text: none of a node that is stale. Nothing is made of
    the text meanwhile: the scrapes beside this one would wait for that."""
    threading.Event().wait(max(0.0, due - time.monotonic()))
    began = time.perf_counter()
    reply = http.get(path)
    took = time.perf_counter() - began
    if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE:
        return took, b""
    if reply.status_code != 200:
        raise SystemExit(f"{path}: {reply.status_code} {reply.text[:200]}")
    return took, reply.content


def measured(nodes: int, seconds: float, push_s: float) -> dict[str, Window]:
    """Both rows."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        with server(folder, push_s) as (process, url, token), fleet(folder, url, nodes):
            pid = process.popen.pid
            with Client(url, token) as client:
                secret = client.mint_token("prometheus", "viewer", kind="service", scopes=["metrics"]).secret
            quiet = at_rest(pid, seconds)
            return {"syncs and pushes": quiet, "and scraped": scraped(pid, url, secret, seconds)}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scraping", description=__doc__)
    parser.add_argument("--nodes", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument(
        "--push-s", type=float, default=EVERY_S, help="each node pushes so often; rarely, for scrapes alone"
    )
    options = parser.parse_args()
    print_table(options.nodes, measured(options.nodes, options.seconds, options.push_s))


def print_table(nodes: int, found: dict[str, Window]) -> None:
    """Shares of a core; times of scrapes in milliseconds."""
    quiet, busy = found.values()
    title = f"{nodes} nodes, {busy.series:,} series, each scraped every {EVERY_S:g} s"
    table = Table("", "of a core", "median, ms", "99 in 100", "worst", "reach", title=title)
    rest = Window(busy.core - quiet.core, busy.scrapes_s)
    late = (
        f"{busy.stale} scrapes met a node whose push was late" if busy.stale else "every scrape was answered"
    )
    with shown(table, late):
        for name, window in (*found.items(), ("the scrapes of it", rest)):
            times = sorted(window.scrapes_s)
            spread = (
                (statistics.median(times), times[int(len(times) * 0.99)], times[-1]) if times else (None,) * 3
            )
            reached = _reached(window, busy.series / nodes) if window is rest else ""
            shares = ("" if each is None else f"{each * 1e3:.1f}" for each in spread)
            table.add_row(name, f"{window.core:.0%}", *shares, reached)


def _reached(window: Window, series: float) -> str:
    core = "✓" if window.core <= REACH_CORE else "missed"
    worst = "✓" if max(window.scrapes_s) <= REACH_S else "missed"
    many = "✓" if series >= REACH_SERIES else f"missed: {series:.0f}"
    return f"≤ {REACH_CORE:.0%} {core} · worst ≤ {REACH_S * 1e3:.0f} {worst} · ≥ {REACH_SERIES} series a node {many}"


if __name__ == "__main__":
    sys.exit(main())
