"""What the agent makes of the control plane's answers."""

from __future__ import annotations

import pytest

from fleet.agents.client import ControlPlane, ControlPlaneError, Refused, Rejected, Unreachable, backoff
from fleet.agents.logs import Piece
from fleet.agents.protocol import Observed, blob_address
from tests.fleet.agents.far_end import FarEnd
from tests.signing import Pen


def observed() -> Observed:
    return Observed(boot_id="1", sequence=1)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Refused),
        (403, Refused),
        (404, Rejected),
        (422, Rejected),
        (429, Unreachable),
        (503, Unreachable),
    ],
)
def test_an_answer_is_somebodys_problem(far_end: FarEnd, status: int, kind: type[ControlPlaneError]) -> None:
    far_end.answer_with = status
    with (
        ControlPlane(far_end.url, far_end.knows(Pen())) as control,
        pytest.raises(kind, match=f"{status} NotAnswered"),
    ):
        control.sync(observed())


def test_no_answer_is_unreachable(far_end: FarEnd) -> None:
    far_end.go_silent()
    with (
        ControlPlane(far_end.url, far_end.knows(Pen())) as control,
        pytest.raises(Unreachable, match="does not answer"),
    ):
        control.sync(observed())


def test_a_stale_number_is_rejected_as_a_conflict(far_end: FarEnd) -> None:
    with ControlPlane(far_end.url, far_end.knows(Pen())) as control:
        control.sync(observed())
        with pytest.raises(Rejected) as caught:
            control.sync(observed())
    assert caught.value.status == 409


def test_blobs_are_stored_once_and_checked_when_fetched(far_end: FarEnd) -> None:
    with ControlPlane(far_end.url, far_end.knows(Pen())) as control:
        address = control.put_blob(b"content")
        assert address == control.put_blob(b"content") == blob_address(b"content")
        assert control.get_blob(address) == b"content"
        far_end.blobs[address] = b"something else"
        with pytest.raises(Unreachable, match="what arrived is not it"):
            control.get_blob(address)


def test_log_chunks_continue_where_the_server_is(far_end: FarEnd) -> None:
    with ControlPlane(far_end.url, far_end.knows(Pen())) as control:
        assert control.upload_log(1, 1, 0, Piece(b"abc", (("stdout", 3),))) == 3
        assert (
            control.upload_log(1, 1, 0, Piece(b"abcdef", (("stdout", 3), ("stderr", 3)))) == 3
        )  # sent again: the server says where it is
        assert control.upload_log(1, 1, 3, Piece(b"def", (("stderr", 3),))) == 6
    assert bytes(far_end.logs[1, 1]) == b"abcdef"


def test_pauses_grow_to_a_limit_and_are_spread() -> None:
    pauses = [backoff(failures, 1.0) for failures in range(1, 12)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10.0
    assert backoff(3, 0.0) == backoff(3, 1.0) / 2
    assert backoff(10_000, 0.5) < 10.0
