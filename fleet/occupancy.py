"""What holds a node's devices now and until when, and what they are kept for. Pure; one pass of placement fills it.

A hold ends by the timeout of its attempt at the latest, which the node itself enforces: so a start that is planned on
those ends is kept, and what ends before a planned start may run in front of it (backfill) and delays nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from fleet.requirements import DeviceView, Needs, NodeView, Window, suitable

SOON_S = 1e-3  # what holds a device now is not over now, whatever its end


@dataclass(frozen=True)
class Seat:
    """One rank's place: a node, its cpu device, a share of that, and GPUs."""

    node_id: int
    device_id: int
    exclusive: bool
    gpu_ids: tuple[int, ...] = ()
    slots: int = 1


@dataclass(frozen=True)
class Hold:
    """A part of a node that is taken until then."""

    end: float
    exclusive: bool
    slots: int
    gpu_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Keep:
    """A part of a node that is kept for a job's planned start, from then until its end at the latest."""

    job_id: int
    start: float
    end: float
    exclusive: bool
    slots: int
    gpu_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stay:
    """Who would come and for how long: `end` is the start and the job's timeout. `avoided` are GPUs that failed it."""

    needs: Needs
    tenant: str
    start: float
    end: float
    avoided: frozenset[int] = frozenset()

    def at(self, start: float) -> Stay:
        """As long a stay from another start on."""
        return Stay(self.needs, self.tenant, start, start + self.end - self.start, self.avoided)


