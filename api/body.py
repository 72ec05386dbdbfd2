"""Request bodies: one that is too large is refused before it is read (by its declared length, else while it
arrives), one that is still arriving when the server stops is given up, and one that is read as JSON has to be JSON.
Query parameters that a route does not have are refused like fields."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.gates import gates_of
from api.waits import Closed, Waits
from fleet import documents

# A client that is still sending when its connection is closed sees a reset and no answer: so much of a refused
# body is read and thrown away first.
DRAIN_BYTES = 4 << 20
DRAIN_S = 1.0
MOST_HELD_BYTES = 1 << 30  # of all bodies that are under way
MIB = 1 << 20
WAITED_S = 1.0  # who waited longer for what there is to see is looked up again
_SAFE = frozenset({"GET", "HEAD"})
VALUES_PER_MIB = 65_536  # of a document, in each MiB that it has begun


# A proxy may go by the one and this server by the other: what the proxy takes for the rest of a body would be a request of
# its own here, of whoever sends next (RFC 9112, 6.3). The connection is of no use any more.
TWO_LENGTHS = PlainTextResponse(
    "give Content-Length or Transfer-Encoding, and not both", 400, {"Connection": "close"}
)


class NotJson(HTTPException):
    """The body is not said to be JSON."""

    def __init__(self) -> None:
        super().__init__(415, "send the body as JSON, with the header Content-Type: application/json")


class RepeatedKey(HTTPException):
    """An object of the body has a key twice; `field` is where."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(422, f"{field}: it is given more than once")


class StrictRequest(Request):
    """A request whose JSON is RFC 8259's: what Python takes beyond that (NaN, half surrogate pairs) could be stored
    and would then make every answer that shows it fail. An object's keys are given once."""

    takes_json = False
    from_node = False

    async def body(self) -> bytes:
        """The body as it is. Raises NotJson where JSON is due and something else was sent."""
        content = await super().body()
        if content and self.takes_json and not _says_json(self.headers.get("content-type", "")):
            raise NotJson
        return content

    async def json(self) -> Any:
        """The body's document. Raises JSONDecodeError and RepeatedKey."""
        content = await self.body()
        try:
            if (
                not self.from_node
            ):  # whose results are others' and were looked at there, and which has to be heard
                documents.check_size(content, VALUES_PER_MIB * (1 + len(content) // MIB))
            document = documents.read(content)
            twice = documents.repeated_key(content)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error
        if twice is not None:
            raise RepeatedKey(twice)
        return document


def _says_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


class StrictRoute(APIRoute):
    """A route that reads its body strictly and after its gates, and takes no query parameters but those that it declares."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's application, over a StrictRequest."""
        check = Depends(KnownQuery(frozenset(_query_names(self.dependant))))
        # the last one: who may not use the route is told that first
        self.dependant.dependencies.append(
            get_parameterless_sub_dependant(depends=check, path=self.path_format)
        )
        serve = super().get_route_handler()
        takes_json = self.body_field is not None
        from_node = self.path.startswith("/v1/agents/")
        gates = gates_of(self.dependant)

        async def strict(request: Request) -> Response:
            asked = StrictRequest(request.scope, request.receive)
            asked.takes_json = takes_json
            asked.from_node = from_node
            for gate in gates:
                await gate.admit(asked)
            began = time.monotonic()
            response = await serve(asked)
            if request.method in _SAFE and time.monotonic() - began > WAITED_S:
                for gate in gates:
                    await gate.still(asked)
            return response

        return strict


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (each.alias for each in dependant.query_params)
    for below in dependant.dependencies:
        yield from _query_names(below)


@dataclass(frozen=True)
class KnownQuery:
    """A dependency: the request has no query parameters but these."""

    names: frozenset[str]

    async def __call__(self, request: Request) -> None:
        """Raises RequestValidationError that names each other one."""
        unknown = [name for name in request.query_params if name not in self.names]
        if unknown:
            there_is = f"; there is {', '.join(sorted(self.names))}" if self.names else ""
            said = {"type": "unknown_parameter", "msg": f"unknown parameter{there_is}"}
            raise RequestValidationError([{**said, "loc": ("query", name)} for name in unknown])


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


class Full(HTTPException):
    """So much of other bodies is being taken in that there is no room for this one."""

    def __init__(self) -> None:
        detail = "too many bodies are being sent at once: send it again in a while"
        super().__init__(503, detail, headers={"Connection": "close", "Retry-After": "5"})


class Stopping(HTTPException):
    """The server stops, and the body has not arrived."""

    def __init__(self) -> None:
        detail = "the server is stopping: send it again when it is back"
        super().__init__(503, detail, headers={"Connection": "close"})


class Bodies:
    """ASGI middleware: how long a body may be, and that the server's stop does not wait for one.

    The first limit whose prefix matches counts; `otherwise_bytes` for all other paths.
    """

    def __init__(self, app: ASGIApp, waits: Waits, limits: Sequence[BodyLimit], otherwise_bytes: int) -> None:
        self._app = app
        self._waits = waits
        self._limits = tuple(limits)
        self._otherwise_bytes = otherwise_bytes
        self._held = Held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:
            await TWO_LENGTHS(scope, receive, send)
            return
        body = _Body(scope, receive, send, self._waits, self._limit(scope["path"]), self._held)
        try:
            await self._app(scope, body.receive, body.send)
        finally:
            self._held.bytes -= body.size

    def _limit(self, path: str) -> int:
        fitting = (rule.limit_bytes for rule in self._limits if path.startswith(rule.prefix))
        return next(fitting, self._otherwise_bytes)


@dataclass
class Held:
    """How much of all bodies is in memory now."""

    bytes: int = 0


class _Body:
    """One request's body: counts what arrives, ends it at the limit, and gives it up when the server stops.

    The refusal is raised where the application reads, so that its own table of errors answers.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, waits: Waits, limit: int, held: Held
    ) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._send = send
        self._waits = waits
        self._limit = limit
        self._declared = _number(headers.get(b"content-length", b""))
        self._waits_for_continue = b"expect" in headers
        self._held = held
        self.size = 0
        self._more = True
        self._answering = False

    async def receive(self) -> Message:
        """The next part of the body. Raises BodyTooLarge, Full and Stopping."""
        if self._declared > self._limit:
            raise BodyTooLarge(self._limit)
        message = await self._next_unless_stopping()
        if self.size > self._limit:
            raise BodyTooLarge(self._limit)
        if self._held.bytes > MOST_HELD_BYTES:
            raise Full
        return message

    async def _next_unless_stopping(self) -> Message:
        if self._answering or not self._more:  # what is waited for is the client's end, not its body
            return await self._next()
        try:
            return await self._waits.unless_closed(self._next())
        except Closed:
            raise Stopping() from None

    async def send(self, message: Message) -> None:
        """Pass an answer on; before a refusal, let the client finish sending, within reason."""
        self._answering = True
        refusal = message["type"] == "http.response.start" and message["status"] >= 400
        if refusal and not self._waits_for_continue:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_S):
                    await self._drain()
        await self._send(message)

    async def _drain(self) -> None:
        enough = self.size + DRAIN_BYTES
        while self._more and self.size < enough:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        arrived = len(message.get("body", b""))
        self.size += arrived
        self._held.bytes += arrived
        self._more = message.get("more_body", False)
        return message


def _number(text: bytes) -> int:
    return int(text) if text.isdigit() else 0  # the HTTP parser refuses what is not a number
