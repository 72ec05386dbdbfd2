"""The rules of logins: who asks, who decides, what nodes are told, and how each login ends."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session, sessionmaker

from fleet import access, access_keys, access_nodes, db, people, sync, tenants, trust
from fleet.access import Wish
from fleet.agents.access_spec import AccessReport
from fleet.agents.protocol import Observed
from fleet.agents.public_keys import parse
from fleet.errors import AlreadyExists, FleetError, InvalidSpec, InvalidTransition, NotFound, NotPermitted
from fleet.models import Audit, Event, Grant, Node
from fleet.principals import Principal
from fleet.revocations import revocation_list
from tests.parts import need
from tests.sshkeys import public_key

HOST_KEY = public_key(900).line
WISH = Wish(86_400.0, "to measure", node_id=1)


class World:
    """A database with a node and people; what is asked is written at once."""

    def __init__(self, sessions: sessionmaker[Session], admin: Principal, now: float) -> None:
        self.sessions, self.admin, self.now = sessions, admin, now
        self.sequence = 1

    def person(
        self, name: str, role: str = "user", tenant: str = "default", by: Principal | None = None
    ) -> Principal:
        with self.sessions.begin() as session:
            token, _ = tenants.mint(session, name=name, role=role, now=self.now, tenant=tenant, by=by)
            return tenants.principal_of(token)

    def key(self, who: Principal, number: int = 1) -> int:
        with self.sessions.begin() as session:
            return access_keys.add(session, public_key(number), "", who, self.now).id

    def request(self, who: Principal, wish: Wish = WISH) -> int:
        with self.sessions.begin() as session:
            return access.request(session, wish, who, self.now).id

    def approved(self, who: Principal, wish: Wish = WISH) -> int:
        grant_id = self.request(who, wish)
        with self.sessions.begin() as session:
            access.approve(session, grant_id, self.admin, self.now)
        return grant_id

    def revoke(self, grant_id: int, who: Principal | None = None) -> None:
        with self.sessions.begin() as session:
            access.revoke(session, grant_id, "it is over", who or self.admin, self.now)

    def says(self, *grants: int, generation: int | None = None, problem: str = "", node_id: int = 1) -> None:
        """The node reports which logins are in force."""
        self.sequence += 1
        with self.sessions.begin() as session:
            known = sync.generation(session, node_id) if generation is None else generation
            report = AccessReport(
                generation=known,
                grants=list(grants),
                address="10.0.0.7",
                host_keys=[HOST_KEY],
                problem=problem,
            )
            observed = Observed(boot_id="boot-1", sequence=self.sequence, generation=known, access=report)
            sync.record(session, node_id, observed, self.now)

    def told(self, node_id: int = 1) -> list[int]:
        """Whom the node is to let in."""
        with db.reading(self.sessions) as session:
            wanted = sync.desired(session, node_id, self.now).access
            assert wanted is not None
            return [grant.grant_id for grant in wanted.grants]

    def state(self, grant_id: int) -> str:
        with db.reading(self.sessions) as session:
            return session.get_one(Grant, grant_id).state

    def tick(self) -> None:
        with self.sessions.begin() as session:
            for grant_id in access.overdue(session, self.now):
                access.conclude(session, grant_id, self.now)


@pytest.fixture
def world(sessions: sessionmaker[Session], admin: Principal, node: Node, now: float) -> World:
    """A node that looks after logins."""
    made = World(sessions, admin, now)
    made.says()
    return made


def test_a_node_that_says_nothing_of_logins_is_told_of_none(
    sessions: sessionmaker[Session], node: Node, now: float
) -> None:
    with db.reading(sessions) as session:
        assert sync.desired(session, node.id, now).access is None


def test_a_login_is_asked_for_approved_applied_revoked_and_gone(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.request(alice)
    assert (world.state(grant_id), world.told()) == ("requested", [])
    with world.sessions.begin() as session:
        access.approve(session, grant_id, world.admin, world.now)
    assert (world.state(grant_id), world.told()) == ("active", [grant_id])
    world.says(grant_id)
    world.revoke(grant_id)
    assert (world.state(grant_id), world.told()) == ("revoking", [])
    world.says(grant_id, generation=1)  # it has not heard of it yet
    assert world.state(grant_id) == "revoking"
    world.now += 0.2
    world.says()
    assert world.state(grant_id) == "revoked"
    with db.reading(world.sessions) as session:
        kinds = [row.kind for row in session.query(Event).filter(Event.subject == f"grant:{grant_id}")]
        (gone,) = session.query(Event).filter(Event.kind == "grant.gone")
        assert trust.standing(session, 1).trust == "shared"
    assert kinds == [
        "grant.requested",
        "grant.active",
        "grant.applied",
        "grant.revoking",
        "grant.gone",
        "grant.revoked",
    ]
    assert gone.data == {"node": "tiny1", "after_s": pytest.approx(0.2, abs=0.01)}


def test_what_a_node_is_told_has_the_key_the_account_and_the_end(world: World) -> None:
    alice = world.person("Alice.Müller".replace("ü", "u"))
    world.key(alice)
    world.approved(alice)
    with db.reading(world.sessions) as session:
        (grant,) = access_nodes.desired(session, 1, world.now).grants
    assert grant.account == "tf-alice-muller"
    assert grant.key == public_key(1).line
    assert grant.until == pytest.approx(world.now + 86_400.0)


def test_two_people_of_like_names_have_accounts_of_their_own(world: World) -> None:
    names = []
    for number, (name, tenant) in enumerate([("bob", "default"), ("Bob", "default"), ("bob", "other")], 1):
        who = world.person(name, tenant=tenant)
        world.key(who, number)
        world.request(who)
        with world.sessions.begin() as session:
            found = access.account(session, tenant, name, world.now)
            names.append((found.account, found.uid))
    assert names == [("tf-bob", 72_000), ("tf-bob-2", 72_001), ("tf-bob-3", 72_002)]


def test_a_login_expires_by_itself_and_its_node_is_told_to_forget_it(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.approved(alice)
    world.tick()
    assert world.state(grant_id) == "active"
    world.now += 86_401.0
    world.tick()
    assert (world.state(grant_id), world.told()) == ("expired", [])


def test_a_silent_node_holds_a_revocation_up_until_the_end_that_it_keeps_itself(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.approved(alice)
    world.says(grant_id)
    world.revoke(grant_id)
    world.tick()
    assert world.state(grant_id) == "revoking"
    world.now += 86_401.0
    world.tick()
    assert world.state(grant_id) == "expired"


def test_a_node_that_was_retired_holds_nothing_up(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.approved(alice)
    world.revoke(grant_id)
    with world.sessions.begin() as session:
        session.get_one(Node, 1).state = "retired"
    world.tick()
    assert world.state(grant_id) == "revoked"


def test_a_request_that_nobody_decides_lapses(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.request(alice)
    world.now += access.DECIDE_WITHIN_S + 1
    world.tick()
    assert world.state(grant_id) == "expired"


def test_a_node_that_joins_the_pool_later_is_told_too(world: World, enroll: Callable[..., int]) -> None:
    alice = world.person("alice")
    world.key(alice)
    with world.sessions.begin() as session:
        trust.standing(session, 1).pool = "red"
    grant_id = world.approved(alice, Wish(3600.0, "to measure", pool="red"))
    late = enroll("tiny2")
    with world.sessions.begin() as session:
        trust.standing(session, late).pool = "red"
    world.says(node_id=late)
    assert world.told(late) == [grant_id]


def test_only_who_decides_decides_and_others_see_their_own_only(world: World) -> None:
    alice, mallory = world.person("alice"), world.person("mallory", role="operator")
    foreign = world.person("eve", role="admin", tenant="other")
    world.key(alice)
    grant_id = world.request(alice)
    with world.sessions() as session:
        for who in (alice, mallory, foreign):
            with pytest.raises(NotPermitted):
                access.approve(session, grant_id, who, world.now)
        for who in (mallory, foreign):
            with pytest.raises(NotFound):
                access.revoke(session, grant_id, "mine", who, world.now)
            assert access.page(session, who, None, 50) == []
        assert [row.id for row in access.page(session, world.admin, None, 50)] == [grant_id]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish(3600.0, "why", pool="red", node_id=1), "pool"),
        (Wish(3600.0, "why"), "pool"),
        (Wish(3600.0, "why", pool="red"), "pool"),
        (Wish(3600.0, "why", node_id=99), "node"),
        (Wish(3600.0, "  ", node_id=1), "reason"),
        (Wish(9.0, "why", node_id=1), "duration_s"),
        (Wish(91 * 86_400.0, "why", node_id=1), "duration_s"),
        (Wish(3600.0, "why", node_id=1, key_id=77), "key"),
    ],
)
def test_a_wish_that_cannot_be_names_its_field(world: World, wish: Wish, field: str) -> None:
    alice = world.person("alice")
    world.key(alice)
    with pytest.raises(InvalidSpec) as caught:
        world.request(alice, wish)
    assert caught.value.field == field


def test_without_a_key_and_with_several_it_is_said_what_to_do(world: World) -> None:
    alice = world.person("alice")
    with pytest.raises(InvalidSpec, match="tinyfleet keys add"):
        world.request(alice)
    world.key(alice, 1)
    second = world.key(alice, 2)
    with pytest.raises(InvalidSpec, match="you have 2 keys: say which"):
        world.request(alice)
    assert world.request(alice, Wish(3600.0, "why", node_id=1, key_id=second))


def test_the_same_is_not_asked_for_twice_at_a_time_but_may_be_again(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.request(alice)
    with pytest.raises(AlreadyExists, match=f"grant {grant_id}"):
        world.request(alice)
    world.revoke(grant_id, alice)
    assert world.state(grant_id) == "denied"  # taken back
    world.request(alice)


def test_a_service_has_no_logins(world: World) -> None:
    with world.sessions.begin() as session:
        token, _ = tenants.mint(session, name="ci", role="user", kind="service", now=world.now)
        with pytest.raises(NotPermitted, match="no person"):
            access_keys.add(session, public_key(1), "", tenants.principal_of(token), world.now)


def test_what_has_ended_cannot_be_approved(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.request(alice)
    with world.sessions.begin() as session:
        access.deny(session, grant_id, "no room", world.admin, world.now)
    with pytest.raises(InvalidTransition), world.sessions() as session:
        access.approve(session, grant_id, world.admin, world.now)


def test_a_key_belongs_to_one_person(world: World) -> None:
    alice, mallory = world.person("alice"), world.person("mallory")
    world.key(alice)
    with pytest.raises(AlreadyExists, match="yours already"):
        world.key(alice)
    with pytest.raises(AlreadyExists, match="use a key of your own"):
        world.key(mallory)


def test_a_key_that_is_removed_takes_its_logins_along_and_is_on_the_revocation_list(world: World) -> None:
    alice = world.person("alice")
    key_id = world.key(alice)
    grant_id = world.approved(alice)
    with world.sessions.begin() as session:
        access_keys.remove(session, key_id, alice, world.now)
    assert (world.state(grant_id), world.told()) == ("revoking", [])
    with db.reading(world.sessions) as session:
        listed = access_nodes.desired(session, 1, world.now).revoked
    assert base64.b64decode(listed) == revocation_list(None, [], [public_key(1).line])


def test_removing_a_person_ends_keys_requests_and_logins(world: World) -> None:
    alice, bob = world.person("alice", role="admin"), world.person("bob")
    world.key(alice, 1)
    world.key(bob, 2)
    held, asked, other = (
        world.approved(alice),
        world.request(alice, Wish(60.0, "more", node_id=1)),
        world.approved(bob),
    )
    with world.sessions.begin() as session:
        gone = people.remove(session, "alice", world.admin, world.now)
    assert (gone.keys, gone.grants) == (1, 2)
    assert [world.state(each) for each in (held, asked, other)] == ["revoking", "denied", "active"]
    assert world.told() == [other]


def test_a_key_that_was_added_with_a_token_of_theirs_goes_too(world: World) -> None:
    """Who minted a token knows its secret, and may have added a key in another's name."""
    alice = world.person("alice", role="admin")
    bob = world.person("bob", by=alice)
    world.key(bob)
    grant_id = world.approved(bob)
    with world.sessions.begin() as session:
        people.remove(session, "alice", world.admin, world.now)
    assert world.state(grant_id) == "revoking"


