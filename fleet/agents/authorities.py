"""Which authority vouches for the server: given once, at the join, and kept in the state folder from then on.

ca.pem   the only certificate that a server's has to lead to; without it, the system's authorities count
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fleet.agents.durable import write_bytes
from fleet.agents.settings import Settings, SettingsError

_FILE = "ca.pem"
_PATIENCE_S = 15.0


def pinned(state: Path) -> Path | None:
    """The certificate that was pinned at the join; None when none was."""
    path = state / _FILE
    return path if path.exists() else None


def pin(settings: Settings) -> None:
    """Keep the authority that the settings name; one that is kept is not changed. Raises SettingsError."""
    if settings.ca_file is None and not settings.ca_sha256:
        return
    wanted = _given(settings.ca_file) if settings.ca_file is not None else _shown(settings)
    kept = pinned(settings.state)
    if kept is None:
        write_bytes(settings.state / _FILE, wanted.encode(), durable=True)
    elif fingerprint(kept.read_text()) != fingerprint(wanted):
        raise SettingsError(
            f"{kept} is another authority than the one that is given; remove it if the server's has changed"
        )


def fingerprint(pem: str) -> str:
    """The hex sha256 of a certificate, as `tinyfleet ca init` prints it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest()


def _given(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii")
        fingerprint(text)
    except (OSError, ValueError) as error:
        raise SettingsError(f"--ca-file {path} is no certificate in PEM: {error}") from error
    return text


def _shown(settings: Settings) -> str:
    """The certificate with that fingerprint among those that the server shows.

    Nothing but that is believed of this connection, and nothing is sent on it: the pin vouches for the certificate,
    and the connections after it are checked by the certificate.
    """
    kept = pinned(settings.state)
    if kept is not None and fingerprint(kept.read_text()) == settings.ca_sha256:
        return kept.read_text()
    for der in _chain(settings.server):
        if hashlib.sha256(der).hexdigest() == settings.ca_sha256:
            return ssl.DER_cert_to_PEM_cert(der)
    raise SettingsError(
        f"{settings.server} shows no certificate with the pinned sha256: it is another server, or its certificate "
        "file lacks the authority's (tinyfleet ca issue puts it there)"
    )


def _chain(server: str) -> list[bytes]:
    """The certificates that a server shows, DER, believed by nobody."""
    parts = urlsplit(server)
    if parts.scheme != "https" or parts.hostname is None:
        raise SettingsError(f"server {server} has no certificate: --ca-sha256 goes with an https:// URL")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    address = (parts.hostname, parts.port or 443)
    try:
        with (
            socket.create_connection(address, timeout=_PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as tls,
        ):
            return _unverified(tls)
    except OSError as error:
        raise SettingsError(f"server {server} shows no certificate: {error}") from error


def _unverified(tls: Any) -> list[bytes]:
    if hasattr(tls, "get_unverified_chain"):  # from Python 3.13 on
        return list(tls.get_unverified_chain())
    return [ssl.PEM_cert_to_DER_cert(each.public_bytes()) for each in tls._sslobj.get_unverified_chain()]
