"""A lab's own certificate authority: one key, kept 0600, that can vouch for the lab's names and addresses only.

`name constraints` in its certificate make a client refuse what it issues for any other name, so that a stolen lab
authority cannot speak for a bank. Files: ca.pem (public), ca.key (0600).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleet.errors import AlreadyExists, InvalidSpec

PERMITTED = (  # names and networks that are nobody's on the internet
    "localhost",
    "local",
    "lan",
    "internal",
    "home.arpa",
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
AUTHORITY_DAYS, SERVER_DAYS = 3650, 397
_BEFORE = timedelta(minutes=5)  # clocks that are a little behind accept it at once


@dataclass(frozen=True)
class Authority:
    """The authority's certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def fingerprint(self) -> str:
        """The hex sha256 of its certificate: what `--ca-sha256` pins."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()


def init(folder: Path, name: str, permitted: Sequence[str], now: datetime | None = None) -> Authority:
    """Make an authority in `folder`. AlreadyExists when there is one; InvalidSpec for what cannot be permitted."""
    if (folder / "ca.key").exists():
        raise AlreadyExists("authority", folder, "use it, or give another --dir")
    moment = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder(subject, subject, key, moment, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_constraints(permitted), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(folder / "ca.key", _pem(key), 0o600)
    _write(folder / "ca.pem", certificate.public_bytes(Encoding.PEM), 0o644)
    return Authority(certificate, key)


def load(folder: Path) -> Authority:
    """The authority in `folder`. InvalidSpec when there is none, or others can read its key."""
    try:
        if (folder / "ca.key").stat().st_mode & 0o077:
            raise InvalidSpec("--dir", f"{folder / 'ca.key'} can be read by others: chmod 600 it")
        key = load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidSpec(
            "--dir", f"there is no authority in {folder} ({error}): tinyfleet ca init"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidSpec("--dir", f"{folder / 'ca.key'} is no key of ours: tinyfleet ca init makes one")
    return Authority(certificate, key)


def issue(
    authority: Authority,
    names: Sequence[str],
    certificate: Path,
    key: Path,
    days: float = SERVER_DAYS,
    now: datetime | None = None,
) -> None:
    """A server's certificate for host names and addresses, followed by the authority's in the file, and its key
    (0600). InvalidSpec for a name that the authority may not vouch for."""
    if not names:
        raise InvalidSpec("NAME", "give at least one host name or address")
    permitted = authority.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    alternatives = [_general_name(name) for name in names]
    for name, each in zip(names, alternatives, strict=True):
        if not any(_within(each, limit) for limit in permitted.permitted_subtrees or ()):
            raise InvalidSpec(
                "NAME", f"{name} is not what this authority may vouch for: see ca init --permit"
            )
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issued = (
        _builder(subject, authority.certificate.subject, own, now or datetime.now(UTC), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )
    _write(key, _pem(own), 0o600)
    chain = issued.public_bytes(Encoding.PEM) + authority.certificate.public_bytes(Encoding.PEM)
    _write(certificate, chain, 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + timedelta(days=days))
    )


def _constraints(permitted: Iterable[str]) -> x509.NameConstraints:
    return x509.NameConstraints([_limit(each) for each in permitted], None)


def _limit(text: str) -> x509.GeneralName:
    """A domain (with all below it) or a network."""
    try:
        return x509.IPAddress(ipaddress.ip_network(text))
    except ValueError:
        return _domain(text, "--permit")


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return _domain(text, "NAME")


def _domain(text: str, field: str) -> x509.DNSName:
    labels = text.rstrip(".").split(".")
    if not all(label.replace("-", "").isalnum() and label.isascii() for label in labels):
        raise InvalidSpec(field, f"{text!r} is neither a host name nor an address")
    return x509.DNSName(".".join(labels).lower())


def _within(name: x509.GeneralName, limit: x509.GeneralName) -> bool:
    if isinstance(name, x509.DNSName) and isinstance(limit, x509.DNSName):
        return name.value == limit.value or name.value.endswith(f".{limit.value}")
    if not (isinstance(name, x509.IPAddress) and isinstance(limit, x509.IPAddress)):
        return False
    return ipaddress.ip_address(str(name.value)) in ipaddress.ip_network(str(limit.value))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """A new file, never one that is there. InvalidSpec when it cannot be made."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise InvalidSpec(str(path), f"cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def behind(chain: Path) -> str | None:
    """The lab's authority in a server's certificate file, in PEM: the certificate there that vouches for itself.

    None when there is none: then whoever issued it is known to everybody's system.
    """
    for found in x509.load_pem_x509_certificates(chain.read_bytes())[1:]:
        if found.issuer == found.subject:
            return found.public_bytes(Encoding.PEM).decode("ascii")
    return None
