"""What a new node asks before anybody knows it: the installer, with this server's address in it, and a release's files.

Both are public: a machine that is not in the fleet yet has no token. There is nothing secret in them, and what they
install is signed; each address may fetch so many files a minute.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse

from api.auth import Reader
from api.body import StrictRoute
from api.deps import Parts, PartsDep
from api.errors import TooOften
from api.routing import Router
from api.schemas import problems
from fleet import authority, releases, updates
from fleet.resources import Page
from fleet.update_resources import Release

router = Router(tags=["releases"], route_class=StrictRoute, responses=problems(422, 503))
SHELL = "text/x-shellscript"
BINARY = "application/octet-stream"


def within_rate(request: Request, parts: PartsDep) -> None:
    """Raises TooOften (429) for an address that fetches more than an installation needs."""
    if parts.settings.behind_tls_proxy or request.client is None:
        return  # every address is the proxy's, which counts them
    wait_s = parts.downloads.take(request.client.host)
    if wait_s > 0:
        raise TooOften(wait_s)


WithinRate = Annotated[None, Depends(within_rate)]


@router.get(
    "/install.sh",
    summary="The installer of an agent, with this server's address filled in",
    response_class=PlainTextResponse,
    responses=problems(404, 429) | {200: {"content": {SHELL: {"schema": {"type": "string"}}}}},
)
def install_script(request: Request, parts: PartsDep, _: WithinRate) -> Response:
    """`curl -fsSL https://FLEET/install.sh | sudo TINYFLEET_JOIN_TOKEN_FILE=join-token sh`. It installs the version that
    the fleet is meant to run, or, while canaries try that, the one that most nodes run, or the newest release; where this server's certificate is of a lab's own authority, that
    authority is in it."""
    folder = parts.settings.fleet.releases
    with parts.read() as session:
        wanted = updates.installed(session, folder) or releases.newest(folder).version
    certificate = parts.settings.tls_cert
    lab = None if certificate is None else authority.behind(certificate)
    text = releases.script(folder, wanted, address(request, parts), lab)
    return PlainTextResponse(text, media_type=SHELL, headers={"Cache-Control": "no-store"})


def address(request: Request, parts: Parts) -> str:
    """Where nodes reach this server: as it was told, or as whoever asks has reached it."""
    if parts.settings.public_url:
        return parts.settings.public_url
    tls = parts.settings.tls_cert is not None or parts.settings.behind_tls_proxy
    host = request.headers.get("host", "").replace("/", " ")  # a path has no place there
    return releases.check_address(f"{'https' if tls else 'http'}://{host}")


@router.get(
    "/v1/releases/{version}/{file}",
    summary="A file of a release",
    response_class=FileResponse,
    responses=problems(404, 429)
    | {200: {"content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
)
def release_file(version: str, file: str, parts: PartsDep, _: WithinRate) -> Response:
    """The signed sums, the installer, units, and the wheels that nodes install."""
    return FileResponse(releases.file(parts.settings.fleet.releases, version, file), media_type=BINARY)


@router.get("/v1/releases", summary="The releases that nodes can install", responses=problems(401, 403))
def list_releases(principal: Reader, parts: PartsDep) -> Page[Release]:
    """The newest first, all of them on one page."""
    found = releases.listed(parts.settings.fleet.releases)
    return Page(items=[Release.model_validate(each) for each in found], next=None)
