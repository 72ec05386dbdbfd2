"""A real Prometheus for a test: the project's own configuration, faster, against a server on a free port."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.dashboards.expressions import substituted
from tests.parts import need
from tests.whole import ROOT, until


@dataclass(frozen=True)
class Prometheus:
    """One that runs."""

    http: httpx.Client

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The vector, or the one scalar, that an expression gives now."""
        reply = self.http.post("/api/v1/query", data={"query": substituted(expr)})
        assert reply.status_code == 200, f"{expr}: {reply.text}"
        data = reply.json()["data"]
        found: list[dict[str, Any]] = data["result"] if data["resultType"] == "vector" else [data]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health."""
        groups = self.http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert that is pending or firing."""
        found: list[dict[str, Any]] = self.http.get("/api/v1/alerts").json()["data"]["alerts"]
        return found


def configuration(server: str, every: str) -> str:
    """infra/prometheus.yml for another server and other intervals."""
    text = (ROOT / "infra" / "prometheus.yml").read_text()
    address = server.removeprefix("http://")
    text = text.replace("127.0.0.1:8000", address)
    text = re.sub(r"(scrape_interval|evaluation_interval|refresh_interval): \w+", rf"\1: {every}", text)
    text = re.sub(r"scrape_timeout: \w+", f"scrape_timeout: {every}", text)
    return re.sub(r"alerting:.*?(?=^scrape_configs)", "", text, flags=re.MULTILINE | re.DOTALL)


def hurry(rules: Path) -> None:
    """Let the alerts wait for seconds where they wait for minutes; what they look for stays the same."""
    text = rules.read_text()
    rules.write_text(re.sub(r"^( +for: \d+)m$", r"\1s", text, flags=re.MULTILINE))


@contextmanager
def running(folder: Path, server: str, token: str, every: str = "5s") -> Iterator[Prometheus]:
    """Prometheus over the server until the block ends, its alerts hurried."""
    program = need("prometheus", install="prometheus")
    shutil.copytree(ROOT / "dashboards" / "rules", folder / "rules")
    hurry(folder / "rules" / "alerts.yml")
    (folder / "prometheus.yml").write_text(configuration(server, every))
    (folder / "tinyfleet-token").write_text(token)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (folder / "log").open("wb")
    options = [
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    process = subprocess.Popen(
        [program, *options, "--log.level=warn"], cwd=folder, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as http:

            def ready() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    return http.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready, "Prometheus is ready", 60.0)
            yield Prometheus(http)
    finally:
        process.terminate()
        process.wait(30)
        log.close()
