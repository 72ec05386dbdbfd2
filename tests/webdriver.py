"""A headless Chromium, driven over the WebDriver protocol with plain HTTP."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.parts import need

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 15_000
# The pages under test forbid eval: expressions become part of the script's text.
POLL = """
const [argument, done] = arguments;
(function look() {
  let found = null;
  try { found = (EXPRESSION); } catch { /* not there yet */ }
  if (found) done(found); else setTimeout(look, 40);
})();
"""


class Browser:
    """One tab. Conditions are polled inside the page, so that nothing sleeps out here."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._session = session
        self._post("/timeouts", script=PATIENCE_MS)

    def open(self, address: str) -> None:
        """Load a page, even when only the fragment of the address differs."""
        self._post("/url", url="about:blank")
        self._post("/url", url=address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the script returns; its arguments are `arguments[0]` and on."""
        return self._post("/execute/sync", script=script, args=list(arguments))

    def until(self, expression: str, argument: Any = None) -> Any:
        """Wait until a JavaScript expression over `argument` is true; its value."""
        return self._post("/execute/async", script=POLL.replace("EXPRESSION", expression), args=[argument])

    def module(self, path: str, body: str) -> Any:
        """What the async function `body` over the module `m` (a file of the console) returns."""
        script = f"const [path, done] = arguments; import(path).then(async (m) => {{ {body} }}).then(done)"
        return self._post("/execute/async", script=script, args=[path])

    def text(self, selector: str) -> str:
        """The text of the first element that matches, as it is in the document."""
        return str(self.run("return document.querySelector(arguments[0])?.textContent ?? ''", selector))

    def click(self, selector: str) -> None:
        """Click the first element that matches."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def complaints(self) -> list[str]:
        """Errors and warnings in the browser's console since the last call: CSP violations are among them."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._post("/se/log", type="browser")]

    def resize(self, width: int, height: int) -> None:
        """Give the page exactly this many pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def scheme(self, name: str) -> None:
        """Prefer light or dark colours."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Save what is visible as a PNG."""
        path.write_bytes(base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"]))

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of the DevTools protocol."""
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def _post(self, path: str, **body: Any) -> Any:
        reply = self._http.post(self._session + path, json=body)
        value = reply.json()["value"]
        assert reply.is_success, f"{path} {body}: {value['error']}: {value['message']}"
        return value


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser with a new profile, until the block ends."""
    chromium, driver = _program(*CHROMIUM), _program("chromedriver")
    process = subprocess.Popen(
        [driver, "--port=0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{_port(process)}", timeout=60.0) as http:
            session = _session(http, chromium, profile)
            yield Browser(http, session)
            http.delete(session)
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        # Its history holds the addresses that were typed, tokens with them: it is the browser's, not what we wrote.
        shutil.rmtree(profile, ignore_errors=True)


def _program(*names: str) -> str:
    return need(*names, install="chromium chromium-driver")


def _port(process: subprocess.Popen[str]) -> int:
    """chromedriver takes a free port and prints it."""
    assert process.stdout is not None
    for line in process.stdout:
        if started := re.search(r"started successfully on port (\d+)", line):
            return int(started[1])
    pytest.fail(f"chromedriver ended with exit code {process.wait()}")


def _session(http: httpx.Client, chromium: str, profile: Path) -> str:
    options = {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}", "--window-size=1280,900"]}
    wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
    reply = http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
    assert "sessionId" in reply, reply
    return f"/session/{reply['sessionId']}"
