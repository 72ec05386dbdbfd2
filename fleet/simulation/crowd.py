"""Many simulated nodes in one process: a few threads take whichever node is due next."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fleet.client import Client
from fleet.simulation.boxes import BOXES, Box
from fleet.simulation.faults import Active, BadFault, Fault, parse_all
from fleet.simulation.node import Counts, SimulatedNode
from fleet.simulation.wire import Wire

THREADS = 16  # requests under way: each waits for the server, not for this process
LOOK_S = 1.0  # how often the file of faults is looked at


@dataclass(frozen=True)
class Wanted:
    """What fleet is simulated. `boxes` are taken in turn; a rack holds `per_rack` nodes, a site `racks_per_site` racks."""

    nodes: int
    boxes: Sequence[Box] = (BOXES["h200x8"],)
    prefix: str = "sim"
    speed: float = 1.0
    load: float = 0.6
    per_rack: int = 4
    racks_per_site: int = 20


@dataclass(frozen=True)
class Spot:
    """Where a simulated node stands."""

    site: str
    rack: str


def spot(wanted: Wanted, number: int) -> Spot:
    """The place of the node of this number, which begins at 0."""
    rack = number // wanted.per_rack
    return Spot(f"site{rack // wanted.racks_per_site + 1}", f"r{rack + 1:02d}")


def budget_watts(wanted: Wanted, number: int) -> float:
    """What the rack of this node may draw: so much that its boxes' nameplates are four fifths of it, as breakers want."""
    first = number // wanted.per_rack * wanted.per_rack
    inside = range(first, min(first + wanted.per_rack, wanted.nodes))
    return 1.25 * sum(wanted.boxes[each % len(wanted.boxes)].nameplate_watts for each in inside)


class Crowd:
    """The nodes at work, from `join` to `stop`."""

    def __init__(self, wanted: Wanted, server: str, state: Path, ca_file: Path | None = None) -> None:
        self.wanted = wanted
        self._wire = Wire(server, THREADS + 2, ca_file)
        self.nodes = [self._node(number, state) for number in range(wanted.nodes)]
        self._guard = threading.Condition()
        self._stopped = False
        self._heap: list[tuple[float, int]] = []
        self._threads: list[threading.Thread] = []

    def _node(self, number: int, state: Path) -> SimulatedNode:
        name = f"{self.wanted.prefix}-{number + 1:03d}"
        folder = state / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        box = self.wanted.boxes[number % len(self.wanted.boxes)]
        return SimulatedNode(name, box, self._wire, folder, self.wanted.speed, self.wanted.load)

    def join(self, client: Client, told: Callable[[int], None] = lambda _: None) -> None:
        """Enrol the nodes that have not joined yet and say where each stands; `told` hears how many are done.

        ApiError and Unreachable of the client, Refusal and NoAnswer of the nodes.
        """
        known: dict[str, int] = {}
        after: int | None = None
        while True:
            page = client.nodes(after=after, limit=200)
            known |= {node.name: node.id for node in page.items}
            if page.next is None:
                break
            after = page.next
        with ThreadPoolExecutor(4) as pool:
            done = pool.map(lambda pair: self._join(client, pair[0], pair[1], known), enumerate(self.nodes))
            for count, _ in enumerate(done, 1):
                told(count)

    def _join(self, client: Client, number: int, node: SimulatedNode, known: dict[str, int]) -> None:
        if node.name in known:
            return
        place = spot(self.wanted, number)
        node_id = node.join(client.join_token().secret)
        client.place_node(node_id, place.site, place.rack, node.box.nameplate_watts)
        if number % self.wanted.per_rack == 0:
            client.put_rack(place.site, place.rack, budget_watts(self.wanted, number))

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """These are the faults now, and no others. BadFault for a node that is not simulated here."""
        names = {node.name for node in self.nodes}
        for fault in faults:
            if fault.node not in names:
                raise BadFault(f"{fault.node} is no node of this simulation: there are {self._names()}")
        for node in self.nodes:
            node.faults = Active(fault for fault in faults if fault.node == node.name)

    def _names(self) -> str:
        return f"{self.nodes[0].name} to {self.nodes[-1].name}"

    def start(self) -> None:
        """Let them work; the first syncs and pushes are spread over one interval."""
        now, count = time.time(), len(self.nodes)
        for number, node in enumerate(self.nodes):
            node.next_sync = now + 2.0 * number / count
            node.next_push = now + 1.0 + 8.0 * number / count
            heapq.heappush(self._heap, (node.due, number))
        for number in range(min(THREADS, count)):
            thread = threading.Thread(target=self._work, name=f"nodes {number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End all threads and connections; the nodes fall silent."""
        with self._guard:
            self._stopped = True
            self._guard.notify_all()
        for thread in self._threads:
            thread.join()
        self._wire.close()

    def counts(self) -> Counts:
        """What they have done together."""
        total = Counts()
        for node in self.nodes:
            total.syncs += node.counts.syncs
            total.pushes += node.counts.pushes
            total.failures += node.counts.failures
        return total

    def _work(self) -> None:
        while (number := self._next()) is not None:
            node = self.nodes[number]
            node.step()
            with self._guard:
                heapq.heappush(self._heap, (node.due, number))
                self._guard.notify()

    def _next(self) -> int | None:
        """The node that is due, once it is; None when all is over."""
        with self._guard:
            while not self._stopped:
                if not self._heap:
                    self._guard.wait()
                    continue
                wait_s = self._heap[0][0] - time.time()
                if wait_s <= 0:
                    return heapq.heappop(self._heap)[1]
                self._guard.wait(wait_s)
        return None


class FaultFile:
    """A file of faults that is read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None

    def changed(self) -> tuple[Fault, ...] | None:
        """The faults, when the file has changed since; None when it has not. A file that is gone has none. BadFault."""
        try:
            about = self._path.stat()
            seen = (about.st_mtime_ns, about.st_size)
        except FileNotFoundError:
            seen = (0, 0)
        if seen == self._seen:
            return None
        self._seen = seen
        return parse_all(self._path.read_text(encoding="utf-8")) if seen != (0, 0) else ()
