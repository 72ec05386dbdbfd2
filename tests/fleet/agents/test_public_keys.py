"""The policy for SSH public keys, against keys that ssh-keygen makes."""

from __future__ import annotations

import base64
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.agents.public_keys import KeyRefused, parse
from tests.parts import need

Make = Callable[..., Path]
ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH4rYnb3a1qu8cAfC6VtD7tk0oFX0cMLsYkd+Ei7VX3l"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A function from ssh-keygen's options to the public file of a new key."""
    need("ssh-keygen", install="openssh-client")

    def made(*options: str) -> Path:
        path = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "a@b", "-f", str(path), *options], check=True)
        return path.with_name("key.pub")

    return made


@pytest.mark.parametrize(
    ("options", "bits"),
    [
        (("-t", "ed25519"), 256),
        (("-t", "ecdsa", "-b", "256"), 256),
        (("-t", "ecdsa", "-b", "384"), 384),
        (("-t", "ecdsa", "-b", "521"), 521),
        (("-t", "rsa", "-b", "3072"), 3072),
    ],
)
def test_what_ssh_keygen_makes_is_taken_without_its_comment(
    make: Make, options: tuple[str, ...], bits: int
) -> None:
    file = make(*options)
    key = parse(file.read_text())
    assert (key.bits, key.comment) == (bits, "a@b")
    assert key.line == " ".join(file.read_text().split()[:2])
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert shown.split()[1] == key.fingerprint


def strings(*parts: bytes) -> str:
    """A key's blob in base64."""
    return base64.b64encode(b"".join(struct.pack(">I", len(part)) + part for part in parts)).decode()


def test_keys_on_security_keys_are_taken() -> None:
    ed = "sk-ssh-ed25519@openssh.com"
    assert parse(f"{ed} {strings(ed.encode(), bytes(32), b'ssh:')} token").type == ed
    ec = "sk-ecdsa-sha2-nistp256@openssh.com"
    assert parse(line(ec, b"nistp256", b"\x04" + bytes(64), b"ssh:work")).bits == 256
    with pytest.raises(KeyRefused, match="enrolled for something else"):
        parse(f"{ed} {strings(ed.encode(), bytes(32), b'https://example')}")


@pytest.mark.parametrize("bits", ["1024", "2048"])
def test_short_rsa_is_refused_with_what_to_do(make: Make, bits: str) -> None:
    with pytest.raises(KeyRefused, match=rf"RSA of {bits} bits.*ssh-keygen -t ed25519"):
        parse(make("-t", "rsa", "-b", bits).read_text())


def line(kind: str, *parts: bytes) -> str:
    """A key of this type with these parts behind the type."""
    return f"{kind} {strings(kind.encode(), *parts)}"


BODY = ED25519.split()[1]
RAW = base64.b64decode(BODY)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no public key"),
        ("ssh-ed25519", "no public key"),
        (f'command="id" {ED25519}', "options before a key"),
        (f'environment="LD_PRELOAD=x" {ED25519}', "options before a key"),
        (f"cert-authority {ED25519}", "options before a key"),
        (f"restrict,pty {ED25519}", "options before a key"),
        (f"{ED25519}\nssh-ed25519 AAAA evil", "one line"),
        (f"{ED25519}\r\n{ED25519}", "one line"),
        (f"{ED25519} \x00", "control characters"),
        (f"{ED25519} \x1b[2J", "control characters"),
        (f"{ED25519} a\u2028b", "control characters"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", "PRIVATE key"),
        (f"ssh-rsa {BODY}", "says that it is no ssh-rsa"),
        ("ssh-dss AAAAB3NzaC1kc3MAAACBAO", "DSA"),
        (f"ssh-ed25519-cert-v01@openssh.com {BODY}", "certificate"),
        (f"ssh-ed25519 {BODY[:-8]}====", "not base64"),
        (f"ssh-ed25519 {BODY[:-1]}%", "not base64"),
        (f"ssh-ed25519 {base64.b64encode(RAW[:-4]).decode()}", "cut off"),
        (f"ssh-ed25519 {base64.b64encode(RAW + b'xx').decode()}", "something follows"),
        (f"ssh-ed25519 {strings(b'ssh-ed25519', bytes(31))}", "32 bytes"),
        (line("ssh-rsa", b"\x03", b"\x00" + b"\xff" * 384), "weak"),
        (line("ssh-rsa", b"\x01\x00\x01", b"\xff" * 384), "malformed"),
        (
            line("ecdsa-sha2-nistp256", b"nistp384", b"\x04" + bytes(96)),
            "curve",
        ),
        (line("ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(32)), "point"),
        ("ssh-ed25519 " + "A" * 20_000, "longer than"),
    ],
)
def test_anything_else_is_refused_and_says_why(text: str, why: str) -> None:
    with pytest.raises(KeyRefused, match=why):
        parse(text)
