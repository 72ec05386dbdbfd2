"""The web console: static files of `dashboards/console` under a content policy without exceptions."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

CONSOLE = Path(str(files("dashboards"))) / "console"
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, but asked for again each time: a new server has a new console
}


class Console(StaticFiles):
    """Files of a directory, `index.html` for the directory itself, each with the console's headers."""

    def __init__(self, directory: Path = CONSOLE) -> None:
        super().__init__(directory=directory, html=True)

    async def index(self, request: Request) -> Response:
        """The console's first page, at the folder's own address too."""
        return await self.get_response("index.html", request.scope)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file at a path with the console's headers. Raises HTTPException 404 and 405."""
        response = await super().get_response(path, scope)
        response.headers.update(HEADERS)
        return response
