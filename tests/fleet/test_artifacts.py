"""What is kept of the artifacts of a step's jobs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.advance import Conclude, GiveUp
from fleet.agents.protocol import ExpandResult
from fleet.artifacts import Kept, keep
from fleet.blobs import Blobs
from tests.fleet.acting import KERNEL, KERNEL_HASH


def expanded(artifacts: dict[str, str]) -> Conclude:
    """A step after an expand with these artifacts."""
    facts: dict[str, Any] = {"kernel_hash": KERNEL_HASH, "flops": 1.0, "bytes": 1.0, "candidates": []}
    found = ExpandResult(**facts, generated=0, illegal=0, duplicate=0)
    return Conclude(1, 1, found, artifacts, GiveUp("nothing to do"))


def test_the_kernels_document_is_kept(blobs: Blobs) -> None:
    address = blobs.keep(json.dumps(KERNEL).encode())
    assert keep(blobs, expanded({"kernel.json": address})) == Kept(document=KERNEL)


@pytest.mark.parametrize("content", [b'{"nodes": ["another"]}', b"[]", b"{"])
def test_what_is_not_the_kernels_document_is_not_kept(blobs: Blobs, content: bytes) -> None:
    assert keep(blobs, expanded({"kernel.json": blobs.keep(content)})) == Kept()


@pytest.mark.parametrize("artifacts", [{}, {"kernel.json": KERNEL_HASH}])
def test_a_document_that_did_not_arrive_is_done_without(blobs: Blobs, artifacts: dict[str, str]) -> None:
    assert keep(blobs, expanded(artifacts)) == Kept()
