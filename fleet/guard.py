"""Where the control plane may be sent by a URL that somebody else wrote: to public addresses only.

A name is resolved once, every one of its addresses must be public, and the connection goes to one of exactly these:
a second look-up could answer otherwise. Redirects are not followed. What Python's `is_global` lets through although it
leads inwards (an IPv4 address inside NAT64, 6to4, Teredo or IPv4-compatible IPv6; site-local) is refused here.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import httpx

from fleet.errors import InvalidSpec

Resolve = Callable[[str, int], list[str]]
PORTS = frozenset({443, 8443})
LONGEST_URL = 2048
TIMEOUT_S = 10.0
LONGEST_S = 30.0  # a whole exchange, however slowly its bytes trickle in
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_INWARD = tuple(
    ipaddress.ip_network(text)
    for text in (
        "100.64.0.0/10",  # carriers' own
        "192.0.0.0/24",
        "168.63.129.16/32",  # a cloud's own service to its machines
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",  # benchmarks
        "64:ff9b:1::/48",  # NAT64 of a site's own
        "2001::/32",  # Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
        "fec0::/10",  # site-local
    )
)


@dataclass(frozen=True)
class Target:
    """Where a checked URL leads: connect to one of `addresses`; `host` is what TLS and the Host header name."""

    url: str
    host: str
    port: int
    addresses: tuple[str, ...]


def is_public(address: str) -> bool:
    """True for an address of the public internet; what an IPv6 address carries inside counts too."""
    if "%" in address:  # a zone: this link only
        return False
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if int(ip) >> 32 == 0:  # IPv4-compatible
            return False
    inward = any(ip.version == network.version and ip in network for network in _INWARD)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified or inward)


def resolve_by_system(host: str, port: int) -> list[str]:
    """Every address of a name, as this machine finds them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def check(url: str, field: str = "url", resolve: Resolve = resolve_by_system) -> Target:
    """Where `url` leads. Raises InvalidSpec, naming `field`, unless it is https on port 443 or 8443 of a name or
    address that is public, without user or odd characters."""
    host, port = _host_and_port(url, field)
    try:
        addresses = tuple(resolve(host, port))
    except (OSError, UnicodeError) as error:
        raise InvalidSpec(field, f"the host {host!r} is not found: give one that has an address") from error
    if not addresses or not all(map(is_public, addresses)):
        raise InvalidSpec(
            field, f"the host {host!r} is not on the public internet: give one whose every address is"
        )
    return Target(url, host, port, addresses)


def _host_and_port(url: str, field: str) -> tuple[str, int]:
    if len(url) > LONGEST_URL or any(ord(each) <= 32 or ord(each) >= 127 or each == "\\" for each in url):
        raise InvalidSpec(field, f"give at most {LONGEST_URL} visible ASCII characters, without backslashes")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), 443 if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidSpec(field, "this is not a URL: give https://HOST/PATH") from error
    if parts.scheme != "https":
        raise InvalidSpec(field, "only https: is called: give https://HOST/PATH")
    if "@" in parts.netloc:
        raise InvalidSpec(field, "a user and a password do not belong into a URL: leave them out")
    if not host:
        raise InvalidSpec(field, "it names no host: give https://HOST/PATH")
    if port not in PORTS:
        raise InvalidSpec(field, f"port {port} is not called: use 443 or 8443")
    return host, port


@cache
def _authorities() -> ssl.SSLContext:
    """Those that may vouch for a name; read once, since reading them takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)


class GuardedTransport(httpx.BaseTransport):
    """Sends a request to the address that was checked, under the name that was asked for.

    Raises InvalidSpec for a URL that leads inwards; nothing is sent then.
    """

    def __init__(
        self, inner: httpx.BaseTransport | None = None, resolve: Resolve = resolve_by_system
    ) -> None:
        # no proxies and nothing else from the environment: they would choose the address again
        self._inner = inner or httpx.HTTPTransport(verify=_authorities(), trust_env=False)
        self._resolve = resolve

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The answer of the first address; TLS is checked against the name."""
        target = check(str(request.url), "url", self._resolve)
        direct = httpx.Request(
            request.method,
            request.url.copy_with(host=target.addresses[0]),
            headers=request.headers,  # Host is the name's already
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": target.host},
        )
        return self._inner.handle_request(direct)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def guarded_client(transport: httpx.BaseTransport | None = None) -> httpx.Client:
    """A client for URLs that others wrote: guarded, without redirects and without the environment's proxies."""
    return httpx.Client(
        transport=transport or GuardedTransport(), follow_redirects=False, trust_env=False, timeout=TIMEOUT_S
    )


MakeClient = Callable[[], httpx.Client]


@dataclass(frozen=True)
class Reply:
    """What a request got: a status, or none and why. `retry_after`: the header as it came."""

    status: int | None
    said: str = ""
    retry_after: str = ""


def post(url: str, body: bytes, headers: dict[str, str], client: MakeClient = guarded_client) -> Reply:
    """Send bytes to a URL that somebody else wrote. Nothing is raised for what goes wrong there, and the answer's body
    is not read."""
    with client() as opened:
        end = threading.Timer(LONGEST_S, opened.close)
        end.daemon = True
        end.start()
        try:
            with opened.stream("POST", url, content=body, headers=headers) as answer:
                said = "" if answer.is_success else answer.reason_phrase
                return Reply(answer.status_code, said, answer.headers.get("Retry-After", ""))
        except InvalidSpec as error:  # its name leads elsewhere now
            return Reply(None, error.problem)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as error:
            return Reply(None, f"{type(error).__name__}: {error}"[:300])
        finally:
            end.cancel()


Client = httpx.Client


def read_text(
    client: httpx.Client, url: str, field: str, most_bytes: int, within_s: float = LONGEST_S
) -> str | None:
    """What a URL shows, of at most so many bytes; None for what is not there. InvalidSpec, naming `field`, for an address
    that leads inwards, an answer that is not text or too long, and for no answer."""
    check_form(url, field)
    end = threading.Timer(within_s, client.close)
    end.daemon = True
    end.start()
    try:
        with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as reply:
            if reply.status_code == httpx.codes.NOT_FOUND:
                return None
            if reply.status_code != httpx.codes.OK:
                raise InvalidSpec(field, f"{url} answers {reply.status_code}: try again later")
            if reply.headers.get("Content-Encoding", "identity") != "identity":
                raise InvalidSpec(field, f"{url} answers compressed, though it was asked not to")
            content = bytearray()
            for (
                piece
            ) in reply.iter_raw():  # as it comes: a piece of a few bytes can unpack to any number of them
                content += piece
                if len(content) > most_bytes:
                    raise InvalidSpec(
                        field, f"{url} answers more than {most_bytes} bytes: this is no list of keys"
                    )
    except (
        httpx.HTTPError,
        OSError,
        RuntimeError,
    ) as error:  # the latter: its connection was closed at the end of its time
        raise InvalidSpec(field, f"{url} does not answer: {type(error).__name__}") from error
    finally:
        end.cancel()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidSpec(field, f"{url} does not answer text") from error


def check_form(url: str, field: str) -> None:
    """InvalidSpec for what is no https URL of a host, before any name is looked up."""
    _host_and_port(url, field)
