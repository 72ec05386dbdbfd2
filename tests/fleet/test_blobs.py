"""Content-addressed bytes."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from fleet import blobs as blobs_module
from fleet.agents.protocol import blob_address
from fleet.blobs import Blobs
from fleet.errors import InvalidSpec, NotFound, TooLarge


def test_a_blob_is_found_under_its_address(session: Session, blobs: Blobs, now: float) -> None:
    address = blobs.put(session, b"content", now)
    assert address == blob_address(b"content") == blobs.put(session, b"content", now)
    assert blobs.get(address) == b"content"
    assert blobs_module.size(session, address) == 7


def test_a_file_is_written_without_a_session_and_its_row_follows(
    session: Session, blobs: Blobs, now: float
) -> None:
    address = blobs.keep(b"content")
    assert blobs.get(address) == b"content"
    assert not blobs_module.known(session, address)
    for _ in range(2):
        blobs_module.record(session, address, 7, now)
    assert blobs_module.known(session, address)


def test_content_under_another_address_is_refused(session: Session, blobs: Blobs, now: float) -> None:
    other = blob_address(b"other")
    with pytest.raises(InvalidSpec, match="the content's address is"):
        blobs.put(session, b"content", now, expected=other)
    with pytest.raises(NotFound):
        blobs_module.size(session, other)


def test_a_damaged_file_is_not_served_and_heals_when_it_is_sent_again(
    session: Session, blobs: Blobs, now: float
) -> None:
    address = blobs.put(session, b"content", now)
    blobs.path(address).write_bytes(b"damage")
    with pytest.raises(NotFound, match="intact"):
        blobs.get(address)
    blobs.put(session, b"content", now)
    assert blobs.get(address) == b"content"


@pytest.mark.parametrize("address", ["../../etc/passwd", "", "A" * 64, "0" * 63])
def test_what_is_no_address_never_becomes_a_path(blobs: Blobs, address: str) -> None:
    with pytest.raises(InvalidSpec, match="64 hexadecimal digits"):
        blobs.get(address)


def test_a_blob_that_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFound):
        blobs.get("0" * 64)


def test_a_blob_has_a_largest_size(session: Session, blobs: Blobs, now: float) -> None:
    small = Blobs(blobs.directory, max_bytes=3)
    with pytest.raises(TooLarge, match="blob of 4 bytes is larger than the limit of 3"):
        small.put(session, b"four", now)
