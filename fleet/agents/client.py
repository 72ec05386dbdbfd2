"""The control plane as the agent reaches it: enrol, sync, logs, blobs, over one HTTP client with a connection each."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from fleet.agents.protocol import (
    Desired,
    EnrollRequest,
    EnrollResponse,
    LogAck,
    Observed,
    blob_address,
)

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


class ControlPlane:
    """One server. Methods may be called from several threads; each parked call has a connection of its own."""

    def __init__(self, server: str, token: str = "") -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=server, headers=headers, timeout=_PATIENCE_S)

    def __enter__(self) -> ControlPlane:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections."""
        self._http.close()

    def enroll(self, join_token: str, request: EnrollRequest) -> EnrollResponse:
        """Join the fleet with a one-use token."""
        answer = self._call(
            "POST",
            "/v1/agents/enroll",
            content=request.model_dump_json(by_alias=True),
            headers={"authorization": f"Bearer {join_token}", "content-type": "application/json"},
        )
        return _parsed(EnrollResponse, answer)

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

    def upload_log(self, attempt_id: int, fence: int, offset: int, chunk: bytes) -> int:
        """Send the log's bytes from `offset`; returns how many bytes from its beginning the server has."""
        answer = self._call(
            "PUT",
            f"/v1/agents/attempts/{attempt_id}/logs",
            params={"offset": offset, "fence": fence},
            content=chunk,
            headers={"content-type": "application/octet-stream"},
        )
        return _parsed(LogAck, answer).offset

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
