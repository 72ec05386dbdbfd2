"""Attacks through sockets."""

from __future__ import annotations

import errno
import socket

from tests.attacks.trial import Target


def connect_to_loopback(target: Target) -> object:
    with socket.create_connection(("127.0.0.1", target.port), timeout=3):
        return "connected"


def connect_to_outside(target: Target) -> object:
    """An address for documentation, where nobody is: refused for being made, or sent on its way."""
    with socket.socket() as sock:
        sock.setblocking(False)
        found = sock.connect_ex(("192.0.2.1", 9))
    if found not in (errno.EINPROGRESS, errno.ETIMEDOUT, errno.ECONNREFUSED, 0):
        raise OSError(found, "connect")
    return "on its way"


def listen_for_strangers(target: Target) -> object:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen(1)
        return "listens"


def send_datagram(target: Target) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"x", ("127.0.0.1", target.port))


def raw_packets(target: Target) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP):
        return "made"


def packets_of_the_wire(target: Target) -> object:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
        return "made"


def netlink(target: Target) -> object:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0):
        return "made"


def virtual_machines_host(target: Target) -> object:
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM):
        return "made"


def crypto_sockets(target: Target) -> object:
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET):
        return "made"


def unix_socket(target: Target) -> object:
    """Of whatever daemon listens at a path that everybody may write to: a container engine, a key agent."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(target.unix)
        return "connected"


def abstract_socket(target: Target) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + target.abstract)
        return "connected"


def datagram_from_a_pair(target: Target) -> object:
    """A pair needs no socket(), and one of datagrams may send to any address."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        return ours.sendto(b"x", target.unix + ".datagrams")
