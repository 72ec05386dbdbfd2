"""What becomes of a login when an account, a process or sshd stands in the way: it is told as it is, and tried again."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.agents.root_access import AccessRoot
from fleet.agents.root_accounts import Accounts
from fleet.agents.root_logins import FIRST_UID, Logins
from fleet.agents.walls.slots import processes_of
from tests import sshd
from tests.sshd import Box

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def box() -> Iterator[Box]:
    """A machine with a real sshd."""
    with sshd.opened() as made:
        yield made


@pytest.fixture
def root(box: Box) -> AccessRoot:
    """The part of the agent that renders."""
    return AccessRoot(box.where)


@contextlib.contextmanager
def accounts_locked() -> Iterator[None]:
    """Somebody edits the machine's accounts, as `vipw` does: other tools wait for some seconds, and give up."""
    with Path("/etc/.pwd.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.timeout(240)
def test_sessions_end_although_the_account_cannot_be_locked_and_it_is_not_called_gone(
    box: Box, root: AccessRoot
) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    with box.session(grant.account, alice) as session:
        with accounts_locked():
            report = root.apply(Logins())
        assert processes_of(grant.uid) == []
        assert session.wait(60) == 255
    assert "usermod tf-alice" in report.problem
    assert report.grants == [1]
    assert Accounts(box.where.places).is_open(grant.account)
    assert not box.logs_in(grant.account, alice)
    anew = AccessRoot(box.where)  # what is not done is known after a restart too
    assert anew.apply(Logins()).grants == []
    assert not Accounts(box.where.places).is_open(grant.account)
    looks = iter(range(20))
    while root.look().problem:
        assert next(looks) < 19, "it is tried again"
    assert root.look().grants == []


class Undying(Accounts):
    """Processes that hang in a driver cannot be killed; this one's cannot until `mended`."""

    mended = False

    def _strike(self, name: str, uid: int) -> int:
        return super()._strike(name, uid) if self.mended else 1


def test_a_login_whose_process_cannot_be_killed_is_not_gone_and_holds_nobody_else_up(
    box: Box, root: AccessRoot
) -> None:
    alice, second, bob = box.key("alice"), box.key("second"), box.key("bob")
    first, kept = box.grant("alice", alice, 1), replace(box.grant("alice", second, 2), uid=FIRST_UID + 20_001)
    other = box.grant("bob", bob, 3)
    root._accounts = undying = Undying(box.where.places)
    undying.mended = True
    root.apply(Logins(grants=(first, kept)))
    undying.mended = False
    report = root.apply(Logins(grants=(kept, other)))
    assert report.grants == [1, 2, 3]
    assert "processes of tf-alice do not end" in report.problem
    assert box.logs_in(other.account, bob)
    assert not box.logs_in(first.account, alice)
    undying.mended = True
    looks = iter(range(20))
    while root.look().grants != [2, 3]:
        assert next(looks) < 19, "it is tried again"
    assert box.logs_in(kept.account, second)


def test_a_login_opens_once_what_stood_in_its_way_was_mended(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    text = box.config.read_text()
    box.config.write_text(text + "NoSuchOption yes\n")
    assert root.apply(Logins(grants=(grant,))).grants == []
    box.config.write_text(text)
    looks = iter(range(20))
    while root.look().grants != [1]:
        assert next(looks) < 19, "it is tried again"
    assert box.logs_in(grant.account, alice)
