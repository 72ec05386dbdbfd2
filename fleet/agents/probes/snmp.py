"""SNMP version 2c as far as reading needs it: one GET over UDP. The community is in no command line, where all would see it."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence

_INTEGER, _TEXT, _NULL, _OID, _SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
_NUMBERS = frozenset({_INTEGER, 0x41, 0x42, 0x43, 0x46})  # counters, gauges, ticks
_GET, _ANSWER, _V2C = 0xA0, 0xA2, 1
_TRIES = 3
_numbers = itertools.count(1)
Value = int | bytes | None


class Silent(OSError):
    """No answer, or none that makes sense."""


def get(host: str, port: int, community: str, oids: Sequence[str], timeout_s: float) -> dict[str, Value]:
    """Values by OID; None for those that the agent there does not have. Raises Silent."""
    number = next(_numbers) & 0x7FFFFFFF
    request = message(community, number, oids)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s / _TRIES)
        try:
            sock.connect((host, port))  # only what comes from there is heard
            for _ in range(_TRIES):
                sock.send(request)
                try:
                    return _values(sock.recv(65535), number)
                except TimeoutError:
                    continue
        except (ValueError, IndexError) as error:
            raise Silent(f"{host}: the answer is no SNMP: {error}") from error
        except OSError as error:
            raise Silent(f"{host}: {error.strerror or error}") from error
    raise Silent(f"{host}: no answer within {timeout_s:g} s; is the community right?")


def message(community: str, number: int, oids: Sequence[str]) -> bytes:
    """A GET."""
    pairs = b"".join(_made(_SEQUENCE, _made(_OID, _oid(each)) + _made(_NULL, b"")) for each in oids)
    asked = _integer(number) + _integer(0) + _integer(0) + _made(_SEQUENCE, pairs)
    return _made(_SEQUENCE, _integer(_V2C) + _made(_TEXT, community.encode()) + _made(_GET, asked))


def _values(answer: bytes, number: int) -> dict[str, Value]:
    whole = _parts(_only(answer, _SEQUENCE))
    if len(whole) != 3 or whole[2][0] != _ANSWER:
        raise ValueError("it is no response")
    said, status, _, pairs = _parts(whole[2][1])
    if int.from_bytes(said[1], "big", signed=True) != number:
        raise ValueError("it answers another request")
    if int.from_bytes(status[1], "big"):
        raise ValueError(f"error {int.from_bytes(status[1], 'big')}")
    found: dict[str, Value] = {}
    for _, pair in _parts(pairs[1]):
        (_, name), (kind, value) = _parts(pair)
        signed = kind == _INTEGER
        number_of = int.from_bytes(value, "big", signed=signed) if kind in _NUMBERS else None
        found[_dotted(name)] = value if kind == _TEXT else number_of
    return found


def _only(content: bytes, kind: int) -> bytes:
    ((found, value),) = _parts(content)
    if found != kind:
        raise ValueError(f"type {found:#x} in the place of {kind:#x}")
    return value


def _parts(content: bytes) -> list[tuple[int, bytes]]:
    """(type, value) of what stands one after the other in BER."""
    found, at = [], 0
    while at < len(content):
        kind, size, at = content[at], content[at + 1], at + 2
        if size & 0x80:
            length = size & 0x7F
            size, at = int.from_bytes(content[at : at + length], "big"), at + length
        if at + size > len(content):
            raise ValueError("it is cut off")
        found.append((kind, content[at : at + size]))
        at += size
    return found


def _made(kind: int, value: bytes) -> bytes:
    if len(value) < 0x80:
        return bytes((kind, len(value))) + value
    size = len(value).to_bytes((len(value).bit_length() + 7) // 8, "big")
    return bytes((kind, 0x80 | len(size))) + size + value


def _integer(value: int) -> bytes:
    return _made(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _oid(text: str) -> bytes:
    first, second, *rest = (int(each) for each in text.strip(".").split("."))
    return b"".join(map(_base128, (first * 40 + second, *rest)))


def _base128(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


def _dotted(content: bytes) -> str:
    values, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            values.append(value)
            value = 0
    first = min(values[0] // 40, 2)
    return ".".join(map(str, (first, values[0] - first * 40, *values[1:])))
