"""In which order jobs are looked at: priority, what the wait adds to it, and what the tenant's share takes from it. Pure.

A job's score is its priority, one point more for each `AGEING_S` it has waited, less up to `SHARE_POINTS` by how much
of its fair share its tenant has. So nothing starves: whatever its priority and its tenant, after `bound_s` of waiting a
job goes before everything that is submitted from then on, and a start is planned for it that nobody may delay.

The share is that of the dominant resource (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011) of what is held now
and of what was held, which is forgotten by half each `HALF_LIFE_S`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import exp, log

from fleet.requirements import Needs, NodeView

AGEING_S = 360.0  # ten points an hour
SHARE_POINTS = 50.0
LOWEST, HIGHEST = -100, 100  # priorities
HALF_LIFE_S = 86_400.0
TIME_CONSTANT_S = HALF_LIFE_S / log(2)
DEFAULT_TENANT = "default"


@dataclass(frozen=True)
class Waiting:
    """A queued job; `avoid` are nodes that failed it before. `asked_at`: when the job, or its search, was asked for;
    `queued_at`: since when it waits; `timeout_s`: what one attempt takes at most."""

    id: int
    generation: int
    needs: Needs
    priority: int = 0
    asked_at: float = 0.0
    queued_at: float = 0.0
    avoid: frozenset[int] = frozenset()
    reason: str = ""
    tenant: str = DEFAULT_TENANT
    timeout_s: float = float("inf")
    avoid_gpus: frozenset[int] = frozenset()
    not_before: float = 0.0
    runs_s: float | None = None  # how long the likes of it have run; None when none has
    expected_at: float | None = None  # the start that it was first told
    planned: tuple[int, ...] = ()  # the nodes that were kept for it when it was last looked at
    near: tuple[tuple[int, int], ...] = ()  # (node, bytes of what it reads that the node keeps)

    @property
    def likely_s(self) -> float:
        """How long it will likely run: as the likes of it have, else all of its timeout."""
        return self.timeout_s if self.runs_s is None else min(self.runs_s, self.timeout_s)


@dataclass(frozen=True)
class Overdue:
    """A queued job whose queue timeout has passed."""

    job_id: int
    generation: int
    queue_timeout_s: float


@dataclass
class Account:
    """What a tenant holds and has held, and how much it may. Seconds are of GPUs, and of CPU slots.

    `used_gpu_s`, `used_slot_s`: what it has held, decayed. `gpu_s_left`: of this period; None is without a limit.
    `promised_gpu_s`: what its jobs that run may hold yet, by their timeouts.
    """

    tenant: str
    weight: float = 1.0
    max_gpus: int | None = None
    gpu_s_left: float | None = None
    used_gpu_s: float = 0.0
    used_slot_s: float = 0.0
    held_gpus: int = 0
    held_slots: int = 0
    promised_gpu_s: float = 0.0

    def refusal(self, gpus: int, timeout_s: float) -> str:
        """Which quota keeps a job that would hold so many GPUs from starting now; empty when none does.

        GPU-seconds are counted by timeouts, and given back as jobs end: so no period's are ever exceeded.
        """
        if not gpus:
            return ""
        if self.max_gpus is not None and self.held_gpus + gpus > self.max_gpus:
            return f"quota: tenant {self.tenant} holds {self.held_gpus} of {self.max_gpus} GPUs"
        if self.gpu_s_left is None:
            return ""
        if self.gpu_s_left <= 0:
            return f"quota: tenant {self.tenant} has used up its GPU-seconds of this period"
        if self.promised_gpu_s + gpus * timeout_s > self.gpu_s_left:
            return (
                f"quota: tenant {self.tenant} has {_hours(self.gpu_s_left)} GPU-hours left of this period; what runs "
                f"may take {_hours(self.promised_gpu_s)} of them by its timeouts, and this job {_hours(gpus * timeout_s)}"
            )
        return ""


@dataclass
class Book:
    """The accounts during a pass, and how large the fleet is."""

    accounts: Mapping[str, Account]
    gpus: int
    slots: int
    active: frozenset[str]
    opened: dict[str, Account] = field(default_factory=dict)

    def account(self, tenant: str) -> Account:
        """A tenant's account of this pass; one without any has no limits."""
        if tenant not in self.opened:
            known = self.accounts.get(tenant, Account(tenant))
            self.opened[tenant] = Account(**vars(known))
        return self.opened[tenant]

    def charge(self, tenant: str, gpus: int, slots: int, timeout_s: float) -> None:
        """The tenant holds so much more from now on, for so long at most."""
        account = self.account(tenant)
        account.promised_gpu_s += gpus * timeout_s if gpus else 0.0
        account.held_gpus += gpus
        account.held_slots += slots

    def share(self, tenant: str) -> float:
        """The tenant's part of the resource of which it has most: half by what it holds, half by what it held."""
        account = self.account(tenant)
        of_gpus = _part(account.used_gpu_s, account.held_gpus, self.gpus)
        return max(of_gpus, _part(account.used_slot_s, account.held_slots, self.slots))

    def penalty(self, tenant: str) -> float:
        """Points that a job loses by how its tenant's share compares with the fair one: half of them at the fair one."""
        weights = sum(self.account(each).weight for each in self.active | {tenant})
        fair = self.account(tenant).weight / weights if weights else 1.0
        ratio = self.share(tenant) / max(fair, 1e-9)
        return SHARE_POINTS * ratio / (1 + ratio)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.4g}"


def _part(used_s: float, held: int, total: int) -> float:
    return (used_s / TIME_CONSTANT_S + held) / (2 * total) if total else 0.0


def book(accounts: Mapping[str, Account], nodes: Iterable[NodeView], jobs: Iterable[Waiting]) -> Book:
    """The accounts of a pass over these nodes and jobs."""
    gpus = slots = 0
    for node in nodes:
        gpus += len(node.gpus)
        slots += node.cpu.slots if node.cpu is not None else 0
    holders = {name for name, each in accounts.items() if each.held_gpus or each.held_slots}
    return Book(accounts, gpus, slots, frozenset(holders | {job.tenant for job in jobs}))


def decayed(used_s: float, passed_s: float) -> float:
    """What is left of a use after so many seconds."""
    return used_s * exp(-max(0.0, passed_s) / TIME_CONSTANT_S)


def added(amount: float, length_s: float) -> float:
    """What holding `amount` for the last `length_s` seconds adds to a use, decayed."""
    return amount * TIME_CONSTANT_S * (1 - exp(-max(0.0, length_s) / TIME_CONSTANT_S))


def score(job: Waiting, penalty: float, now: float) -> float:
    """Higher goes first."""
    return job.priority + max(0.0, now - job.asked_at) / AGEING_S - penalty


def bound_s() -> float:
    """After so long a wait a job goes before everything that is submitted from then on."""
    return (HIGHEST - LOWEST + SHARE_POINTS) * AGEING_S


def in_order(jobs: Iterable[Waiting], penalty: Callable[[str], float], now: float) -> Iterator[Waiting]:
    """The jobs, highest score first, then the oldest. A tenant's penalty may grow meanwhile: what it is given counts
    at once."""
    heap = [(-score(job, penalty(job.tenant), now), job.asked_at, job.id, job) for job in jobs]
    heapq.heapify(heap)
    while heap:
        stood, asked_at, job_id, job = heapq.heappop(heap)
        stands = -score(job, penalty(job.tenant), now)
        if stands > stood + 1e-9:
            heapq.heappush(heap, (stands, asked_at, job_id, job))
        else:
            yield job
