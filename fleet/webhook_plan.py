"""What is sent to a webhook, and what becomes of a delivery. Pure: an event, an answer and the time in; bytes and a
decision out.

The standard shape and its signature are those of Standard Webhooks 1.0; Slack's and Discord's incoming webhooks take a
text and no signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from fleet.errors import InvalidSpec
from fleet.lifecycle import Machine, Rescue

PREFIX = "whsec_"
# Pauses before the second try and so on, in seconds: a day and a half of them.
PAUSES_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 64_800.0)
JITTER = (
    0.2  # each is longer or shorter by up to a fifth, so that what failed together does not come together
)
LONGEST_PAUSE_S = 3600.0  # that a Retry-After is heeded for
LONGEST_TEXT = 1900  # Discord takes 2000 characters
GONE = 410


class Shape(StrEnum):
    """What a body looks like."""

    STANDARD = "standard"
    SLACK = "slack"
    DISCORD = "discord"


class DeliveryState(StrEnum):
    """One event on its way to one webhook."""

    PENDING = "pending"  # to be tried, or tried again
    DELIVERED = "delivered"  # final: answered with a status from 200 to 299
    DEAD = "dead"  # final: given up; it can be delivered anew


class DeliveryEvent(StrEnum):
    """What happens to a delivery."""

    ACCEPT = "accept"
    GIVE_UP = "give_up"


DELIVERY = Machine(
    "delivery",
    DeliveryState.PENDING,
    {
        DeliveryState.PENDING: {
            DeliveryEvent.ACCEPT: DeliveryState.DELIVERED,
            DeliveryEvent.GIVE_UP: DeliveryState.DEAD,
        },
        DeliveryState.DELIVERED: {},
        DeliveryState.DEAD: {},
    },
    {DeliveryState.PENDING: Rescue("ten tries in a day and a half", DeliveryEvent.GIVE_UP)},
)


# ------------------------------------------------------------------------------------------ signatures


def new_secret(entropy: bytes) -> str:
    """A signing secret of 24 to 64 bytes."""
    return PREFIX + base64.b64encode(entropy).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. InvalidSpec for what is no secret."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise InvalidSpec("secret", f"a signing secret is {PREFIX} and base64") from error
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def headers(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a standard webhook; while a secret is being rotated there is a signature with each."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(each, message_id, timestamp, body) for each in secrets),
    }


# ---------------------------------------------------------------------------------------------- bodies


@dataclass(frozen=True)
class Told:
    """An event as it is told: `at` is an RFC 3339 time."""

    id: int
    at: str
    kind: str
    subject: str
    data: Mapping[str, Any]


def wants(kinds: Sequence[str], kind: str) -> bool:
    """Does a webhook want events of this kind? `kinds` are names or patterns, as cron.* or *."""
    return any(fnmatchcase(kind, each) for each in kinds)


def body(shape: Shape, event: Told) -> str:
    """The JSON that is sent."""
    match shape:
        case Shape.SLACK:
            document: dict[str, Any] = {"text": _without_marks(sentence(event))}
        case Shape.DISCORD:
            document = {"content": sentence(event), "allowed_mentions": {"parse": []}}
        case Shape.STANDARD:
            about = {"event_id": event.id, "subject": event.subject, **event.data}
            document = {"type": event.kind, "timestamp": event.at, "data": about}
    return json.dumps(document, separators=(",", ":"))


def _without_marks(text: str) -> str:
    """Slack reads <!channel> and links out of a text: its three characters are escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def sentence(event: Told) -> str:
    """An event as people read it: what happened to what, and the details that there are."""
    data = event.data
    name = str(data.get("name") or event.subject)
    verb = event.kind.partition(".")[2].replace("_", " ")
    noun = event.kind.partition(".")[0]
    details = _DETAILS.get(event.kind, _any_details)(data)
    text = f"{noun} {name} {verb}" if "name" in data else f"{event.subject} {verb}"
    return _cut(f"{text}: {details}" if details else text)


def _cut(text: str) -> str:
    clean = "".join(each if each.isprintable() or each == "\n" else " " for each in text)
    return clean if len(clean) <= LONGEST_TEXT else clean[: LONGEST_TEXT - 1] + "…"


def _failed(data: Mapping[str, Any]) -> str:
    times = f", {data['in_a_row']} times in a row" if data.get("in_a_row", 1) > 1 else ""
    return f"run {data.get('run')}{times}: {data.get('error', '')}"


def _regressed(data: Mapping[str, Any]) -> str:
    return (
        f"{data.get('series')} is {_short(data.get('value'))}, and was {_short(data.get('baseline'))} "
        f"(limit {_short(data.get('limit'))}), run {data.get('run')}"
    )


def _stalled(data: Mapping[str, Any]) -> str:
    return f"nothing has begun for a whole period: {data.get('why', '')}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _any_details(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in data.items() if key != "name" and value)


_DETAILS = {"cron.failed": _failed, "cron.regressed": _regressed, "cron.stalled": _stalled}


# ---------------------------------------------------------------------------------------------- answers


@dataclass(frozen=True)
class Answer:
    """What came back: a status, or why there is none. `retry_after_s`: how long it asked to be left alone."""

    status: int | None
    error: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Next:
    """What becomes of a delivery: its state, when it is tried again, and whether its webhook is to be disabled."""

    state: DeliveryState
    pause_s: float | None = None
    disable: bool = False


def after(tries: int, answer: Answer, draw: float) -> Next:
    """What follows the `tries`-th try (1: the first). `draw`: a random number from 0 to 1, for the jitter."""
    if answer.status is not None and 200 <= answer.status < 300:
        return Next(DeliveryState.DELIVERED)
    if answer.status == GONE or tries > len(PAUSES_S):
        return Next(DeliveryState.DEAD, disable=answer.status == GONE)
    pause = PAUSES_S[tries - 1] * (1 + JITTER * (2 * draw - 1))
    return Next(DeliveryState.PENDING, max(pause, min(answer.retry_after_s or 0.0, LONGEST_PAUSE_S)))
