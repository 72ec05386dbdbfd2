"""The control plane's side of the agent protocol over real HTTP, with its rules kept in memory, for testing agents."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fleet.agents.keys import Signer
from fleet.agents.protocol import (
    AttemptReport,
    AttemptSpec,
    Desired,
    EnrollRequest,
    EnrollResponse,
    HandedSecrets,
    LogAck,
    Observed,
    RotateRequest,
    RotateResponse,
    blob_address,
)
from fleet.agents.signature import SERVER_TIME, Malformed, body_digest, key_id, parse
from fleet.identities import right

JOIN_TOKEN = "tfj_join-canary"
DEADLINE_S = 60.0


class FarEnd:
    """One fleet of one node. Attempts are added with `submit` and leave `desired` when they have been reported."""

    def __init__(self, *, lease_s: float = 20.0, poll_s: float = 5.0) -> None:
        self.lease_s, self.poll_s = lease_s, poll_s
        self.changed = threading.Condition()
        self.generation = 1
        self.wanted: dict[int, AttemptSpec] = {}
        self.reports: dict[int, list[AttemptReport]] = {}
        self.settled: list[int] = []
        self.settles = True
        self.enrolments: list[EnrollRequest] = []
        self.keys: dict[str, str] = {}  # id → public key: whose signatures are accepted
        self.ahead_s = 0.0  # how far its clock is from the machine's
        self.rotate = False  # ask for a new key
        self.observed: list[Observed] = []
        self.logs: dict[tuple[int, int], bytearray] = {}
        self.runs: dict[tuple[int, int], list[tuple[str, bytes]]] = {}  # (stream's letter, bytes)
        self.log_chunks: list[tuple[int, int]] = []  # (offset, length)
        self.blobs: dict[str, bytes] = {}
        self.secrets: dict[int, dict[str, str]] = {}  # attempt → variable → value
        self.largest_blob = 1 << 30
        self.answer_with: int | None = None  # a status for every request, when set
        self.silent = False  # connections are cut without an answer
        self.closing = False
        self.expositions: list[str] = []
        self.metrics_s = 0.5
        self._server = _Server(("127.0.0.1", 0), _Exchange)
        self._server.far_end = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def open(self) -> FarEnd:
        self._thread.start()
        return self

    def close(self) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.cut_all()
        self._server.server_close()

    def submit(self, spec: dict[str, Any], *, fence: int = 1, **fields: Any) -> int:
        """Want one more attempt; returns its id."""
        with self.changed:
            attempt_id = max(self.wanted | dict.fromkeys(self.reports), default=0) + 1
            document = {"timeout_s": 60.0, "device": "cpu", "exclusive": False} | fields
            self.wanted[attempt_id] = AttemptSpec.model_validate(
                document | {"attempt_id": attempt_id, "job_id": attempt_id, "fence": fence, "spec": spec}
            )
            self.turn()
            return attempt_id

    def withdraw(self, attempt_id: int) -> None:
        """Want it no more, as a cancellation does."""
        with self.changed:
            del self.wanted[attempt_id]
            self.turn()

    def settle(self, attempt_id: int) -> None:
        """Record at last how it ended."""
        with self.changed:
            self.settles = True
            self.settled.append(attempt_id)
            self.wanted.pop(attempt_id, None)
            self.turn()

    def turn(self) -> None:
        """A new desired state; call with `changed` held."""
        self.generation += 1
        self.changed.notify_all()

    def go_silent(self) -> None:
        """Cut every connection, and every new one: the network is gone."""
        with self.changed:
            self.silent = True
            self.changed.notify_all()
        self._server.cut_all()

    def wait(self, condition: Callable[[], Any], what: str = "") -> Any:
        """Until `condition()` is true of what has been received; fails the test after the deadline."""
        with self.changed:
            assert self.changed.wait_for(condition, DEADLINE_S), f"never: {what or condition} {self.reports}"
            return condition()

    def wait_exit(self, attempt_id: int) -> AttemptReport:
        """The report that says how the attempt ended."""
        self.wait(lambda: self.exit(attempt_id), f"exit of attempt {attempt_id}")
        ended = self.exit(attempt_id)
        assert ended is not None
        return ended

    def exit(self, attempt_id: int) -> AttemptReport | None:
        return next((item for item in self.reports.get(attempt_id, []) if item.state == "exited"), None)

    def wait_running(self, attempt_id: int, step: str | None = None) -> None:
        """Until the attempt is reported as running, and its task as having come to `step`."""
        self.wait(
            lambda: any(
                item.state == "running" and (step is None or (item.progress or {}).get("step") == step)
                for item in self.reports.get(attempt_id, [])
            ),
            f"attempt {attempt_id} running, {step}",
        )

    # ------------------------------------------------------------------------------------- the exchanges

    def knows(self, signer: Signer) -> Signer:
        """Accept what this signer signs."""
        self.keys[signer.key.id] = signer.key.public
        return signer

    def time(self) -> float:
        """Its clock."""
        return time.time() + self.ahead_s

    def accepts(self, method: str, target: str, body: bytes, header: str) -> bool:
        """Whether this request is signed by a key that is known, now."""
        try:
            signed = parse(header)
        except Malformed:
            return False
        fresh = abs(signed.at - self.time()) <= 60 and signed.digest == body_digest(body)
        public = self.keys.get(signed.key)
        return fresh and public is not None and right(public, signed.signature, signed.text(method, target))

    def rotated(self, request: RotateRequest) -> RotateResponse:
        """Accept the next key, and no other."""
        name = key_id(bytes.fromhex(request.public_key))
        self.keys, self.rotate = {name: request.public_key}, False
        return RotateResponse(key=name)

    def enroll(self, request: EnrollRequest) -> EnrollResponse:
        with self.changed:
            self.enrolments.append(request)
            self.keys[key_id(bytes.fromhex(request.public_key))] = request.public_key
        return EnrollResponse(node_id=7, name=request.name)

    def sync(self, observed: Observed) -> Desired | int:
        with self.changed:
            if any(_number(observed) <= _number(earlier) for earlier in self.observed):
                return 409
            self.observed.append(observed)
            for report in observed.attempts:
                self._record(report)
            self.changed.notify_all()
            self.changed.wait_for(
                lambda: self.generation > observed.generation or self.closing or self.silent, observed.wait_s
            )
            return Desired(
                generation=self.generation,
                attempts=list(self.wanted.values()),
                settled=self.settled,
                lease_s=self.lease_s,
                poll_s=self.poll_s,
                rotate_key=self.rotate,
            )

    def _record(self, report: AttemptReport) -> None:
        self.reports.setdefault(report.attempt_id, []).append(report)
        if report.state == "exited" and self.settles and report.attempt_id not in self.settled:
            self.settled.append(report.attempt_id)
            self.wanted.pop(report.attempt_id, None)
            self.turn()

    def append_log(self, attempt_id: int, fence: int, offset: int, chunk: bytes, runs: str) -> LogAck:
        with self.changed:
            log = self.logs.setdefault((attempt_id, fence), bytearray())
            if offset == len(log):
                log += chunk
                self.log_chunks.append((offset, len(chunk)))
                self._note_runs((attempt_id, fence), runs, chunk)
            self.changed.notify_all()
            return LogAck(offset=len(log))

    def _note_runs(self, key: tuple[int, int], runs: str, chunk: bytes) -> None:
        at = 0
        for run in runs.split("."):
            self.runs.setdefault(key, []).append((run[0], chunk[at : at + int(run[1:])]))
            at += int(run[1:])
        assert at == len(chunk)

    def stream(self, attempt_id: int, letter: str) -> bytes:
        """What came by one stream of an attempt: o, e, or s for the agent's notes."""
        return b"".join(said for which, said in self.runs.get((attempt_id, 1), []) if which == letter)


