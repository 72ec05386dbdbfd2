"""A host over SSH: run a command, put a file. Its key is known beforehand, or nobody logs in.

paramiko is used here and nowhere else, and imported when a connection is made: who never brings a bare host in does not
need it.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import socket
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet.errors import InvalidSpec, NotPermitted

# Which of its keys a host shows is the client's choice: each is tried until the one that is known.
KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
)
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_CONNECT_S, _RUN_S = 15.0, 900.0
_MOST_OUTPUT = 1 << 20


@dataclass(frozen=True)
class Login:
    """How to get in: as whom, with a key's file (else what ssh-agent has) or a password, and with which for sudo."""

    user: str = "root"
    key_file: Path | None = None
    password: str = ""
    sudo_password: str = ""


@dataclass(frozen=True)
class Done:
    """What became of a command: its exit status, and the end of what it wrote, errors included."""

    status: int
    output: str


class Host:
    """One connection. Use as a context manager."""

    def __init__(self, transport: Any, login: Login) -> None:
        self._transport, self._login = transport, login

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def run(self, command: str, stdin: bytes = b"", as_root: bool = True, within_s: float = _RUN_S) -> Done:
        """Run a shell's command, as root unless said otherwise. Secrets go by `stdin`: what is in a command can be seen
        by everybody on the host. Raises NotPermitted when the host goes away or does not end it in time."""
        words, given = self._wrapped(command, as_root)
        try:
            channel = self._transport.open_session(timeout=_CONNECT_S)
            channel.settimeout(within_s)
            channel.set_combine_stderr(True)
            channel.exec_command(words)
            channel.sendall(given + stdin)
            channel.shutdown_write()
            output = bytearray()
            while piece := channel.recv(65536):
                output = (output + piece)[-_MOST_OUTPUT:]
            status = int(channel.recv_exit_status())
        except (OSError, EOFError) as error:
            raise NotPermitted(f"the host went away: {error or type(error).__name__}") from error
        return Done(status, output.decode("utf-8", "replace"))

    def _wrapped(self, command: str, as_root: bool) -> tuple[str, bytes]:
        shell = f"sh -c {shlex.quote(command)}"
        if not as_root or self._login.user == "root":
            return shell, b""
        if self._login.sudo_password:
            return f"sudo -S -p '' -k -- {shell}", f"{self._login.sudo_password}\n".encode()
        return f"sudo -n -- {shell}", b""

    def put(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """A file of root's, in one step. Raises NotPermitted when it cannot be written."""
        aside = shlex.quote(f"{path}.new")
        command = f"umask 077 && cat >{aside} && chmod {mode:o} {aside} && mv -f {aside} {shlex.quote(path)}"
        done = self.run(command, content)
        if done.status:
            raise NotPermitted(f"{path} could not be written: {done.output.strip()[-300:]}")


def connect(address: str, port: int, host_key: str, login: Login) -> Host:
    """Log in, after the host has shown the key whose fingerprint is `host_key`. InvalidSpec for another host, and for
    none given (with what the host shows); NotPermitted when it lets nobody in."""
    paramiko = _paramiko()
    if host_key and not FINGERPRINT.fullmatch(host_key):
        raise InvalidSpec("--host-key", "give SHA256: and 43 characters, as ssh-keygen -lf prints it")
    shown = []
    for kind in KEY_TYPES:
        transport, found = _shown(paramiko, address, port, kind)
        if transport is None:
            continue
        if found == host_key:
            _log_in(paramiko, transport, login)
            return Host(transport, login)
        transport.close()
        shown.append(found)
    there = ", ".join(dict.fromkeys(shown)) or "no key at all"
    if not host_key:
        raise InvalidSpec(
            "--host-key",
            f"say which key the host has; it shows {there}. Look at it on its own console, for a stranger may answer: "
            "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    raise InvalidSpec(
        "--host-key", f"this is another host: it shows {there} and not {host_key}; nothing was sent"
    )


def _paramiko() -> Any:
    try:
        import paramiko
    except ModuleNotFoundError as error:
        raise InvalidSpec("paramiko", "it is missing: pip install 'tinyfleet[bootstrap]'") from error
    return paramiko


def _shown(paramiko: Any, address: str, port: int, kind: str) -> tuple[Any, str]:
    """A connection on which the host has proved its key of this type, and the key's fingerprint; None without one."""
    try:
        opened = socket.create_connection((address, port), timeout=_CONNECT_S)
    except (OSError, ValueError) as error:  # a text that is no name is a ValueError
        raise InvalidSpec("HOST", f"{address}:{port} does not answer: {error}") from error
    transport = paramiko.Transport(opened)
    transport.get_security_options().key_types = (kind,)
    try:
        transport.start_client(timeout=_CONNECT_S)
    except (paramiko.SSHException, OSError, EOFError):
        transport.close()
        return None, ""
    digest = hashlib.sha256(transport.get_remote_server_key().asbytes()).digest()
    return transport, "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _log_in(paramiko: Any, transport: Any, login: Login) -> None:
    try:
        if login.password:
            transport.auth_password(login.user, login.password)
            return
        for key in _keys(paramiko, login):
            try:
                transport.auth_publickey(login.user, key)
                return
            except paramiko.AuthenticationException:
                continue
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport.close()
        raise NotPermitted(f"the host refuses {login.user}: {error or type(error).__name__}") from error
    transport.close()
    raise NotPermitted(f"the host refuses {login.user} with every key: give --key or --password-file")


def _keys(paramiko: Any, login: Login) -> list[Any]:
    if login.key_file is None:
        return list(paramiko.Agent().get_keys())
    try:
        return [paramiko.PKey.from_path(login.key_file)]
    except (paramiko.SSHException, OSError, ValueError, TypeError) as error:
        raise InvalidSpec("--key", f"{login.key_file} is no private key that can be used: {error}") from error
