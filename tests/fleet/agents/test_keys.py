"""The node's key on disk, and how an agent signs with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.agents.client import ControlPlane
from fleet.agents.journal import Journal, Unusable
from fleet.agents.keys import KEY, NEXT, BadKey, Key, Signer
from fleet.agents.protocol import Observed
from tests.fleet.agents.far_end import FarEnd


def test_a_key_is_made_once_kept_privately_and_read_again(tmp_path: Path) -> None:
    first = Signer(tmp_path).key
    assert (tmp_path / KEY).stat().st_mode & 0o777 == 0o600
    assert Signer(tmp_path).key.id == first.id


def test_a_key_that_others_can_read_or_that_is_none_is_refused_with_the_fix(tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    assert signer.key
    (tmp_path / KEY).chmod(0o644)
    with pytest.raises(BadKey, match="chmod 600"):
        Signer(tmp_path).key  # noqa: B018 - reading it is the act
    (tmp_path / KEY).write_text("no key")
    (tmp_path / KEY).chmod(0o600)
    with pytest.raises(BadKey, match="join anew"):
        Signer(tmp_path).key  # noqa: B018


def test_a_key_that_was_changed_beside_a_running_agent_is_used(tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    before, after = signer.key, Key.made()
    after.save(tmp_path / KEY)
    assert signer.key.id == after.id != before.id


def test_a_state_folder_of_an_earlier_version_says_what_to_do(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "identity.json").write_text('{"node_id": 7, "name": "t", "server": "s", "token": "tfn_old"}')
    with pytest.raises(Unusable, match="retire the node at the server") as caught:
        journal.identity()
    assert "tfn_old" not in str(caught.value)
    journal.close()


@pytest.mark.parametrize("ahead_s", [-7200.0, -70.0, 70.0, 7200.0])
def test_an_agent_keeps_the_offset_of_its_servers_clock(
    far_end: FarEnd, tmp_path: Path, ahead_s: float
) -> None:
    far_end.ahead_s = ahead_s
    signer = Signer(tmp_path)
    with ControlPlane(far_end.url, far_end.knows(signer)) as control:
        for sequence in (1, 2, 3):
            control.sync(Observed(boot_id="1", sequence=sequence))
    assert abs(signer.now() - far_end.time()) < 30
    assert len(far_end.observed) == 3


def test_a_rotation_replaces_the_key(far_end: FarEnd, tmp_path: Path) -> None:
    signer = Signer(tmp_path)
    with ControlPlane(far_end.url, far_end.knows(signer)) as control:
        before = signer.key.id
        assert control.rotate_key(7) == signer.key.id != before
        assert not control.rotation_pending()
        control.sync(Observed(boot_id="1", sequence=1))


def test_a_rotation_whose_answer_was_lost_loses_no_key(far_end: FarEnd, tmp_path: Path) -> None:
    signer = far_end.knows(Signer(tmp_path))
    following = signer.prepare()
    far_end.keys = {following.id: following.public}  # accepted, and the old one ended
    with ControlPlane(far_end.url, signer) as control:
        assert control.rotation_pending()
        control.sync(Observed(boot_id="1", sequence=1))
    assert signer.key.id == following.id
    assert not (tmp_path / NEXT).exists()
