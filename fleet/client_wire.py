"""How the SDK speaks to the server: one HTTP connection pool, brief retries of what is safe to repeat, refusals as
problem documents."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from fleet.loopback import exposes

RETRY_DELAYS_S = (0.1, 0.3, 0.9)
# A connection that broke or was never made; an answer that takes too long is not asked for again.
BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
TIMEOUT_S = 30.0

Resource = TypeVar("Resource", bound=BaseModel)


class ApiError(Exception):
    """The server refused: `status` and the problem document (`type`, `title`, `detail` and its fields)."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{problem.get('title', 'refused')} ({status}): {_explain(problem)}")


class Unreachable(Exception):
    """No answer from the server at `url`."""

    def __init__(self, url: str, reason: str) -> None:
        self.url = url
        self.reason = reason
        super().__init__(f"no answer from {url}: {reason}")


class Connection:
    """A connection to one control plane. `transport` replaces the network; `retry_delays_s` are the pauses, in
    seconds, before a request that is safe to repeat is sent again after a connection error. `ca_file`: the only authority, in
    PEM, that may vouch for the server; without it the system's count. ValueError for plain HTTP off this machine."""

    def __init__(
        self,
        base_url: str,
        token: str,
        transport: httpx.BaseTransport | None = None,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        ca_file: Path | None = None,
    ) -> None:
        if transport is None and exposes(base_url):
            raise ValueError(
                f"{base_url} would be shown the token in plain HTTP, which anybody on the way can read: use https://"
            )
        self._retry_delays_s = retry_delays_s
        self._http = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            transport=transport,
            verify=_trusting(ca_file),
        )

    @property
    def base_url(self) -> str:
        """Where the server is, without a slash at the end."""
        return str(self._http.base_url).rstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _get(self, model: type[Resource], path: str, query: Mapping[str, Any] | None = None) -> Resource:
        return model.model_validate(self._send("GET", path, query=query, repeatable=True).json())

    def _post(
        self, model: type[Resource], path: str, body: Mapping[str, Any] | None = None, key: str | None = None
    ) -> Resource:
        headers = {"Idempotency-Key": key} if key else {}
        reply = self._send("POST", path, body=body, headers=headers, repeatable=key is not None)
        return model.model_validate(reply.json())

    def _put(self, model: type[Resource], path: str, body: Mapping[str, Any]) -> Resource:
        return model.model_validate(self._send("PUT", path, body=body, repeatable=True).json())

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> httpx.Response:
        wait = (query or {}).get("wait", 0.0)
        request = self._http.build_request(
            method,
            path,
            params=query,
            json=body,
            content=content,
            headers=headers,
            timeout=httpx.Timeout(TIMEOUT_S, read=TIMEOUT_S + wait),
        )
        reply = self._exchange(request, self._retry_delays_s if repeatable else ())
        if reply.is_error:
            raise refusal(reply)
        return reply

    def _exchange(self, request: httpx.Request, delays_s: tuple[float, ...]) -> httpx.Response:
        """Send; after a broken connection send the same request again, after each of the delays."""
        left = list(delays_s)
        while True:
            try:
                return self._http.send(request)
            except httpx.TransportError as error:
                if not left or not isinstance(error, BROKEN):
                    raise Unreachable(self.base_url, str(error) or type(error).__name__) from error
            time.sleep(left.pop(0))


def _trusting(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Believe this authority and no other, or else the system's."""
    return True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were given: the server's defaults are the server's."""
    return {name: value for name, value in fields.items() if value is not None}


def document(value: BaseModel | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dict(value)


def new_key() -> str:
    return uuid.uuid4().hex


def refusal(reply: httpx.Response) -> ApiError:
    try:
        problem = reply.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"title": reply.reason_phrase, "detail": reply.text[:500]}
    return ApiError(reply.status_code, problem)


def _explain(problem: Mapping[str, Any]) -> str:
    """The detail and, for a request that was not understood, each field with what is wrong with it."""
    errors = problem.get("errors") or []
    fields = "; ".join(f"{error.get('field')}: {error.get('message')}" for error in errors)
    return " ".join(part for part in (str(problem.get("detail", "")), fields) if part)
