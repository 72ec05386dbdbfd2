"""The real server in a thread: what a browser and the command line talk to in tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from api.app import assemble
from api.server import make_server
from api.settings import Settings as ServerSettings
from fleet.settings import Settings

STARTS_WITHIN_S = 20.0


@dataclass(frozen=True)
class Served:
    """A real server in a thread; `stop` does what SIGTERM does."""

    url: str
    token: str
    stop: Callable[[], None]

    @property
    def address(self) -> str:
        """The console with the token in the fragment."""
        return f"{self.url}/console#token={self.token}"


@contextmanager
def serving(settings: Settings, token: str, port: int = 0) -> Iterator[Served]:
    """uvicorn and the controllers on a loopback port, a free one unless it is given."""
    urls: list[str] = []
    listening = threading.Event()

    def note(url: str) -> None:
        urls.append(url)
        listening.set()

    parts = assemble(ServerSettings(fleet=settings, port=port))
    server = make_server(parts, note)
    thread = threading.Thread(target=server.run, name="server")
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join(STARTS_WITHIN_S)
        assert not thread.is_alive()

    try:
        assert listening.wait(STARTS_WITHIN_S)
        yield Served(urls[0], token, stop)
    finally:
        stop()
