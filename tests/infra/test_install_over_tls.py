"""The installer from a real server with a lab's certificate, by way of a real proxy."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import authority, releases
from fleet.settings import Settings
from tests import releases as making
from tests.api.conftest import Served
from tests.api.test_tls import secure
from tests.parts import need


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy for CONNECT; it remembers what it was asked for."""

    allow_reuse_address = True
    daemon_threads = True
    asked: list[str]


class Tunnel(socketserver.StreamRequestHandler):
    """One CONNECT."""

    server: Proxy

    def handle(self) -> None:
        first = self.rfile.readline().decode()
        while self.rfile.readline().strip():
            pass
        self.server.asked.append(first.strip())
        host, _, port = first.split()[1].rpartition(":")
        with socket.create_connection((host, int(port))) as far:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pour, args=(far, self.connection))
            back.start()
            _pour(self.connection, far)
            back.join()


def _pour(source: socket.socket, into: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            into.sendall(piece)
        into.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", 0), Tunnel) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The folder of a lab's authority."""
    authority.init(tmp_path / "ca", "the lab", authority.PERMITTED)
    return tmp_path / "ca"


@pytest.fixture
def served(settings: Settings, tmp_path: Path, lab: Path) -> Iterator[Served]:
    """A server with the lab's certificate and one small release."""
    for name in ("ssh-keygen", "curl"):
        need(name, install={"ssh-keygen": "openssh-client"}.get(name, name))
    releases.add(making.small_release(tmp_path / "built", "1.0.0", tmp_path / "key"), settings.releases)
    with secure(settings, tmp_path, lab) as found:
        yield found


def install(
    served: Served, root: Path, ca: Path, command: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Fetch the script with curl, and run it with this command."""
    plain = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    url = served.url.replace("127.0.0.1", "localhost")
    line = f"curl -fsSL --cacert {ca} {url}/install.sh | {command}"
    told = {
        "PATH": path,
        "TINYFLEET_INSTALL_ROOT": str(root),
        "TINYFLEET_JOIN_TOKEN": "tfj_canary",
        **environ,
    }
    return subprocess.run(
        ["sh", "-c", line], env={**plain, **told}, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.slow
def test_it_installs_through_a_proxy_and_pins_the_labs_authority(
    served: Served, proxy: Proxy, tmp_path: Path, lab: Path
) -> None:
    through = f"http://127.0.0.1:{proxy.server_address[1]}"
    done = install(served, tmp_path / "root", lab / "ca.pem", "sh", https_proxy=through)
    assert done.returncode == 0, done.stderr
    port = served.url.rpartition(":")[2]
    assert set(proxy.asked) == {f"CONNECT localhost:{port} HTTP/1.1"}
    etc = tmp_path / "root" / "etc" / "tinyfleet"
    assert (etc / "ca.pem").read_text() == (lab / "ca.pem").read_text()
    told = (etc / "agent.env").read_text()
    assert f"TINYFLEET_URL=https://localhost:{port}" in told
    assert "TINYFLEET_CA_FILE=/etc/tinyfleet/ca.pem" in told
    assert f"HTTPS_PROXY={through}" in told


@pytest.mark.slow
def test_without_curl_python_fetches_with_the_same_authority(
    served: Served, tmp_path: Path, lab: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in (
        "sh",
        "uname",
        "id",
        "ssh-keygen",
        "sha256sum",
        "awk",
        "mktemp",
        "rm",
        "cp",
        "cat",
        "grep",
        "cmp",
    ):
        (bare / name).symlink_to(need(name, install="coreutils"))
    for name in ("stat", "mkdir", "chmod", "mv", "sed"):
        (bare / name).symlink_to(need(name, install="coreutils"))
    (bare / "python3").symlink_to(sys.executable)
    done = install(served, tmp_path / "root", lab / "ca.pem", f"PATH={bare} sh -s -- --dry-run")
    assert done.returncode == 0, done.stderr
    assert "would install 1.0.0" in done.stderr


def test_a_server_of_another_authority_gives_no_release(served: Served, tmp_path: Path, lab: Path) -> None:
    authority.init(tmp_path / "other", "the lab", authority.PERMITTED)
    wrong = tmp_path / "other" / "ca.pem"
    done = install(served, tmp_path / "root", lab / "ca.pem", f"sh -s -- --ca-file {wrong}")
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert not (tmp_path / "root").exists()
