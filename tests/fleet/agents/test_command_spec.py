"""What a command may say of its image."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from fleet.agents.protocol import CommandSpec


@pytest.mark.parametrize(
    "name",
    [
        "oci:/var/lib/tinyfleet/attempts/7-1/kept",
        "oci:folder",
        "dir:/root",
        "docker-archive:image.tar",
        "containers-storage:somebody",
        "docker://registry.example/x",
        "https://registry.example/x",
        "--privileged",
    ],
)
def test_a_name_that_would_have_podman_read_the_nodes_own_files_is_no_image(name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CommandSpec(argv=["true"], container=name)
    assert [error["loc"] for error in refused.value.errors()] == [("container",)]


@pytest.mark.parametrize(
    "name",
    ["docker:27", "localhost:5000/a/b:1", "docker.io/library/python:3.12", "oci", "a@sha256:" + "0" * 64],
)
def test_a_name_as_registries_have_it_is_one(name: str) -> None:
    assert CommandSpec(argv=["true"], container=name).container == name