@dataclass
class Spot:
    """One node during a pass."""

    node: NodeView
    now: float
    holds: list[Hold] = field(default_factory=list)
    keeps: list[Keep] = field(default_factory=list)
    suits: dict[Needs, tuple[DeviceView, ...]] = field(default_factory=dict)
    full: dict[Needs, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.holds += list(_holds(self.node, self.now + SOON_S))
        self.cpu = self.node.cpu

    # ------------------------------------------------------------------------------------------ asking

    def refusal(self, stay: Stay) -> str:
        """Why the stay cannot be as things are planned; empty when it can."""
        if stay.start == self.now and not stay.avoided:
            return self._window(stay) or self._held_now(stay) or self._kept(stay)
        return self._window(stay) or self._held(stay) or self._kept(stay)

    def _held_now(self, stay: Stay) -> str:
        """Looked at once: in a pass holds are only added."""
        if stay.needs in self.full:
            return self.full[stay.needs]
        found = self._held(stay)
        if found:
            self.full[stay.needs] = found
        return found

    def earliest(self, stay: Stay, before: float = inf) -> float:
        """From when on the stay can be, by the ends that are known; inf when no end earlier than `before` would do."""
        first = self._enough_end(stay)
        later = sorted(end for end in self.ends() if stay.start < end < before and end >= first)
        starts = (stay.start, *later) if first <= stay.start < before else later
        return next((start for start in starts if not self.refusal(stay.at(start))), inf)

    def _enough_end(self, stay: Stay) -> float:
        """Before this too much holds the node, whatever it is kept for: a bound that is cheap to have."""
        if stay.needs.exclusive:
            return max((hold.end for hold in self.holds), default=0.0)
        if not stay.needs.gpus:
            return 0.0
        until = {gpu: hold.end for hold in self.holds for gpu in hold.gpu_ids}
        suits = [gpu.id for gpu in self._suitable(stay.needs) if gpu.id not in stay.avoided]
        free_at = sorted(until.get(gpu, 0.0) for gpu in suits)
        return free_at[stay.needs.gpus - 1] if len(free_at) >= stay.needs.gpus else inf

    def ends(self) -> set[float]:
        """When something ends that is here or planned."""
        found = {hold.end for hold in self.holds} | {keep.end for keep in self.keeps}
        return found | {window.end for window in self.node.windows}

    def gpus(self, stay: Stay) -> tuple[int, ...] | None:
        """The GPUs that the stay would have, those not kept first; None when too few are free."""
        free = [gpu.id for gpu in self._suitable(stay.needs) if gpu.id not in stay.avoided]
        taken = {gpu for hold in self.holds if hold.end > stay.start for gpu in hold.gpu_ids}
        later = {gpu for keep in self.keeps if _overlap(keep, stay) for gpu in keep.gpu_ids}
        free = [gpu for gpu in free if gpu not in taken and gpu not in later]
        soon = {gpu for keep in self.keeps for gpu in keep.gpu_ids}
        free.sort(key=lambda gpu: gpu in soon)
        wanted = len(self._suitable(stay.needs)) if stay.needs.whole_node else stay.needs.gpus
        return tuple(free[:wanted]) if len(free) >= wanted else None

    def free_gpus(self) -> int:
        """How many GPUs nothing holds now."""
        taken = {gpu for hold in self.holds for gpu in hold.gpu_ids}
        return sum(gpu.id not in taken for gpu in self.node.gpus)

    def shared(self) -> int:
        """How many slots are shared out now."""
        return sum(hold.slots for hold in self.holds if not hold.exclusive)

    # ------------------------------------------------------------------------------------------ taking

    def take(self, stay: Stay) -> Seat:
        """Hold what the stay needs. It was not refused."""
        seat = self._seat(stay)
        self.holds.append(Hold(stay.end, seat.exclusive, seat.slots, seat.gpu_ids))
        return seat

    def keep(self, stay: Stay, job_id: int) -> None:
        """Keep what the stay needs, so that nothing else that would still run then is given it."""
        seat = self._seat(stay)
        self.keeps.append(Keep(job_id, stay.start, stay.end, seat.exclusive, seat.slots, seat.gpu_ids))

    def keep_after(self, stay: Stay, job_id: int, leaving: Iterable[tuple[Iterable[Seat], float]]) -> None:
        """Keep what the stay needs once those have left; they leave now."""
        freed = self
        for seats, end in leaving:
            freed = freed.without(seats, end)
        seat = freed._seat(stay)
        self.keeps.append(Keep(job_id, stay.start, stay.end, seat.exclusive, seat.slots, seat.gpu_ids))

    def closed(self, stay: Stay) -> bool:
        """The whole node is kept for something else."""
        return bool(self._window(stay))

    def without(self, seats: Iterable[Seat], end: float) -> Spot:
        """The same node as it is once those who sit there, until `end`, have left."""
        found = Spot(self.node, self.now, [], list(self.keeps), self.suits)
        found.holds = list(self.holds)
        for seat in seats:
            if seat.node_id == self.node.id:
                found._leave(seat, end)
        return found

    def _leave(self, seat: Seat, end: float) -> None:
        kept = [hold for hold in self.holds if not set(hold.gpu_ids) & set(seat.gpu_ids)]
        same = [
            hold
            for hold in kept
            if not hold.gpu_ids
            and hold.exclusive == seat.exclusive
            and (seat.exclusive or hold.slots == seat.slots)
        ]
        if same and len(kept) + len(seat.gpu_ids) >= len(self.holds):  # else the GPUs' holds had the slots
            kept.remove(min(same, key=lambda hold: abs(hold.end - end)))
        self.holds = kept

    def _seat(self, stay: Stay) -> Seat:
        assert self.cpu is not None, "a node without a cpu device fits nothing"
        slots = stay.needs.slots
        return Seat(self.node.id, self.cpu.id, stay.needs.exclusive, self.gpus(stay) or (), slots)

    # --------------------------------------------------------------------------------------- refusals

    def _suitable(self, needs: Needs) -> tuple[DeviceView, ...]:
        if needs not in self.suits:
            self.suits[needs] = suitable(needs, self.node)
        return self.suits[needs]

    def _window(self, stay: Stay) -> str:
        for window in self.node.windows:
            if window.tenant != stay.tenant and window.start < stay.end and stay.start < window.end:
                return f"is {window.text()}{_when(window, stay)}"
        return ""

    def _held(self, stay: Stay) -> str:
        there = [hold for hold in self.holds if hold.end > stay.start]
        if any(hold.exclusive for hold in there):
            return "is held exclusively"
        shared = sum(hold.slots for hold in there)
        if stay.needs.exclusive:
            if shared:
                return f"is shared by {shared}"
        elif self.cpu is not None and shared + stay.needs.slots > self.cpu.slots:
            return _no_slots(self.cpu.slots - shared, stay.needs.slots)
        if (stay.needs.gpus or stay.needs.whole_node) and not self._enough_gpus(stay, there):
            return self._no_gpus(stay, there)
        return ""

    def _enough_gpus(self, stay: Stay, there: Iterable[Hold]) -> bool:
        taken = {gpu for hold in there for gpu in hold.gpu_ids}
        suits = self._suitable(stay.needs)
        free = sum(gpu.id not in taken and gpu.id not in stay.avoided for gpu in suits)
        return free >= (len(suits) if stay.needs.whole_node else stay.needs.gpus)

    def _no_gpus(self, stay: Stay, there: Iterable[Hold]) -> str:
        taken = {gpu for hold in there for gpu in hold.gpu_ids}
        free = sum(gpu.id not in taken and gpu.id not in stay.avoided for gpu in self._suitable(stay.needs))
        return f"has {free or 'no'} free GPU{'' if free == 1 else 's'} for it, not {stay.needs.gpus}"

    def _kept(self, stay: Stay) -> str:
        """Nobody comes who would still be there when the node, or the part of it, is kept for another."""
        for keep in self.keeps:
            if _overlap(keep, stay) and self._collide(keep, stay):
                return _kept_for(keep)
        if (stay.needs.gpus or stay.needs.whole_node) and self.gpus(stay) is None:
            return _kept_for(next(keep for keep in self.keeps if _overlap(keep, stay)))
        return ""

    def _collide(self, keep: Keep, stay: Stay) -> bool:
        if keep.exclusive or stay.needs.exclusive:
            return True
        then = max(keep.start, stay.start)
        there = sum(hold.slots for hold in self.holds if hold.end > then)
        kept = sum(each.slots for each in self.keeps if each.start <= then < each.end)
        return self.cpu is not None and there + kept + stay.needs.slots > self.cpu.slots


def common_start(spots: Sequence[Spot], stay: Stay) -> float:
    """From when on as many of the spots as the stay has ranks can have it at once; inf when no end would do."""
    alone: list[float] = []  # the earliest of as many as are needed
    for spot in spots:
        bound = alone[-1] if len(alone) == stay.needs.ranks else inf
        if (start := spot.earliest(stay, bound)) < bound:
            alone = sorted([*alone, start])[: stay.needs.ranks]
    if len(alone) < stay.needs.ranks:
        return inf
    first = alone[stay.needs.ranks - 1]
    if stay.needs.ranks == 1 or first == inf:
        return first
    later = {end for spot in spots for end in spot.ends() if first < end < inf}
    for start in (first, *sorted(later)):
        if len(able(spots, stay.at(start))) >= stay.needs.ranks:
            return start
    return inf


def able(spots: Iterable[Spot], stay: Stay) -> list[Spot]:
    """The spots that can have the stay."""
    return [spot for spot in spots if not spot.refusal(stay)]


def _overlap(keep: Keep, stay: Stay) -> bool:
    return keep.start < stay.end and stay.start < keep.end


def _holds(node: NodeView, soon: float) -> Iterable[Hold]:
    """What holds the node's devices, from what is known of each device."""
    for device in node.devices:
        if device.kind == "gpu":
            if device.exclusive_held:
                yield Hold(max(device.free_at, soon), False, 0, (device.id,))
        elif device.exclusive_held:
            yield Hold(max(device.free_at, soon), True, 0)
        elif device.ends:
            yield from (Hold(max(end, soon), False, slots) for end, slots in device.ends)
        elif device.shared_held:
            yield Hold(max(device.free_at, soon), False, device.shared_held)


def _no_slots(free: int, wanted: int) -> str:
    if wanted == 1:
        return "has no free slot"
    return f"has {max(0, free)} free slots, not {wanted}"


def _kept_for(keep: Keep) -> str:
    return "is kept free for an exclusive job" if keep.exclusive else f"is kept free for job {keep.job_id}"


def _when(window: Window, stay: Stay) -> str:
    begins = window.start - stay.start
    return f" in {begins:.0f} s, and the job's timeout is {stay.end - stay.start:.0f} s" if begins > 0 else ""
