from __future__ import annotations

import pytest
from starlette.testclient import TestClient

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/index.html", "/console/app.js"])
def test_the_console_is_served_under_a_strict_policy(http: TestClient, path: str) -> None:
    reply = http.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.headers["cache-control"] == "no-cache"


def test_the_browser_asks_again_and_is_told_when_nothing_changed(http: TestClient) -> None:
    first = http.get("/console/app.js")
    again = http.get("/console/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path",
    [
        "/console/../fleet/models.py",
        "/console/%2e%2e/__init__.py",
        "/console/..%2f__init__.py",
        "/console//etc/passwd",
        "/console/%00",
        "/console/nothing.js",
    ],
)
def test_nothing_but_the_console_is_served(http: TestClient, path: str) -> None:
    assert http.get(path).status_code == 404


def test_the_console_takes_no_other_method(http: TestClient) -> None:
    assert http.post("/console/app.js").status_code == 405
