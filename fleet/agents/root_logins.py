"""Whom a machine should let in, as root's part has it: checked anew, whoever sent it. The standard library alone.

`fleet.agents.access_spec` has the same as the wire's models. What is refused here is refused whole: an agent that was taken
over can let people into contributors' accounts, by keys of the policy, and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet.agents.public_keys import KeyRefused, parse
from fleet.agents.root_verbs import Refusal

# Uids of contributors: the same on every node, between those of attempts and those that containers are given.
FIRST_UID, LAST_UID = 72_000, 99_999
ACCOUNT_PREFIX = "tf-"
GROUP = "tinyfleet-people"  # whom sshd's drop-in is about, and nobody else
ACCOUNT = r"^tf-[a-z0-9](?:[a-z0-9-]{0,27}[a-z0-9])?$"
CERTIFICATE = r"^[a-z0-9-]+-cert-v01@openssh\.com [A-Za-z0-9+/]+={0,2}$"
BASE64 = r"^[A-Za-z0-9+/]*={0,2}$"
MOST = 1024  # logins of one machine
LONGEST_CERTIFICATE, LONGEST_KRL = 32_768, 262_144  # characters
LARGEST, LATEST = (1 << 53) - 1, 1e11


@dataclass(frozen=True)
class Login:
    """Let this key into this account until then (epoch seconds); `principal` is what a certificate of it names."""

    grant_id: int
    account: str
    uid: int
    key: str
    until: float

    @property
    def principal(self) -> str:
        """What a certificate for this grant is made out to."""
        return f"grant-{self.grant_id}"


@dataclass(frozen=True)
class Logins:
    """Everybody who may log in. `user_ca`: whose certificates count; `host_certificate`: this machine's own; `revoked`: a
    key revocation list in base64."""

    grants: tuple[Login, ...] = ()
    user_ca: str | None = None
    host_certificate: str | None = None
    revoked: str | None = None

    @staticmethod
    def of(said: object) -> Logins:
        """From JSON's values. Refusal."""
        given = _object(said, ("grants", "user_ca", "host_certificate", "revoked"))
        grants = given.get("grants", [])
        if not isinstance(grants, list) or len(grants) > MOST:
            raise Refusal(f"grants: a list of at most {MOST}")
        return Logins(
            tuple(_login(each) for each in grants),
            _maybe(given, "user_ca", _key),
            _maybe(given, "host_certificate", lambda text: _matching(text, CERTIFICATE, LONGEST_CERTIFICATE)),
            _maybe(given, "revoked", lambda text: _matching(text, BASE64, LONGEST_KRL)),
        )

    def document(self) -> dict[str, Any]:
        """As JSON's values."""
        return asdict(self)


@dataclass(frozen=True)
class Standing:
    """How logins stand on a machine; the fields are those of `access_spec.AccessReport`."""

    generation: int = 0
    grants: list[int] = field(default_factory=list)
    address: str = ""
    port: int = 22
    host_keys: list[str] = field(default_factory=list)
    certified: bool = False
    problem: str = ""


def _object(said: object, known: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(said, dict) or set(said) - set(known):
        raise Refusal(f"an object with {', '.join(known)} and nothing else")
    return said


def _maybe(given: Mapping[str, Any], name: str, check: Any) -> str | None:
    try:
        return None if given.get(name) is None else str(check(given[name]))
    except Refusal as error:
        raise Refusal(f"{name}: {error}") from error


def _matching(text: object, pattern: str, longest: int) -> str:
    if not isinstance(text, str) or len(text) > longest or not re.fullmatch(pattern.strip("^$"), text):
        raise Refusal(f"at most {longest} characters of the form {pattern}")
    return text


def _key(text: object) -> str:
    try:
        return parse(str(text)).line
    except KeyRefused as error:
        raise Refusal(str(error)) from error


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise Refusal(f"a whole number from {least} to {most}")
    return value


def _login(said: object) -> Login:
    given = _object(said, ("grant_id", "account", "uid", "key", "until"))
    until = given.get("until")
    if not isinstance(until, int | float) or not math.isfinite(until) or not 0 <= until <= LATEST:
        raise Refusal("until: seconds since the epoch")
    return Login(
        _whole(given.get("grant_id"), 1, LARGEST),
        _matching(given.get("account"), ACCOUNT, 32),
        _whole(given.get("uid"), FIRST_UID, LAST_UID),
        _key(given.get("key")),
        float(until),
    )
