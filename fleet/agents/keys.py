"""The node's own key (ed25519): made here, kept in the state folder with mode 0600, and never sent anywhere.

node.key        the key that requests are signed with, PKCS #8 PEM
node.key.next   the key that is to follow it, until the server has accepted it
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from fleet.agents.durable import write_bytes
from fleet.agents.signature import WINDOW_S, Signature, body_digest, key_id

KEY, NEXT = "node.key", "node.key.next"


class BadKey(Exception):
    """A key file cannot be used; the message names it and the fix."""


class Key:
    """One private key; signing takes about 50 µs and may be done from several threads."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes_raw()
        self.public = public.hex()
        self.id = key_id(public)

    @classmethod
    def made(cls) -> Key:
        """A fresh one."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> Key:
        """The key in a file. Raises BadKey, also for a file that others can read; FileNotFoundError."""
        if path.stat().st_mode & 0o077:
            raise BadKey(f"{path} can be read by others: chmod 600 it, or retire the node and join anew")
        try:
            private = load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadKey(f"{path} is no private key: retire the node and join anew") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise BadKey(f"{path} is no ed25519 key: retire the node and join anew")
        return cls(private)

    def save(self, path: Path) -> None:
        """Write it, mode 0600, in one step."""
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_bytes(path, pem, durable=True)

    def sign(self, text: bytes) -> str:
        """The signature of a text, hex."""
        return self._private.sign(text).hex()

    def request(self, method: str, target: str, body: bytes, at: float) -> str:
        """The Authorization header of one request, signed at `at` (epoch seconds)."""
        unsigned = Signature(self.id, int(at * 1000), secrets.token_hex(16), body_digest(body))
        signed = self.sign(unsigned.text(method, target))
        return Signature(unsigned.key, unsigned.time_ms, unsigned.nonce, unsigned.digest, signed).header()


class Signer:
    """The keys in one state folder, and how far the server's clock is from ours. May be used from any thread.

    The file is looked at before each signature: `tinyfleet node rotate-key` changes it beside a running agent.
    """

    def __init__(self, state: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._next_path = state / KEY, state / NEXT
        self._clock = clock
        self._guard = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._key: Key | None = None
        self._offset_s = 0.0

    @property
    def key(self) -> Key:
        """The present key, made when there is none."""
        with self._guard:
            try:
                about = os.stat(self._path)
            except FileNotFoundError:
                Key.made().save(self._path)
                about = os.stat(self._path)
            if self._key is None or (about.st_ino, about.st_mtime_ns) != self._seen:
                self._key = Key.load(self._path)
                self._seen = (about.st_ino, about.st_mtime_ns)
            return self._key

    def now(self) -> float:
        """The server's time as far as it is known here, epoch seconds."""
        return self._clock() + self._offset_s

    def correct(self, server_s: float) -> bool:
        """Take the server's time; True when ours was so far off that a request may have been refused for it."""
        wrong = abs(server_s - self.now()) > WINDOW_S / 2
        if wrong:
            self._offset_s = server_s - self._clock()
        return wrong

    def following(self) -> Key | None:
        """The next key, when there is one that the server may not have accepted yet."""
        try:
            return Key.load(self._next_path)
        except FileNotFoundError:
            return None

    def prepare(self) -> Key:
        """The next key, on disk before anybody hears of it: an answer that got lost loses no key."""
        with self._guard:
            found = self.following()
            if found is None:
                found = Key.made()
                found.save(self._next_path)
            return found

    def promote(self, key: Key) -> None:
        """The server has accepted the next key: sign with it from now on."""
        with self._guard:
            found = self.following()
            if found is not None and found.id == key.id:
                self._next_path.replace(self._path)
