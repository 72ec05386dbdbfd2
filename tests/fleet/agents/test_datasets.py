"""The node's cache of data sets: whole or not there, checked, shared read-only, and the oldest go first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.agents.data_spec import PART_BYTES, DataFile, DataList
from fleet.agents.datasets import DataSets, Unstageable
from fleet.agents.protocol import blob_address


class Store:
    """Blobs by address, and which were fetched."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def put(self, content: bytes) -> str:
        self.blobs[blob_address(content)] = content
        return blob_address(content)

    def push(self, files: dict[str, bytes]) -> str:
        listed = [
            DataFile(
                path=path,
                size=len(content),
                parts=[self.put(content[at : at + PART_BYTES]) for at in range(0, len(content), PART_BYTES)],
            )
            for path, content in files.items()
        ]
        return self.put(DataList(files=listed).text())

    def fetch(self, address: str) -> bytes:
        self.fetched.append(address)
        return self.blobs[address]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def sets(tmp_path: Path) -> DataSets:
    return DataSets(tmp_path / "data", 1000)


def stage(
    sets: DataSets, store: Store, address: str, now: float = 0.0, wanted: frozenset[str] = frozenset()
) -> None:
    sets.stage(address, store.fetch, wanted, lambda done, whole: None, now)


def test_a_data_set_is_there_once_it_is_whole_and_nobody_may_write(sets: DataSets, store: Store) -> None:
    address = store.push({"a/b.txt": b"deep", "empty": b"", "top.txt": b"top"})
    assert not sets.has(address)
    stage(sets, store, address)
    assert sets.has(address)
    assert (sets.path(address) / "a" / "b.txt").read_bytes() == b"deep"
    assert (sets.path(address) / "empty").read_bytes() == b""
    modes = {path.stat().st_mode & 0o777 for path in sets.path(address).rglob("*") if path.is_file()}
    assert modes == {0o444}
    assert [(each.data_set, each.bytes) for each in sets.kept()] == [(address, 7)]


def test_files_of_many_parts_are_put_together(tmp_path: Path, store: Store) -> None:
    sets = DataSets(tmp_path / "data", 1 << 30)
    content = bytes(range(256)) * ((PART_BYTES * 2 + 5120) // 256)
    address = store.push({"large": content})
    said: list[tuple[int, int]] = []
    sets.stage(address, store.fetch, (), lambda done, whole: said.append((done, whole)), 0.0)
    assert (sets.path(address) / "large").read_bytes() == content
    assert [done for done, _ in said] == [PART_BYTES, 2 * PART_BYTES, len(content)]
    assert {whole for _, whole in said} == {len(content)}


def test_what_broke_off_goes_on_where_it_was(sets: DataSets, store: Store) -> None:
    address = store.push({"a": b"first", "b": b"second"})
    missing = store.blobs.pop(blob_address(b"second"))
    with pytest.raises(KeyError):
        stage(sets, store, address)
    assert not sets.has(address)
    assert sets.kept() == []
    store.put(missing)
    (sets.root / f".{address}" / "a").write_bytes(b"fIrst")  # damaged meanwhile
    store.fetched.clear()
    stage(sets, store, address)
    assert (sets.path(address) / "a").read_bytes() == b"first"
    (sets.root / f"{address}.json").unlink()
    assert store.fetched == [address, blob_address(b"first"), blob_address(b"second")]


def test_a_file_that_was_touched_is_none_and_is_staged_again(sets: DataSets, store: Store) -> None:
    address = store.push({"a": b"right"})
    stage(sets, store, address)
    path = sets.path(address) / "a"
    about = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"wrong")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))  # a forged time: the change time tells
    path.chmod(0o444)
    assert not sets.has(address)
    stage(sets, store, address)
    assert path.read_bytes() == b"right"


def test_those_not_used_for_longest_go_and_never_one_that_is_wanted(sets: DataSets, store: Store) -> None:
    first, second, third = (store.push({"f": bytes([number]) * 400}) for number in range(3))
    stage(sets, store, first, now=1.0)
    stage(sets, store, second, now=2.0)
    sets.use(first, 3.0)
    stage(sets, store, third, now=4.0)
    assert [sets.has(each) for each in (first, second, third)] == [True, False, True]
    stage(sets, store, second, now=5.0, wanted=frozenset({first}))
    assert [sets.has(each) for each in (first, second, third)] == [True, True, False]
    with pytest.raises(Unstageable, match="keeps 1000 of data sets, 800 of them in use"):
        stage(sets, store, third, wanted=frozenset({first, second}))


@pytest.mark.parametrize(
    "content",
    [
        b"no JSON",
        b'{"files": []}',
        b'{"files": [{"path": "../out", "size": 0, "parts": []}]}',
        b'{"files": [{"path": "/etc/passwd", "size": 0, "parts": []}]}',
        b'{"files": [{"path": "a", "size": 9, "parts": []}]}',
        b'{"files": [{"path": "a", "size": 0}, {"path": "a/b", "size": 0}]}',
        b'{"files": [{"path": "a", "size": 0}, {"path": "a", "size": 0}]}',
    ],
)
def test_what_lists_no_data_set_is_nobodys(sets: DataSets, store: Store, content: bytes) -> None:
    with pytest.raises(Unstageable) as failure:
        stage(sets, store, store.put(content))
    assert failure.value.theirs


def test_a_file_that_is_not_as_long_as_said_is_no_data_set(sets: DataSets, store: Store) -> None:
    listed = DataList(files=[DataFile(path="a", size=9, parts=[store.put(b"short")])])
    with pytest.raises(Unstageable) as failure:
        stage(sets, store, store.put(listed.text()))
    assert failure.value.theirs


def test_the_same_files_have_the_same_address_in_whatever_order(store: Store) -> None:
    assert store.push({"a": b"1", "b": b"2"}) == store.push({"b": b"2", "a": b"1"})
