"""The control plane as the agent reaches it: enrol, sync, logs, blobs, over one HTTP client with a connection each."""

from __future__ import annotations

import gzip
import math
import ssl
import time
from collections.abc import Generator
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fleet.agents.exporter import CONTENT_TYPE
from fleet.agents.keys import Key, Signer
from fleet.agents.logs import Piece
from fleet.agents.protocol import (
    Desired,
    EnrollRequest,
    EnrollResponse,
    HandedSecrets,
    Inventory,
    LogAck,
    MetricsAck,
    Observed,
    RotateRequest,
    RotateResponse,
    blob_address,
)
from fleet.agents.signature import SERVER_TIME, enrolment_text, rotation_text

# How long past the promised wait an answer may take before the connection counts as dead.
_PATIENCE_S = 15.0
_LONGEST_PAUSE_S = 10.0
_MAX_BLOB = 256 << 20
Answer = TypeVar("Answer", bound=BaseModel)


class ControlPlaneError(Exception):
    """An exchange did not work. The message is for people."""


class Unreachable(ControlPlaneError):
    """No answer, or the server's own failure (5xx, 429): try again later."""


class Refused(ControlPlaneError):
    """401 or 403: this node, or its join token, is not accepted."""


class Rejected(ControlPlaneError):
    """The server understood and said no (any other 4xx). `status` is the code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Signed(httpx.Auth):
    """Signs each request. One that was refused for the time is signed again by the server's; one that was refused
    although its key was good, with the key that was to follow it."""

    requires_request_body = True

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """One request, and at most two repetitions of it."""
        key = self._signer.key
        response = yield self._signed(request, key)
        if response.status_code == httpx.codes.UNAUTHORIZED and self._signer.correct(_server_time(response)):
            response = yield self._signed(request, key)
        following = self._signer.following()
        if response.status_code == httpx.codes.UNAUTHORIZED and following is not None:
            response = yield self._signed(request, following)
            if response.status_code != httpx.codes.UNAUTHORIZED:
                self._signer.promote(following)

    def _signed(self, request: httpx.Request, key: Key) -> httpx.Request:
        target = request.url.raw_path.decode("ascii")
        request.headers["Authorization"] = key.request(
            request.method, target, request.content, self._signer.now()
        )
        return request


def _believing(server: str, ca_file: Path | None) -> ssl.SSLContext:
    """Whom a connection believes: the pinned authority, else the system's; over plain HTTP nobody, so that 20 MB of
    authorities need not be kept in memory."""
    if server.startswith("http://"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it verifies, and knows no authority
    return httpx.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=str(ca_file))


def _server_time(response: httpx.Response) -> float:
    """The server's clock as it says itself, epoch seconds; not a number when it does not."""
    text = response.headers.get(SERVER_TIME, "")
    return int(text) / 1000 if text.isascii() and text.isdigit() else math.nan


