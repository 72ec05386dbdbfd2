"""A fleet on a simulated clock: it does what the real planner decides, and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from fleet.occupancy import Seat
from fleet.order import TIME_CONSTANT_S, Account, Waiting, added, decayed
from fleet.placement import Decisions, Placement, Running, decide
from fleet.requirements import DeviceView, NodeView

Policy = Callable[
    [Sequence[Waiting], Sequence[NodeView], float, dict[str, Account], Sequence[Running]], Decisions
]


def planner(
    jobs: Sequence[Waiting],
    nodes: Sequence[NodeView],
    now: float,
    accounts: dict[str, Account],
    running: Sequence[Running],
) -> Decisions:
    """The real one."""
    return decide(jobs, nodes, now, accounts, running)


@dataclass(frozen=True)
class Lease:
    """A job that runs: until `end` in truth, and by `bound`, its timeout, at the latest."""

    job: Waiting
    seats: tuple[Seat, ...]
    start: float
    end: float
    bound: float

    @property
    def gpus(self) -> int:
        """How many it holds."""
        return sum(len(seat.gpu_ids) for seat in self.seats)


@dataclass
class World:
    """Nodes, what runs on them, what waits, and when each job started. `takes_s`: how long a job runs in truth."""

    nodes: Sequence[NodeView]
    takes_s: Callable[[Waiting], float]
    policy: Policy = planner
    limits: dict[str, Account] = field(default_factory=dict)
    preemptible: frozenset[int] = frozenset()
    leases: dict[int, Lease] = field(default_factory=dict)
    waiting: dict[int, Waiting] = field(default_factory=dict)
    started: dict[int, float] = field(default_factory=dict)
    ended: dict[int, float] = field(default_factory=dict)
    promised: dict[int, float] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    held_gpu_s: dict[str, float] = field(default_factory=dict)
    at: float = 0.0
    seen: list[NodeView] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)

    def submit(self, *jobs: Waiting) -> None:
        """Queue jobs."""
        self.waiting.update((job.id, job) for job in jobs)

    def tick(self, now: float) -> Decisions:
        """What has ended by now leaves; the policy decides; what it places begins."""
        self._age(now)
        for lease in [each for each in self.leases.values() if each.end <= now]:
            self.ended[lease.job.id] = lease.end
            self._leave(lease)
        running = [self._running(lease) for lease in self.leases.values()]
        made = self.policy(list(self.waiting.values()), self.views(now), now, self._accounts(), running)
        for preemption in made.preemptions:
            lease = self.leases[preemption.job_id]
            self._leave(lease)
            self.waiting[lease.job.id] = replace(lease.job, planned=())
        for placement in made.placements:
            self._begin(placement, now)
        for delay in made.delays:
            if delay.starts_at is not None:
                self.promised.setdefault(delay.job_id, delay.starts_at)
            if delay.job_id in self.waiting and self.waiting[delay.job_id].planned != delay.nodes:
                self.waiting[delay.job_id] = replace(self.waiting[delay.job_id], planned=delay.nodes)
        return made

    def next_end(self) -> float:
        """When something that runs ends first; inf when nothing runs."""
        return min((lease.end for lease in self.leases.values()), default=float("inf"))

    def _begin(self, placement: Placement, now: float) -> None:
        job = self.waiting.pop(placement.job_id)
        self.started[job.id] = now
        takes = min(self.takes_s(job), job.timeout_s)
        self.leases[job.id] = Lease(job, placement.seats, now, now + takes, now + job.timeout_s)
        self._hold(job.tenant, placement.seats, 1)

    def gpu_s(self, tenant: str) -> float:
        """GPU-seconds that a tenant has held in truth."""
        live = (each for each in self.leases.values() if each.job.tenant == tenant)
        return self.held_gpu_s.get(tenant, 0.0) + sum(each.gpus * (self.at - each.start) for each in live)

    def _leave(self, lease: Lease) -> None:
        tenant, held_s = lease.job.tenant, min(lease.end, self.at) - lease.start
        self.held_gpu_s[tenant] = self.held_gpu_s.get(tenant, 0.0) + lease.gpus * held_s
        del self.leases[lease.job.id]
        self._hold(lease.job.tenant, lease.seats, -1)

    # -------------------------------------------------------------------------------------- accounts

    def _hold(self, tenant: str, seats: Sequence[Seat], sign: int) -> None:
        self.changed |= {seat.node_id for seat in seats}
        account = self.accounts.setdefault(tenant, replace(self.limits.get(tenant, Account(tenant))))
        account.held_gpus += sign * sum(len(seat.gpu_ids) for seat in seats)
        account.held_slots += sign * sum(seat.slots for seat in seats)

    def _age(self, now: float) -> None:
        passed, self.at = now - self.at, now
        for account in self.accounts.values():
            account.used_gpu_s = decayed(account.used_gpu_s, passed) + added(account.held_gpus, passed)
            account.used_slot_s = decayed(account.used_slot_s, passed) + added(account.held_slots, passed)

    def _accounts(self) -> dict[str, Account]:
        for name, account in self.accounts.items():
            limit = self.limits[name].gpu_s_left if name in self.limits else None
            if limit is not None:
                mine = [lease for lease in self.leases.values() if lease.job.tenant == name]
                account.promised_gpu_s = sum(each.gpus * max(0.0, each.bound - self.at) for each in mine)
                account.gpu_s_left = limit - self.gpu_s(name)
        return {**self.limits, **self.accounts}

    def _running(self, lease: Lease) -> Running:
        job = lease.job
        can = job.id in self.preemptible
        return Running(job.id, 1, job.tenant, job.priority, can, lease.start, lease.bound, lease.seats)

    # ----------------------------------------------------------------------------------------- views

    def views(self, now: float) -> list[NodeView]:
        """The nodes as a snapshot would show them; only those that changed are made anew."""
        if not self.seen:
            self.seen = list(self.nodes)
            self.place = {node.id: place for place, node in enumerate(self.nodes)}
            self.changed |= self.place.keys()
        if self.changed:
            gpus: dict[int, float] = {}
            shares: dict[int, list[tuple[float, int, bool]]] = {}
            for lease in self.leases.values():
                for seat in lease.seats:
                    if seat.node_id in self.changed:
                        gpus.update(dict.fromkeys(seat.gpu_ids, lease.bound))
                        shares.setdefault(seat.device_id, []).append(
                            (lease.bound, seat.slots, seat.exclusive)
                        )
            for node_id in self.changed:
                node = self.nodes[self.place[node_id]]
                devices = tuple(_held(device, gpus, shares) for device in node.devices)
                self.seen[self.place[node_id]] = replace(node, devices=devices)
            self.changed.clear()
        return list(self.seen)


def _held(
    device: DeviceView, gpus: dict[int, float], shares: dict[int, list[tuple[float, int, bool]]]
) -> DeviceView:
    if device.kind == "gpu":
        if device.id not in gpus:
            return device
        return replace(device, exclusive_held=True, free_at=gpus[device.id])
    here = shares.get(device.id)
    if not here:
        return device
    return replace(
        device,
        exclusive_held=any(alone for _, _, alone in here),
        shared_held=sum(slots for _, slots, alone in here if not alone),
        free_at=max(until for until, _, _ in here),
        ends=tuple((until, slots) for until, slots, alone in here if not alone),
    )


def share(account: Account) -> float:
    """GPUs that a tenant has held of late, on average."""
    return account.used_gpu_s / TIME_CONSTANT_S
