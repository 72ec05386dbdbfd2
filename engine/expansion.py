"""The next candidates of a search: seeds or neighbours, filtered and put in the model's order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from engine.building import Candidate, candidate
from engine.errors import IllegalOpt
from engine.kernel import Kernel
from engine.model import estimate
from engine.neighbours import Structure, neighbours, seeds, structure, varied
from engine.opts import Schedule, schedule_hash
from engine.picks import MAX_BODY, body_size
from engine.schedule import replay
from engine.target import Target

# The kernel as written is among the first candidates if the model gives it no more than this.
PLAIN_AT_MOST_S = 0.1


@dataclass(frozen=True)
class Expansion:
    """Candidates in order of the model's score, best first, and how many others were looked at."""

    candidates: tuple[Candidate, ...]
    generated: int
    illegal: int
    duplicate: int


def expand(
    kernel: Kernel,
    survivors: Sequence[Schedule],
    seen: Collection[str],
    limit: int,
    target: Target,
    threads: int = 1,
) -> Expansion:
    """The next candidates: neighbours of the survivors, or the seeds when there are none.

    `seen` are hashes of schedules not to propose again. Of schedules with equal leaves one is kept. The first
    seed (the model's pick) comes first whatever the model thinks of it, and the kernel as written last.
    """
    known = _structures(kernel, survivors)
    proposed = _proposals(kernel, survivors, target, threads)
    generated = illegal = duplicate = 0
    found: list[Candidate] = []
    for schedule in proposed:
        generated += 1
        try:
            scheduled = replay(kernel, schedule)
        except IllegalOpt:
            illegal += 1
            continue
        if body_size(scheduled) > MAX_BODY:
            illegal += 1
            continue
        if structure(scheduled) in known or schedule_hash(schedule) in seen:
            duplicate += 1
            continue
        known.add(structure(scheduled))
        found.append(candidate(schedule, estimate(kernel, scheduled, target, threads)))
    ranked = _ranked_steps(found, limit) if survivors else _ranked_seeds(found, limit)
    return Expansion(tuple(ranked[:limit]), generated, illegal, duplicate)


def _ranked_steps(found: list[Candidate], limit: int) -> list[Candidate]:
    """The model's order; but where there is a choice, a quarter at most are of one register tile."""
    ranked = sorted(found, key=lambda c: c.score)
    some = set(varied((c.schedule for c in ranked), limit, each=max(2, limit // 4)))
    chosen = [c for c in ranked if c.schedule in some]
    others = [c for c in ranked if c.schedule not in some]
    return sorted([*chosen, *others][:limit], key=lambda c: c.score)


def _ranked_seeds(found: list[Candidate], limit: int) -> list[Candidate]:
    """The model's pick first, then the model's order; the last is the kernel as written, if that is no long run.

    It is slow but hardly ever wrong, so that a search ends with something right.
    """
    ranked = found[:1] + sorted(found[1:], key=lambda c: c.score)
    plain = next((c for c in ranked if not c.schedule and c.score < PLAIN_AT_MOST_S), None)
    if plain is None or plain in ranked[:limit] or limit < 2:
        return ranked
    return [*ranked[: limit - 1], plain]


def _proposals(
    kernel: Kernel, survivors: Sequence[Schedule], target: Target, threads: int
) -> Iterable[Schedule]:
    if not survivors:
        return seeds(kernel, target, threads)
    return (step for survivor in survivors for step in neighbours(kernel, survivor, target, threads))


def _structures(kernel: Kernel, schedules: Iterable[Schedule]) -> set[Structure]:
    found: set[Structure] = set()
    for schedule in schedules:
        found.add(structure(replay(kernel, schedule)))
    return found
