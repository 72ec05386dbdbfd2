"""Webhooks over a real database, a real HTTP receiver and the real guard."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from fleet import db, events, guard, people, secrets_kept, tenants, webhooks
from fleet.errors import AlreadyExists, InvalidSpec, InvalidTransition, NotFound, NotPermitted
from fleet.models import Delivery, Event, Webhook
from fleet.principals import Principal
from fleet.webhook_plan import PAUSES_S, Shape, sign
from fleet.webhook_sending import MOST_DEATHS, OF_ONE_WEBHOOK, SENT_AT_ONCE, Bounds, Sender
from tests.fleet.receiving import PUBLIC, URL, Receiver, receiving

KEYS = [Fernet.generate_key().decode()]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@dataclass
class Post:
    """A control plane that sends, and a clock that is set by hand."""

    sessions: sessionmaker[Session]
    receiver: Receiver
    admin: Principal
    now: float
    sender: Sender

    def add(self, name: str = "chat", kinds: tuple[str, ...] = ("cron.*",), **more: Any) -> tuple[int, str]:
        """A webhook to the receiver; its id and secret."""
        target = guard.check(URL, resolve=lambda _host, _port: [PUBLIC])
        with self.sessions.begin() as session:
            wanted: dict[str, Any] = {"shape": Shape.STANDARD, "principal": self.admin, **more}
            row, secret = webhooks.add(
                session, name=name, target=target, kinds=kinds, keys=KEYS, now=self.now, **wanted
            )
        return row.id, secret

    def happens(self, kind: str = "cron.failed", subject: str = "node:1", **data: Any) -> int:
        """An event; its id."""
        with self.sessions.begin() as session:
            event = events.append(session, kind, subject, {"name": "nightly", **data}, self.now)
            session.flush()
            return event.id

    def later(self, seconds: float) -> int:
        """Set the clock ahead and send; returns how many tries there were."""
        self.now += seconds
        return self.sender.tick(self.now)

    def deliveries(self, webhook_id: int) -> list[Delivery]:
        """The oldest first."""
        with db.reading(self.sessions) as reader:
            return list(reversed(webhooks.deliveries(reader, webhook_id)))

    def row(self, webhook_id: int) -> Webhook:
        with db.reading(self.sessions) as reader:
            return reader.get_one(Webhook, webhook_id)

    def act(self, do: Callable[[Session], Any]) -> Any:
        """Something in a transaction."""
        with self.sessions.begin() as session:
            return do(session)


@pytest.fixture
def post(sessions: sessionmaker[Session], receiver: Receiver, admin: Principal, now: float) -> Post:
    sender = Sender(
        partial(db.reading, sessions),
        partial(db.writing, sessions),
        lambda: KEYS,
        receiver.client,
        lambda: 0.5,
    )
    return Post(sessions, receiver, admin, now, sender)


def test_an_event_is_sent_once_signed_and_as_it_was(post: Post) -> None:
    post.happens()  # before there was a webhook
    webhook_id, secret = post.add()
    event_id = post.happens(error="exit 1")
    post.happens("job.queued")
    assert post.later(1) == 1
    assert post.later(1) == 0
    [request] = post.receiver.received
    assert request.path == "/T0/secret-path"
    headers = request.headers
    assert (headers["host"], headers["content-type"]) == ("hooks.example", "application/json")
    signed = sign(secret, headers["webhook-id"], int(headers["webhook-timestamp"]), request.body)
    assert headers["webhook-signature"] == signed
    document = json.loads(request.body)
    assert (document["type"], document["data"]["event_id"], document["data"]["error"]) == (
        "cron.failed", event_id, "exit 1",
    )  # fmt: skip
    [delivery] = post.deliveries(webhook_id)
    assert (delivery.state, delivery.status, delivery.tries) == ("delivered", 200, 1)


def test_a_failure_is_tried_again_with_the_same_id_later_and_later_until_it_is_dead(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    post.receiver.answers = [500] * (len(PAUSES_S) + 1)
    assert post.later(1) == 1
    for pause in PAUSES_S:
        assert post.later(pause - 1) == 0
        assert post.later(1) == 1
    assert {request.headers["webhook-id"] for request in post.receiver.received} == {
        post.deliveries(webhook_id)[0].message_id
    }
    [delivery] = post.deliveries(webhook_id)
    assert (delivery.state, delivery.tries, delivery.status) == ("dead", 10, 500)
    assert post.later(10**6) == 0  # that it is dead is not told to itself
    with db.reading(post.sessions) as reader:
        told = reader.scalars(select(Event).where(Event.kind == "webhook.dead_lettered")).one()
    assert told.data["delivery"] == delivery.id


def test_what_is_dead_is_delivered_anew_and_is_known_by_its_id(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    post.later(1)
    [first] = post.deliveries(webhook_id)
    anew = partial(webhooks.deliver_anew, webhook_id=webhook_id, delivery_id=first.id, principal=post.admin)
    post.act(lambda session: anew(session, now=post.now))
    post.act(lambda session: anew(session, now=post.now))  # it is under way: no third one
    post.later(1)
    assert [each.turn for each in post.deliveries(webhook_id)] == [1, 2]
    first_request, second = post.receiver.received
    assert first_request.headers["webhook-id"] == second.headers["webhook-id"]
    assert first_request.body == second.body


def test_what_waits_for_its_next_try_is_tried_now_when_asked(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    post.receiver.answers = [500]
    post.later(1)
    [delivery] = post.deliveries(webhook_id)
    post.act(lambda session: webhooks.deliver_anew(session, webhook_id, delivery.id, post.admin, post.now))
    assert post.later(0) == 1
    assert [each.state for each in post.deliveries(webhook_id)] == ["delivered"]


def test_a_receiver_that_asks_for_time_gets_it(post: Post) -> None:
    post.add()
    post.happens()
    post.receiver.answers, post.receiver.headers = [429], {"Retry-After": "100"}
    post.later(1)
    assert post.later(99) == 0
    assert post.later(1) == 1


def test_a_redirect_is_not_followed(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    post.receiver.answers, post.receiver.headers = [302], {"Location": "http://127.0.0.1:1/"}
    post.later(1)
    assert len(post.receiver.received) == 1
    assert post.deliveries(webhook_id)[0].state == "pending"


def test_a_name_that_leads_inwards_by_now_is_sent_nothing(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    rebound = Sender(
        partial(db.reading, post.sessions),
        partial(db.writing, post.sessions),
        lambda: KEYS,
        lambda: post.receiver.client(lambda _host, _port: ["169.254.169.254"]),
    )
    assert rebound.tick(post.now + 1) == 1
    assert post.receiver.received == []
    assert "public internet" in post.deliveries(webhook_id)[0].error


def test_a_receiver_that_is_gone_or_long_dead_is_sent_nothing_more(post: Post) -> None:
    gone, _ = post.add("gone")
    post.happens()
    post.receiver.answers = [410]
    post.later(1)
    assert post.row(gone).disabled_reason == "it answered 410: gone"
    post.happens()
    assert post.later(1) == 0
    with pytest.raises(InvalidTransition):
        post.act(lambda session: webhooks.try_out(session, gone, post.admin, post.now))
    post.act(lambda session: webhooks.enable(session, gone, post.admin, post.now))
    assert post.later(1) == 0  # from now on: not what happened meanwhile
    post.happens()
    assert post.later(1) == 1


@pytest.mark.slow
def test_twenty_deaths_in_a_row_disable_it(post: Post) -> None:
    webhook_id, _ = post.add()
    for _ in range(MOST_DEATHS):
        post.happens()
    post.receiver.answers = [500] * MOST_DEATHS * (len(PAUSES_S) + 1)
    tries = 0
    while tries < MOST_DEATHS * (len(PAUSES_S) + 1):
        tries += post.later(PAUSES_S[-1])
    assert "20 deliveries in a row" in post.row(webhook_id).disabled_reason


def test_a_busy_webhook_does_not_take_all_the_room(post: Post) -> None:
    busy, _ = post.add("busy")
    other, _ = post.add("other", kinds=("node.lost",))
    for _ in range(40):
        post.happens()
    post.happens("node.lost")
    assert post.later(1) == OF_ONE_WEBHOOK + 1
    assert [each.state for each in post.deliveries(other)] == ["delivered"]
    assert {each.state for each in post.deliveries(busy)} == {"delivered", "pending"}


@pytest.mark.slow
def test_passes_follow_each_other_while_they_are_full(post: Post) -> None:
    for number in range(9):
        post.add(f"hook{number}")
    for _ in range(2 * OF_ONE_WEBHOOK):
        post.happens()
    assert post.later(1) == 2 * SENT_AT_ONCE + OF_ONE_WEBHOOK  # two full passes, and one that was not
    assert post.later(1) == OF_ONE_WEBHOOK


def test_events_wait_while_too_much_is_on_its_way(post: Post) -> None:
    post.sender = Sender(
        partial(db.reading, post.sessions),
        partial(db.writing, post.sessions),
        lambda: KEYS,
        post.receiver.client,
        bounds=Bounds(events=2, pending=3),
    )
    webhook_id, _ = post.add()
    for _ in range(9):
        post.happens()
    post.receiver.answers = [500] * 4
    post.later(1)
    assert len(post.deliveries(webhook_id)) < 5
    for _ in range(8):
        post.later(60)
    assert [each.state for each in post.deliveries(webhook_id)] == ["delivered"] * 9


def test_a_tenant_is_told_of_its_own_and_of_machines_only(post: Post) -> None:
    stranger = Principal("user", 9, "eve", "other", "admin")
    post.act(lambda session: session.execute(text("INSERT INTO tenants VALUES ('other', 0)")))
    theirs, _ = post.add("theirs", kinds=("*",), principal=stranger)
    post.happens("cron.failed", "cron:4711")
    post.happens("node.lost", "node:1")
    post.happens("secret.thing", "vault:1")
    post.later(1)
    assert [each.kind for each in post.deliveries(theirs)] == ["node.lost"]
    with db.reading(post.sessions) as reader:
        assert webhooks.page(reader, "default") == []
        with pytest.raises(NotFound):
            webhooks.get(reader, theirs, "default")


def test_the_address_and_the_secret_are_encrypted_and_in_no_list(post: Post) -> None:
    webhook_id, secret = post.add()
    with db.reading(post.sessions) as reader:
        stored = str(reader.execute(text("SELECT * FROM secrets")).all())
        shown = str(reader.execute(text("SELECT * FROM webhooks")).all())
        assert secrets_kept.page(reader, "default") == []
    for hidden in ("secret-path", secret.removeprefix("whsec_")):
        assert hidden not in stored + shown
    post.act(lambda session: webhooks.remove(session, webhook_id, post.admin, post.now))
    with db.reading(post.sessions) as reader:
        assert reader.execute(text("SELECT * FROM secrets")).all() == []


def test_a_removed_webhook_gets_nothing_that_waits(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    post.receiver.answers = [500]
    post.later(1)
    post.act(lambda session: webhooks.remove(session, webhook_id, post.admin, post.now))
    assert post.later(10) == 0
    assert len(post.receiver.received) == 1


def test_a_rotated_secret_signs_and_the_old_one_too_for_a_day(post: Post) -> None:
    webhook_id, old = post.add()
    _, fresh = post.act(lambda session: webhooks.rotate(session, webhook_id, post.admin, KEYS, post.now))
    for seconds, secrets in ((1, [fresh, old]), (86_400, [fresh])):
        post.happens()
        post.later(seconds)
        request = post.receiver.received[-1]
        about = (request.headers["webhook-id"], int(request.headers["webhook-timestamp"]), request.body)
        assert request.headers["webhook-signature"] == " ".join(sign(each, *about) for each in secrets)


def test_slack_gets_a_text_and_no_signature(post: Post) -> None:
    post.add(shape=Shape.SLACK)
    post.happens(run=3, error="exit 1")
    post.later(1)
    [request] = post.receiver.received
    assert json.loads(request.body) == {"text": "cron nightly failed: run 3: exit 1"}
    assert "webhook-signature" not in request.headers


def test_a_sender_that_died_is_replaced(post: Post) -> None:
    webhook_id, _ = post.add()
    post.happens()
    post.receiver.answers = [500]
    post.later(1)
    [delivery] = post.deliveries(webhook_id)
    assert post.sender._claim(delivery.id, post.now + 5) is not None  # and then nothing is heard of it
    assert post.later(100) == 0
    assert post.later(60) == 1
    assert post.deliveries(webhook_id)[0].state == "delivered"


def test_a_removed_persons_webhooks_are_sent_nothing_more(post: Post) -> None:
    with post.sessions.begin() as session:
        tenants.mint(session, name="ann", role="admin", now=post.now)
    theirs, _ = post.add("theirs", principal=Principal("user", 2, "ann", "default", "admin"))
    ours, _ = post.add("ours")
    assert post.act(lambda session: people.remove(session, "ann", post.admin, post.now)).webhooks == 1
    post.happens()
    assert post.later(1) == 1
    assert (post.deliveries(theirs), len(post.deliveries(ours))) == ([], 1)
    assert post.row(theirs).disabled_reason == "its person was removed"


def test_what_cannot_be_is_refused(post: Post) -> None:
    for kinds in (("Cron.failed",), ("cron failed",), ("a.b.c",), ("",)):
        with pytest.raises(InvalidSpec) as caught:
            post.add(kinds=kinds)
        assert caught.value.field == "kinds[0]"
    user = Principal("user", 3, "ann", "default", "user")
    with pytest.raises(NotPermitted):
        post.add(principal=user)
    post.add()
    with pytest.raises(AlreadyExists):
        post.add()
