"""Who confirms a tuned kernel that only its finder has seen. Pure: frozen values in, steps out.

A second sealed node does; where there is no other one (a fleet of one), the finder itself with another seed, if it is
sealed. Until then the kernel is served to nobody but its finder's tenant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleet.advance import StepJob
from fleet.agents.protocol import QUARANTINED, CandidateRef, CandidateResult, ConfirmSpec, JobKind, KernelRef
from fleet.requirements import Needs, NodeView, fit

TRIES = 3  # runs that say nothing; then it stays what its finder alone says


@dataclass(frozen=True)
class ClaimView:
    """A tuned kernel that nobody has confirmed. `involved`: the nodes on whose word it rests; `job`: the run that is
    to confirm it, if there is one, with what it `said` of the schedule once it is final."""

    id: int
    kernel: KernelRef
    schedule: CandidateRef
    target_id: str
    threads: int
    seed: int
    involved: frozenset[int]
    tries: int = 0
    job: StepJob | None = None
    said: CandidateResult | None = None


@dataclass(frozen=True)
class Ask:
    """Run it on this node, with a seed that it has not been run with."""

    claim_id: int
    node_id: int
    spec: ConfirmSpec


@dataclass(frozen=True)
class Confirm:
    """A run found it right and took so long, seconds: that time counts, whatever its finder said."""

    claim_id: int
    job_id: int
    node_id: int
    time_s: float


@dataclass(frozen=True)
class Refute:
    """A run found it wrong, or it crashed, hung, or wrote where it must not."""

    claim_id: int
    job_id: int
    node_id: int
    said: CandidateResult


@dataclass(frozen=True)
class Again:
    """The run said nothing about it."""

    claim_id: int
    job_id: int


ConfirmingStep = Ask | Confirm | Refute | Again


def confirming(claims: Sequence[ClaimView], nodes: Sequence[NodeView]) -> tuple[ConfirmingStep, ...]:
    """The steps that these claims call for."""
    steps = [_settle(claim, claim.job) if claim.job else _ask(claim, nodes) for claim in claims]
    return tuple(step for step in steps if step is not None)


def _settle(claim: ClaimView, job: StepJob) -> ConfirmingStep | None:
    if not job.final:
        return None
    said = claim.said
    if said is None or job.node_id is None:
        return Again(claim.id, job.id)
    if said.outcome in QUARANTINED:
        return Refute(claim.id, job.id, job.node_id, said)
    if said.outcome == "ok" and said.time_s is not None and said.time_s > 0:
        return Confirm(claim.id, job.id, job.node_id, said.time_s)
    return Again(claim.id, job.id)


def _ask(claim: ClaimView, nodes: Sequence[NodeView]) -> Ask | None:
    if claim.tries >= TRIES:
        return None
    needs = Needs(JobKind.CONFIRM, None, claim.target_id, None, claim.threads)
    opinions = confirmers(claim.target_id, claim.threads, claim.involved, nodes)
    able = [node.id for node in opinions if fit(needs, node)[0]]
    if not able:
        return None
    spec = ConfirmSpec(
        kernel=claim.kernel,
        candidates=[claim.schedule],
        threads=claim.threads,
        seed=claim.seed + 2 + claim.tries,  # the search used its own and the next
    )
    return Ask(claim.id, able[0], spec)


def confirmers(
    target_id: str, threads: int, involved: frozenset[int], nodes: Sequence[NodeView]
) -> list[NodeView]:
    """The sealed nodes whose word confirms a kernel of this target: others than those on whose word it rests. Only
    where there are none at all that could ever run it, away or not, those themselves."""
    able = (node for node in nodes if node.cores >= threads and _has(node, target_id))
    sealed = [node for node in able if node.trust == "sealed"]
    others = [node for node in sealed if node.id not in involved]
    return others or sealed


def _has(node: NodeView, target_id: str) -> bool:
    return any(device.present and device.target_id == target_id for device in node.devices)
