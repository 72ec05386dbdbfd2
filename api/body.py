"""Request bodies: one that is too large is refused before it is read (by its declared length, else while it
arrives), and one that is read as JSON has to be JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet import documents

# A client that is still sending when its connection is closed sees a reset and no answer: so much of a refused
# body is read and thrown away first.
DRAIN_BYTES = 4 << 20
DRAIN_S = 1.0


class StrictRequest(Request):
    """A request whose JSON is RFC 8259's: what Python takes beyond that (NaN, half surrogate pairs) could be stored
    and would then make every answer that shows it fail."""

    async def json(self) -> Any:
        """The body's document. Raises JSONDecodeError."""
        try:
            return documents.read(await self.body())
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class StrictRoute(APIRoute):
    """A route that reads its body strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's application, over a StrictRequest."""
        serve = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await serve(StrictRequest(request.scope, request.receive))

        return strict


@dataclass(frozen=True)
class BodyLimit:
    """At most so many bytes for requests whose path begins with `prefix`."""

    prefix: str
    limit_bytes: int


class BodyTooLarge(HTTPException):
    """The body is, or grew, past its limit."""

    def __init__(self, limit_bytes: int) -> None:
        detail = f"the body may have at most {limit_bytes} bytes"
        super().__init__(413, detail, headers={"Connection": "close"})


class BodyLimits:
    """ASGI middleware. The first limit whose prefix matches counts; `otherwise_bytes` for all other paths."""

    def __init__(self, app: ASGIApp, limits: Sequence[BodyLimit], otherwise_bytes: int) -> None:
        self._app = app
        self._limits = tuple(limits)
        self._otherwise_bytes = otherwise_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, send, self._limit(scope["path"]))
        await self._app(scope, body.receive, body.send)

    def _limit(self, path: str) -> int:
        fitting = (rule.limit_bytes for rule in self._limits if path.startswith(rule.prefix))
        return next(fitting, self._otherwise_bytes)


class _Body:
    """One request's body: counts what arrives and ends it at the limit.

    The refusal is raised where the application reads, so that its own table of errors answers.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._send = send
        self._limit = limit
        self._declared = _number(headers.get(b"content-length", b""))
        self._waits_for_continue = b"expect" in headers
        self._size = 0
        self._more = True
        self._refused = False

    async def receive(self) -> Message:
        """The next part of the body. Raises BodyTooLarge."""
        if self._declared > self._limit:
            self._refuse()
        message = await self._next()
        if self._size > self._limit:
            self._refuse()
        return message

    async def send(self, message: Message) -> None:
        """Pass an answer on; before a refusal, let the client finish sending, within reason."""
        if message["type"] == "http.response.start" and self._refused and not self._waits_for_continue:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._drain()
        await self._send(message)

    async def _drain(self) -> None:
        enough = self._size + DRAIN_BYTES
        while self._more and self._size < enough:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        self._more = message.get("more_body", False)
        return message

    def _refuse(self) -> None:
        self._refused = True
        raise BodyTooLarge(self._limit)


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0  # the HTTP parser refuses what is not a number
