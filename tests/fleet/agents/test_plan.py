"""Which attempts to start, stop and forget."""

from __future__ import annotations

from typing import Any

from fleet.agents.plan import Local, Plan, plan
from fleet.agents.protocol import AttemptSpec, Desired, NoopSpec


def wanted(attempt_id: int, fence: int = 1, *, exclusive: bool = False, device: str = "cpu") -> AttemptSpec:
    return AttemptSpec(
        attempt_id=attempt_id,
        job_id=attempt_id,
        fence=fence,
        spec=NoopSpec(),
        device=device,
        exclusive=exclusive,
        timeout_s=60,
    )


def desired(*attempts: AttemptSpec, settled: tuple[int, ...] = ()) -> Desired:
    return Desired(generation=1, attempts=list(attempts), settled=list(settled))


def here(attempt_id: int, phase: Any, fence: int = 1, **fields: Any) -> Local:
    return Local(attempt_id, fence, phase, **({"device": "cpu"} | fields))


def test_what_is_desired_and_not_here_starts() -> None:
    spec = wanted(1)
    assert plan(desired(spec), []) == Plan(start=(spec,))


def test_what_is_here_and_desired_is_left_alone() -> None:
    for phase in ("starting", "running", "exited"):
        assert plan(desired(wanted(1)), [here(1, phase)]) == Plan()


def test_a_start_that_nobody_has_claimed_is_tried_again() -> None:
    spec = wanted(1)
    assert plan(desired(spec), [here(1, "new")]) == Plan(start=(spec,))


def test_what_is_no_longer_desired_stops_once() -> None:
    running = here(1, "running")
    assert plan(desired(), [running]) == Plan(stop=(running,))
    assert plan(desired(), [here(1, "running", stopping=True)]) == Plan()


def test_an_older_fence_is_another_attempt() -> None:
    old, new = here(1, "running", fence=1), wanted(1, fence=2)
    assert plan(desired(new), [old]) == Plan(start=(new,), stop=(old,))


def test_an_exited_attempt_is_forgotten_only_when_it_is_recorded() -> None:
    ended = here(1, "exited")
    assert plan(desired(), [ended]) == Plan()
    assert plan(desired(settled=(1,)), [ended]) == Plan(forget=(ended,))


def test_what_is_recorded_as_ended_is_never_started_again() -> None:
    assert plan(desired(wanted(1), settled=(1,)), []) == Plan()
    assert plan(desired(wanted(1), settled=(1,)), [here(1, "exited")]) == Plan()


def test_a_measurement_waits_for_what_is_being_stopped_on_its_device() -> None:
    leaving = here(1, "running", stopping=True)
    assert plan(desired(wanted(2, exclusive=True)), [leaving]).start == ()
    assert plan(desired(wanted(2, exclusive=True, device="gpu0")), [leaving]).start != ()
    assert plan(desired(wanted(2)), [leaving]).start != ()


def test_nothing_starts_beside_a_measurement_that_is_being_stopped() -> None:
    leaving = here(1, "running", exclusive=True, stopping=True)
    assert plan(desired(wanted(2)), [leaving]).start == ()
    assert plan(desired(wanted(2)), [here(1, "exited", exclusive=True)]).start != ()
