"""`python -m api`: run the server."""

from __future__ import annotations

import typer

from api.cli import serve

if __name__ == "__main__":
    typer.run(serve)