class ControlPlane:
    """One server. Methods may be called from several threads; each parked call has a connection of its own.

    `ca_file`: the only authority that may vouch for the server; without it, the system's.
    """

    def __init__(self, server: str, signer: Signer, ca_file: Path | None = None) -> None:
        self._signer = signer
        self.offset_s: float | None = None  # how far the server's clock is ahead of ours, to about a second
        self._http = httpx.Client(
            base_url=server, auth=Signed(signer), verify=_believing(server, ca_file), timeout=_PATIENCE_S
        )

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections."""
        self._http.close()

    def enroll(self, join_token: str, name: str, inventory: Inventory) -> EnrollResponse:
        """Join the fleet with a one-use token; the node's key is the one that the signer has."""
        key = self._signer.key
        proof = key.sign(enrolment_text(join_token, name, key.public))
        request = EnrollRequest(name=name, inventory=inventory, public_key=key.public, proof=proof)
        answer = self._call(
            "POST",
            "/v1/agents/enroll",
            content=request.model_dump_json(by_alias=True),
            headers={"authorization": f"Bearer {join_token}", "content-type": "application/json"},
            auth=None,
        )
        return _parsed(EnrollResponse, answer)

    def rotate_key(self, node_id: int) -> str:
        """Bring a new key and sign with it from then on; returns its id. Safe to repeat, whatever got lost."""
        following = self._signer.prepare()
        proof = following.sign(rotation_text(node_id, following.public))
        request = RotateRequest(public_key=following.public, proof=proof)
        answer = self._call(
            "POST",
            "/v1/agents/keys",
            content=request.model_dump_json(),
            headers={"content-type": "application/json"},
        )
        accepted = _parsed(RotateResponse, answer).key
        self._signer.promote(following)
        return accepted

    def rotation_pending(self) -> bool:
        """Whether a rotation was begun whose answer has not been seen."""
        return self._signer.following() is not None

    def sync(self, observed: Observed) -> Desired:
        """Say all that is so, hear all that should be. Parks at the server for up to `observed.wait_s`."""
        answer = self._call(
            "POST",
            "/v1/agents/sync",
            content=observed.model_dump_json(by_alias=True, exclude_none=True),
            headers={"content-type": "application/json"},
            timeout=httpx.Timeout(_PATIENCE_S, read=observed.wait_s + _PATIENCE_S),
        )
        return _parsed(Desired, answer)

    def put_metrics(self, text: str) -> float:
        """Push the node's exposition; returns in how many seconds the next one is due."""
        sent = time.time()
        answer = self._call(
            "PUT",
            "/v1/agents/metrics",
            content=gzip.compress(text.encode(), 1),
            headers={"content-type": CONTENT_TYPE, "content-encoding": "gzip"},
        )
        self.offset_s = _offset(answer.headers.get("date", ""), (sent + time.time()) / 2)
        return _parsed(MetricsAck, answer).interval_s

    def upload_log(self, attempt_id: int, fence: int, offset: int, piece: Piece) -> int:
        """Send the log's bytes from `offset`; returns how many bytes from its beginning the server has."""
        answer = self._call(
            "PUT",
            f"/v1/agents/attempts/{attempt_id}/logs",
            params={"offset": offset, "fence": fence, "runs": piece.text()},
            content=piece.content,
            headers={"content-type": "application/octet-stream"},
        )
        return _parsed(LogAck, answer).offset

    def secrets(self, attempt_id: int, fence: int) -> dict[str, str]:
        """The secrets of an attempt that is to start here: variable → value."""
        answer = self._call("GET", f"/v1/agents/attempts/{attempt_id}/secrets", params={"fence": fence})
        return _parsed(HandedSecrets, answer).secrets

    def put_blob(self, content: bytes) -> str:
        """Store bytes under their address, unless they are there already; returns the address."""
        address = blob_address(content)
        if not self._has_blob(address):
            self._call(
                "PUT",
                f"/v1/blobs/{address}",
                content=content,
                headers={"content-type": "application/octet-stream"},
            )
        return address

    def get_blob(self, address: str) -> bytes:
        """The bytes of a blob, checked against its address."""
        content = self._call("GET", f"/v1/blobs/{address}").content
        if len(content) > _MAX_BLOB or blob_address(content) != address:
            raise Unreachable(f"blob {address}: what arrived is not it ({len(content)} bytes)")
        return content

    def release_file(self, version: str, name: str, into: Path) -> None:
        """Fetch a file of a release; it is checked by whoever asks."""
        path = f"/v1/releases/{version}/{name}"
        try:
            with self._http.stream("GET", path) as response, into.open("wb") as file:
                if not response.is_success:
                    response.read()
                    raise _error("GET", path, response)
                for piece in response.iter_bytes():
                    file.write(piece)
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise Unreachable(f"{self._http.base_url} does not answer: {detail}") from error

    def _has_blob(self, address: str) -> bool:
        try:
            self._call("HEAD", f"/v1/blobs/{address}")
        except Rejected as error:
            if error.status == httpx.codes.NOT_FOUND:
                return False
            raise
        return True

    def _call(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise Unreachable(f"{self._http.base_url} does not answer: {detail}") from error
        if not response.is_success:
            raise _error(method, path, response)
        return response


def server_clock(server: str, ca_file: Path | None) -> float | None:
    """The server's time as its answers are dated, epoch seconds, to the second; None when it does not answer."""
    try:
        answer = httpx.get(f"{server}/livez", verify=_believing(server, ca_file), timeout=5.0)
        said = answer.headers.get("date", "")
        return parsedate_to_datetime(said).timestamp()
    except (httpx.HTTPError, ValueError):
        return None


def _offset(date: str, now: float) -> float | None:
    """A server's clock against `now`, from the second that it writes in its answers; None when it writes none."""
    try:
        ahead = parsedate_to_datetime(date).timestamp() + 0.5 - now
    except ValueError:
        return None
    return ahead if abs(ahead) > 1.0 else 0.0  # a date tells no less than a second


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` in [0, 1) spreads many agents over the second half."""
    longest: float = min(_LONGEST_PAUSE_S, 0.1 * 2.0 ** min(failures, 16))
    return longest * (0.5 + 0.5 * chance)


def _error(method: str, path: str, response: httpx.Response) -> ControlPlaneError:
    status = response.status_code
    message = f"{method} {path}: {status} {_detail(response)}"
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return Refused(message)
    if 400 <= status < 500 and status not in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS):
        return Rejected(status, message)
    return Unreachable(message)


def _detail(response: httpx.Response) -> str:
    """What a problem+json answer says, else the beginning of the body."""
    try:
        problem = response.json()
        return f"{problem.get('title', '')}: {problem.get('detail', '')}"
    except (ValueError, AttributeError):
        return response.text[:200]


def _parsed(model: type[Answer], response: httpx.Response) -> Answer:
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        raise Unreachable(f"the answer is not a {model.__name__} of this protocol: {error}") from error