def test_each_change_leaves_one_row_of_audit(world: World) -> None:
    alice = world.person("alice")
    key_id = world.key(alice)
    grant_id = world.approved(alice)
    world.revoke(grant_id)
    world.revoke(grant_id)  # nothing changes
    with world.sessions.begin() as session:
        access_keys.remove(session, key_id, alice, world.now)
        rows = session.query(Audit).order_by(Audit.id)
        actions = [row.action for row in rows if row.action.startswith(("key", "grant"))]
    assert actions == ["key.add", "grant.request", "grant.approve", "grant.revoke", "key.remove"]


def test_a_problem_of_a_node_is_an_event_and_told_to_who_asks(world: World) -> None:
    world.says(problem="the configuration is broken without us")
    world.says(problem="the configuration is broken without us")
    with db.reading(world.sessions) as session:
        assert session.query(Event).filter(Event.kind == "node.logins_failed").count() == 1
        (host,) = access_nodes.hosts(session, world.admin, None, 10)
    assert host.problem == "the configuration is broken without us"


def test_a_node_is_known_by_the_keys_that_it_reported(world: World) -> None:
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.approved(alice)
    with db.reading(world.sessions) as session:
        assert access_nodes.hosts(session, alice, None, 10)[0].user is None
    world.says(grant_id)
    with db.reading(world.sessions) as session:
        (host,) = access_nodes.hosts(session, alice, None, 10)
    assert (host.user, host.address, host.port) == ("tf-alice", "10.0.0.7", 22)
    assert host.known_hosts == [f"tinyfleet-tiny1 {HOST_KEY}"]


