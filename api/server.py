"""Run the application in uvicorn: announce where it listens, and end soon when told to."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from api.app import assemble, create_app
from api.deps import Parts
from api.settings import Settings
from fleet.db import now
from fleet.errors import InvalidSpec
from fleet.tenants import ensure_admin

KEEP_ALIVE_S = 90  # agents come back within their poll time: their connection should still be there
GRACE_S = 1  # for requests under way; parked ones are woken first


class Server(uvicorn.Server):
    """Says when it listens, and wakes parked requests before it waits for them to end."""

    def __init__(self, config: uvicorn.Config, parts: Parts, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._parts = parts
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then say where."""
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._listening(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wake every parked poll and stream, then end as uvicorn does."""
        self._parts.waits.close()
        await super().shutdown(sockets)


def make_server(parts: Parts, listening: Callable[[str], None], run_controllers: bool = True) -> Server:
    """A server over the parts; `listening` is called with its URL once it accepts connections."""
    config = uvicorn.Config(
        create_app(parts, run_controllers),
        host=parts.settings.host,
        port=parts.settings.port,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        access_log=parts.settings.access_log,
        log_level="info" if parts.settings.access_log else "warning",
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
    )
    return Server(config, parts, listening)


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `say` gets lines for the person who started it.

    Raises InvalidSpec for an address that may not be listened on, and for a data folder in use.
    """
    settings.check_listening()
    with _alone(settings.fleet.data):
        parts = assemble(settings)
        _say_admin_token(parts, say)

        def listening(url: str) -> None:
            say(f"tinyfleet listens on {url}   console: {url}/console")
            _write_ready_file(settings, url)

        server = make_server(parts, listening)
        with _quiet_signals():
            server.run()


def _say_admin_token(parts: Parts, say: Callable[[str], None]) -> None:
    path = parts.settings.fleet.admin_token_file
    with parts.write() as session:
        secret = ensure_admin(session, path, now(session))
    if secret is not None:
        say(f"admin token, shown this once and kept in {path}: {secret}")


def _write_ready_file(settings: Settings, url: str) -> None:
    if settings.ready_file is None:
        return
    document = {"url": url, "admin_token_file": str(settings.fleet.admin_token_file), "pid": os.getpid()}
    fresh = settings.ready_file.with_name(f"{settings.ready_file.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps(document) + "\n", encoding="utf-8")
    fresh.replace(settings.ready_file)


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the data folder: two servers on it would both decide. The lock ends with the process."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data / "server.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidSpec(
                "data", f"another server runs on {data}: stop it, or give another folder"
            ) from error
        yield


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn ends on SIGINT and SIGTERM and raises the signal again afterwards, which would kill the process
    with cleaning up undone: after it, both mean nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, lambda *_: None) for kind in kinds}
    try:
        yield
    finally:
        for kind, previous in before.items():
            signal.signal(kind, previous)
