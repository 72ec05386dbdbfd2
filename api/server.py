"""Run the application in uvicorn: announce where it listens, and end soon when told to."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import uvicorn

from api.app import assemble, create_app
from api.connections import Addresses, TimedConnection
from api.deps import Parts
from api.listening import listening_on
from api.settings import Settings
from fleet.db import now
from fleet.errors import InvalidSpec
from fleet.tenants import ensure_admin

KEEP_ALIVE_S = 90  # agents come back within their poll time: their connection should still be there
# A request is many short turns of the event loop, and each waits for a thread that computes (a tick of the controllers) to
# let go of the interpreter: Python's own 5 ms a turn made scrapes of 300 nodes take 300 ms.
TURN_S = 0.0005
GRACE_S = 5  # for requests under way on a busy machine; parked ones are woken first and end at once


# Every logger of the process writes JSON lines to stderr, redacted; uvicorn's own too.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": "fleet.redaction.JsonLines"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {"uvicorn.access": {"level": "INFO"}, "uvicorn.error": {"level": "INFO"}},
}


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
        scheme = "https" if self.config.is_ssl else "http"
        self._listening(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wake every parked poll and stream, then end as uvicorn does, and leave no connection open."""
        self._parts.waits.close()
        await super().shutdown(sockets)
        await asyncio.sleep(0)  # what was accepted last becomes a connection
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # their sockets are closed


def make_server(parts: Parts, listening: Callable[[str], None], run_controllers: bool = True) -> Server:
    """A server over the parts; `listening` is called with its URL once it accepts connections."""
    config = uvicorn.Config(
        create_app(parts, run_controllers),
        host=parts.settings.host,
        port=parts.settings.port,
        http=partial(TimedConnection, Addresses(parts.settings.connection_limits)),  # type: ignore[arg-type]
        ssl_certfile=parts.settings.tls_cert,
        ssl_keyfile=parts.settings.tls_key,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        access_log=parts.settings.access_log,
        log_level="info" if parts.settings.access_log else "warning",
        log_config=LOGGING,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
    )
    return Server(config, parts, listening)


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. `say` gets lines for the person who started it.

    Raises InvalidSpec for an address that may not or cannot be listened on, and for a data folder or a ready file
    that is in use or cannot be written. The port is ours before anything is made or said.
    """
    settings.check_listening()
    _check_ready_file(settings.ready_file)
    sys.setswitchinterval(TURN_S)
    with listening_on(settings.host, settings.port) as sockets, _alone(settings.fleet.data):
        parts = assemble(settings)
        _say_where_admin_token_is(parts, say)

        def listening(url: str) -> None:
            _keep_for_good()
            say(f"tinyfleet listens on {url}   console: {url}/console")
            _write_ready_file(settings, url)

        server = make_server(parts, listening)
        with _quiet_signals():
            server.run(sockets)


def _keep_for_good() -> None:
    """What has been made by now is never garbage: the collector looks at it no more. A full collection stopped every
    thread for a fifth of a second and found nothing."""
    gc.collect()
    gc.freeze()


def _say_where_admin_token_is(parts: Parts, say: Callable[[str], None]) -> None:
    """Make it at the first start. It is not printed: what a service prints is a log that others read."""
    path = parts.settings.fleet.admin_token_file
    with parts.write() as session:
        secret = ensure_admin(session, path, now(session))
    if secret is not None:
        say(f"admin token: made, and kept in {path} (mode 0600; nobody else has it)")


def _write_ready_file(settings: Settings, url: str) -> None:
    if settings.ready_file is None:
        return
    document = {"url": url, "admin_token_file": str(settings.fleet.admin_token_file), "pid": os.getpid()}
    fresh = settings.ready_file.with_name(f"{settings.ready_file.name}.{os.getpid()}.new")
    fresh.write_text(json.dumps(document) + "\n", encoding="utf-8")
    fresh.replace(settings.ready_file)


def _check_ready_file(path: Path | None) -> None:
    """Refuse now what would end the server once it listens."""
    if path is None:
        return
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InvalidSpec(
            "--ready-file", f"{path} cannot be written: give a file in a folder that you can write to"
        )


def _held(data: Path) -> IO[str]:
    """The data folder, made if need be, and its lock's file."""
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (data / "server.lock").open("w")
    except OSError as error:
        raise InvalidSpec(
            "--data", f"{data} cannot be used: {error.strerror}; give a folder that you can write to"
        ) from error


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Hold the data folder: two servers on it would both decide. The lock ends with the process."""
    with _held(data) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidSpec(
                "--data", f"another server runs on {data}: stop it, or give another folder"
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