def _number(observed: Observed) -> tuple[str, int]:
    return observed.boot_id, observed.sequence


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    far_end: FarEnd

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.connections: set[socket.socket] = set()

    def cut_all(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that was killed cuts its connections; nothing to say about that."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # header and body are two writes; the second would wait 40 ms
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""

    def _serve(self) -> None:
        far_end = self.server.far_end
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        status, content = self._answer(far_end, urlsplit(self.path), body)
        if far_end.silent:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        if status == 401:
            self.send_header(SERVER_TIME, str(int(far_end.time() * 1000)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = _serve

    def _answer(self, far_end: FarEnd, url: Any, body: bytes) -> tuple[int, bytes]:
        if far_end.answer_with is not None:
            return far_end.answer_with, _problem(far_end.answer_with)
        parts = url.path.strip("/").split("/")
        shown = self.headers.get("authorization", "")
        joins = parts[-1] == "enroll"
        if not (shown == f"Bearer {JOIN_TOKEN}" if joins else self._signed(far_end, body, shown)):
            return 401, _problem(401)
        if parts == ["v1", "agents", "keys"]:
            return 200, _json(far_end.rotated(RotateRequest.model_validate_json(body)))
        if joins:
            return 200, _json(far_end.enroll(EnrollRequest.model_validate_json(body)))
        if parts == ["v1", "agents", "sync"]:
            desired = far_end.sync(Observed.model_validate_json(body))
            return (desired, _problem(desired)) if isinstance(desired, int) else (200, _json(desired))
        if parts == ["v1", "agents", "metrics"]:
            assert self.headers["content-type"].startswith("text/plain")
            assert self.headers["content-encoding"] == "gzip"
            with far_end.changed:
                far_end.expositions.append(gzip.decompress(body).decode())
                far_end.changed.notify_all()
            return 200, json.dumps({"interval_s": far_end.metrics_s}).encode()
        if parts[:3] == ["v1", "agents", "attempts"]:
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if parts[4] == "secrets":
                wanted = far_end.secrets.get(int(parts[3]))
                return (404, _problem(404)) if wanted is None else (200, _json(HandedSecrets(secrets=wanted)))
            fence, offset = int(query["fence"]), int(query["offset"])
            return 200, _json(far_end.append_log(int(parts[3]), fence, offset, body, query["runs"]))
        return self._blob(far_end, parts[2], body)

    def _signed(self, far_end: FarEnd, body: bytes, header: str) -> bool:
        return far_end.accepts(self.command, self.path, body, header)

    def _blob(self, far_end: FarEnd, address: str, body: bytes) -> tuple[int, bytes]:
        if self.command == "PUT":
            if len(body) > far_end.largest_blob:
                return 413, _problem(413)
            assert blob_address(body) == address
            far_end.blobs[address] = body
            return 201, b""
        return (200, far_end.blobs[address]) if address in far_end.blobs else (404, _problem(404))


def _json(model: Any) -> bytes:
    return bytes(model.model_dump_json(by_alias=True), "utf-8")


def _problem(status: int) -> bytes:
    return json.dumps(
        {"title": "NotAnswered", "detail": f"the far end answers {status}", "status": status}
    ).encode()
