"""Ids in paths, and lists page by page: a cursor instead of an offset, so that a page costs the same wherever it
lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Path, Query

from fleet.agents.protocol import LARGEST_INT

LONGEST_PAGE = 200
LARGEST_ID = LARGEST_INT  # of a row
RowId = Annotated[int, Path(ge=1, le=LARGEST_ID)]


@dataclass(frozen=True)
class PageQuery:
    """Which page of a list: at most `limit` items after the cursor `after`."""

    after: int | None
    limit: int


async def page_query(
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST_ID, description="the `next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="how many items at most")] = 50,
) -> PageQuery:
    """The page asked for."""
    return PageQuery(after, limit)


PageDep = Annotated[PageQuery, Depends(page_query)]


class Listed(Protocol):
    """A row of a list in order of its id."""

    id: int


def next_cursor(rows: Sequence[Listed], page: PageQuery) -> int | None:
    """The cursor of the following page; None when this one was not full."""
    return rows[-1].id if len(rows) == page.limit else None
