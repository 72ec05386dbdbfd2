"""Signatures, bodies, and what follows an answer, with plain values."""

from __future__ import annotations

import json

import pytest

from fleet.errors import InvalidSpec
from fleet.webhook_plan import (
    PAUSES_S,
    Answer,
    DeliveryState,
    Shape,
    Told,
    after,
    body,
    headers,
    new_secret,
    sentence,
    sign,
    wants,
)

# The example of the Standard Webhooks documentation.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SIGNED = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_signature_is_that_of_the_specification() -> None:
    found = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found == SIGNED


def test_while_a_secret_is_rotated_there_is_a_signature_with_each() -> None:
    other = new_secret(bytes(32))
    found = headers([other, SECRET], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert found["webhook-signature"].split(" ")[1] == SIGNED
    assert (found["webhook-id"], found["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


def test_what_is_no_secret_is_refused() -> None:
    with pytest.raises(InvalidSpec):
        sign("whsec_not base64!", "msg_1", 1, b"")


FAILED = Told(
    7, "2026-11-26T02:30:00.000Z", "cron.failed", "cron:3",
    {"name": "nightly", "run": 12, "job_id": 34, "error": "exit 1: <!channel> & more", "in_a_row": 2},
)  # fmt: skip


def test_a_standard_body_has_a_type_a_time_and_the_data() -> None:
    document = json.loads(body(Shape.STANDARD, FAILED))
    assert (document["type"], document["timestamp"]) == (FAILED.kind, FAILED.at)
    assert document["data"] == {"event_id": 7, "subject": "cron:3", **FAILED.data}


def test_slack_and_discord_get_a_sentence_that_rings_nobody() -> None:
    said = "cron nightly failed: run 12, 2 times in a row: exit 1: <!channel> & more"
    assert sentence(FAILED) == said
    slack = json.loads(body(Shape.SLACK, FAILED))
    assert slack == {"text": said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    discord = json.loads(body(Shape.DISCORD, FAILED))
    assert discord == {"content": said, "allowed_mentions": {"parse": []}}


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        (
            "cron.regressed",
            {"name": "train", "series": "loss", "value": 2.0, "baseline": 1.01, "limit": 1.0605, "run": 4},
            "cron train regressed: loss is 2, and was 1.01 (limit 1.06), run 4",
        ),
        (
            "cron.stalled",
            {"name": "train", "since": 1.0, "why": "job 3 is queued: no node"},
            "cron train stalled: nothing has begun for a whole period: job 3 is queued: no node",
        ),
        ("node.lost", {"before": "late"}, "node:9 lost: before late"),
        ("webhook.test", {"name": "chat"}, "webhook chat test"),
    ],
)
def test_an_event_is_told_as_people_read_it(kind: str, data: dict[str, object], said: str) -> None:
    assert sentence(Told(1, "now", kind, "node:9", data)) == said


def test_a_long_error_is_cut_and_control_characters_are_taken_out() -> None:
    told = Told(1, "now", "cron.failed", "cron:1", {"name": "x", "run": 1, "error": "\x1b[31m" + "e" * 9999})
    assert len(sentence(told)) == 1900
    assert "\x1b" not in sentence(told)


def test_kinds_are_names_and_patterns() -> None:
    assert wants(["cron.*"], "cron.failed")
    assert wants(["node.lost", "cron.failed"], "cron.failed")
    assert not wants(["cron.*"], "crony.failed")
    assert not wants([], "cron.failed")


def test_an_answer_of_success_ends_it_and_another_is_tried_again_later_and_later() -> None:
    assert after(1, Answer(204), 0.5).state is DeliveryState.DELIVERED
    pauses = [after(tries, Answer(500), 0.5).pause_s for tries in range(1, len(PAUSES_S) + 1)]
    assert pauses == list(PAUSES_S) == sorted(PAUSES_S)
    assert after(1, Answer(302), 0.5).state is DeliveryState.PENDING  # redirects are not followed
    assert after(1, Answer(None, "ConnectTimeout"), 0.5).state is DeliveryState.PENDING


def test_the_jitter_is_a_fifth_at_most() -> None:
    assert (after(3, Answer(500), 0.0).pause_s, after(3, Answer(500), 1.0).pause_s) == (96.0, 144.0)


def test_a_receiver_may_ask_for_a_longer_pause_up_to_an_hour() -> None:
    assert after(1, Answer(429, "", 50.0), 0.5).pause_s == 50.0
    assert after(1, Answer(503, "", 1e9), 0.5).pause_s == 3600.0
    assert after(4, Answer(503, "", 1.0), 0.5).pause_s == 600.0  # never a shorter one


def test_the_last_try_is_the_last_and_gone_is_gone() -> None:
    dead = after(len(PAUSES_S) + 1, Answer(500), 0.5)
    assert (dead.state, dead.disable) == (DeliveryState.DEAD, False)
    gone = after(1, Answer(410), 0.5)
    assert (gone.state, gone.disable) == (DeliveryState.DEAD, True)