def test_ssh_keygen_reads_our_revocation_lists(tmp_path: Path) -> None:
    need("ssh-keygen", install="openssh-client")
    listed = tmp_path / "krl"
    listed.write_bytes(revocation_list(public_key(1).line, [7, 9], [public_key(2).line]))
    for number, revoked in ((2, True), (3, False)):
        key = tmp_path / "key.pub"
        key.write_text(public_key(number).line + "\n")
        asked = subprocess.run(
            ["ssh-keygen", "-Q", "-f", str(listed), str(key)], capture_output=True, text=True
        )
        assert (asked.returncode != 0, "REVOKED" in asked.stdout) == (revoked, revoked)
    shown = subprocess.run(["ssh-keygen", "-Q", "-l", "-f", str(listed)], capture_output=True, text=True)
    assert "serial: 7" in shown.stdout
    assert "serial: 9" in shown.stdout


def test_a_key_is_parsed_as_it_was_made() -> None:
    assert parse(public_key(5).line) == public_key(5)
    assert issubclass(InvalidSpec, FleetError)


def test_a_node_that_never_spoke_of_logins_holds_no_revocation_up(
    world: World, enroll: Callable[..., int]
) -> None:
    mute = enroll("mute")
    alice = world.person("alice")
    world.key(alice)
    grant_id = world.approved(alice, Wish(3600.0, "why", node_id=mute))
    world.revoke(grant_id)
    assert world.state(grant_id) == "revoked"
