"""Data sets: folders of files, named by the hash of a list of what is in them. Nodes keep them for the next command."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from fleet.agents.command_spec import RelativePath
from fleet.agents.wire import Count, Hash, Wire

PART_BYTES = 8 << 20  # a file is cut into blobs of so much, the last one excepted


class DataFile(Wire):
    """One file: its parts are blobs, each of PART_BYTES but for the last."""

    path: RelativePath
    size: Count
    parts: list[Hash] = Field(default_factory=list, max_length=1 << 20)

    @model_validator(mode="after")
    def _of_its_size(self) -> DataFile:
        if len(self.parts) != -(-self.size // PART_BYTES):
            raise ValueError(f"{self.path}: {self.size} bytes are not {len(self.parts)} parts")
        return self


class DataList(Wire):
    """What is in a data set. The address of this document, as `text` writes it, is the data set's name."""

    files: Annotated[list[DataFile], Field(min_length=1, max_length=100_000)]

    @model_validator(mode="after")
    def _a_tree(self) -> DataList:
        paths = {file.path for file in self.files}
        if len(paths) < len(self.files):
            raise ValueError("a path is listed more than once")
        for path in paths:
            above = path.rpartition("/")[0]
            while above:
                if above in paths:
                    raise ValueError(f"{above} cannot be a file and the folder of {path}")
                above = above.rpartition("/")[0]
        return self

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def text(self) -> bytes:
        """The one way to write it."""
        files: list[dict[str, Any]] = sorted(
            (file.model_dump(mode="json") for file in self.files), key=lambda file: str(file["path"])
        )
        return json.dumps({"files": files}, sort_keys=True, separators=(",", ":")).encode()


class CachedData(Wire):
    """A data set that a node has, whole."""

    data_set: Hash
    bytes: Count
