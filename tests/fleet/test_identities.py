"""The rules of node identities: windows, nonces, racers."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session, sessionmaker

from fleet import identities, nodes, tenants, trust
from fleet.agents.keys import Key
from fleet.agents.signature import WINDOW_S, Signature, parse
from fleet.errors import InvalidSpec, NotPermitted
from fleet.models import Node, Nonce
from fleet.principals import Principal
from tests.signing import joining

TARGET = "/v1/blobs/x"


@pytest.fixture
def key() -> Key:
    """A node's key."""
    return Key.made()


@pytest.fixture
def member(sessions: sessionmaker[Session], admin: Principal, key: Key, now: float) -> int:
    """The id of a node with that key."""
    with sessions.begin() as session:
        secret = tenants.mint_join(session, now=now, by=admin)
        return nodes.enroll(session, secret, joining(secret, "tiny1", key), now).node_id


def signed(key: Key, at: float) -> Signature:
    """One request, signed then."""
    return parse(key.request("PUT", TARGET, b"", at))


def accept(session: Session, said: Signature, now: float) -> bool:
    """What the server does with a mutation."""
    try:
        identities.verify(session, said, "PUT", TARGET, now)
        identities.spend(session, said, now)
    except NotPermitted:
        return False
    return True


def test_a_request_is_never_accepted_a_second_time_at_any_second_of_its_window(
    session: Session, key: Key, member: int, now: float
) -> None:
    for signed_s in (1 - int(WINDOW_S), 0, int(WINDOW_S) - 1):  # a clock that is behind, right, ahead
        said = signed(key, now + signed_s)
        assert accept(session, said, now)
        again = [accept(session, said, now + second) for second in range(4 * int(WINDOW_S))]
        assert not any(again), again.index(True)


def test_nonces_are_forgotten_when_they_protect_nothing_any_more(
    session: Session, key: Key, member: int, now: float
) -> None:
    for _ in range(5):
        assert accept(session, signed(key, now), now)
    later = now + identities.NONCE_KEPT_S + 1
    assert accept(session, signed(key, later), later)
    assert session.scalar(select(func.count()).select_from(Nonce)) == 1


def test_of_sixteen_who_send_one_request_at_once_exactly_one_is_accepted(
    sessions: sessionmaker[Session], key: Key, member: int, now: float
) -> None:
    said, start, accepted = signed(key, now), threading.Barrier(16), list[bool]()

    def send() -> None:
        start.wait()
        with sessions.begin() as session:
            accepted.append(accept(session, said, now))

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(accepted) == [False] * 15 + [True]


def test_a_join_token_binds_its_node_to_a_pool(
    session: Session, admin: Principal, key: Key, now: float
) -> None:
    secret = tenants.mint_join(session, now=now, by=admin, pool="red")
    answer = nodes.enroll(session, secret, joining(secret, "tiny1", key), now)
    assert answer.pool == trust.standing(session, answer.node_id).pool == "red"


def test_a_join_token_is_not_spent_by_whom_does_not_hold_the_key(
    sessions: sessionmaker[Session], admin: Principal, key: Key, now: float
) -> None:
    with sessions.begin() as session:
        secret = tenants.mint_join(session, now=now, by=admin)
    mine = joining(secret, "tiny1", key)
    for forged in (
        mine.model_copy(update={"name": "tiny2"}),
        mine.model_copy(update={"public_key": Key.made().public}),
        mine.model_copy(update={"proof": key.sign(b"")}),
    ):
        with sessions.begin() as session, pytest.raises(InvalidSpec, match="proof"):
            nodes.enroll(session, secret, forged, now)
    with sessions.begin() as session:
        assert nodes.enroll(session, secret, mine, now).name == "tiny1"


def test_a_key_joins_once(session: Session, admin: Principal, key: Key, member: int, now: float) -> None:
    secret = tenants.mint_join(session, now=now, by=admin)
    with pytest.raises(InvalidSpec, match="joined before"):
        nodes.enroll(session, secret, joining(secret, "tiny2", key), now)


def test_an_old_key_is_called_back(session: Session, key: Key, member: int, now: float) -> None:
    assert not identities.due(session, member, now + identities.KEY_AGE_S - 1)
    assert identities.due(session, member, now + identities.KEY_AGE_S + 1)


def test_a_report_of_an_earlier_boot_is_a_clone_only_when_it_was_signed_after_the_present_one_began(
    session: Session, enroll: Callable[..., int], now: float
) -> None:
    session.commit()
    node = session.get_one(Node, enroll("tiny9"))
    node.past_boots, node.boot_id = ["boot-0"], "boot-1"
    trust.standing(session, node.id).boot_signed_at = now
    assert not identities.contest(session, node, "boot-1", now + 5, now + 5)
    assert not identities.contest(session, node, "boot-0", now - 0.001, now + 5)
    assert identities.contest(session, node, "boot-0", now + 0.001, now + 5)
    with pytest.raises(NotPermitted, match="readmit"):
        identities._check_standing(
            node.name, trust.standing(session, node.id).contested_at, now + 6, signed_from=0.0
        )


def test_a_node_whose_answer_got_lost_asks_again_and_is_told_the_same(
    sessions: sessionmaker[Session], admin: Principal, key: Key, now: float
) -> None:
    with sessions.begin() as session:
        secret = tenants.mint_join(session, now=now, by=admin, pool="red")
    asked = joining(secret, "tiny1", key)
    answers = []
    for _ in range(3):
        with sessions.begin() as session:
            answers.append(nodes.enroll(session, secret, asked, now))
    assert answers == [answers[0]] * 3
    with sessions.begin() as session, pytest.raises(NotPermitted, match="used already"):
        nodes.enroll(session, secret, joining(secret, "tiny1", Key.made()), now)
