from __future__ import annotations

import json
import logging
import sys

import pytest
from sqlalchemy.orm import Session

from fleet import tenants
from fleet.redaction import LONGEST_LABEL, JsonLines, label, printable, redact

EVIL = "ok\n2026-01-01 INFO admin logged in\x1b[2J\x00\u202e\ud800\x85\u2028"


@pytest.fixture
def secret(session: Session, now: float) -> str:
    """A token's secret."""
    return tenants.mint(session, name="ada", role="user", now=now)[1]


@pytest.mark.parametrize(
    "around", ["Bearer {}", '{{"token": "{}"}}', "?t={}&x", "'{}'", "x{}y", "\\n{}", "{0}{0}", "a_{}_b"]
)
def test_a_token_is_found_whatever_stands_around_it(secret: str, around: str) -> None:
    text = redact(around.format(secret))
    assert secret not in text
    assert secret[4:30] not in text
    assert "tfu_[redacted:" in text


def test_two_tokens_stay_two_and_other_text_stays(secret: str) -> None:
    assert redact("tfu_short and tfx_" + "a" * 49) == "tfu_short and tfx_" + "a" * 49
    assert redact(secret) != redact(secret[:-1] + ("A" if secret[-1] != "A" else "B"))


def formatted(message: str, *arguments: object, exc_info: object = None) -> str:
    record = logging.LogRecord("fleet", logging.ERROR, "", 0, message, arguments, exc_info)  # type: ignore[arg-type]
    return JsonLines().format(record)


def test_a_record_is_one_line_of_json_without_secrets_or_control_characters(secret: str) -> None:
    class Odd:
        def __repr__(self) -> str:
            return f"\n{secret}"

    try:
        raise ValueError(secret)
    except ValueError:
        line = formatted("%s %r " + EVIL, secret, Odd(), exc_info=sys.exc_info())
    assert line.isascii()
    assert line.isprintable()
    assert secret not in line
    found = json.loads(line)
    assert found["level"] == "error"
    assert "Traceback" in found["traceback"]
    assert found["message"].count("[redacted:") == 2


def test_printable_text_is_one_line_that_can_be_encoded() -> None:
    text = printable(EVIL)
    assert text.isprintable()
    assert "\\u202e\\ud800\\x85\\u2028" in text
    assert text.encode()
    assert printable("Grüße, 世界") == "Grüße, 世界"


@pytest.mark.parametrize("value", ["a\ud800", 'n"} 1\nadmin_total{x="1', "x" * 5000, "", 7, EVIL])
def test_a_label_is_short_printable_and_can_be_encoded(value: object) -> None:
    text = label(value)
    assert text.encode() or value == ""
    assert text.isprintable()
    assert len(text) <= LONGEST_LABEL


def test_a_label_holds_no_secret(secret: str) -> None:
    assert secret not in label(secret)
