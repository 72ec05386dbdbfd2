"""The attacks from inside a container: podman's walls stand in the place of Landlock, and must stop what it stops."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attacks import image
from tests.attacks.catalogue import ATTACKS, BY_NAME, OWN_IN_CONTAINER
from tests.attacks.fort import Fort, fort, spare

pytestmark = pytest.mark.slow

# What a command that asks for the network, on a node that lets it, is meant to do.
NETWORK = frozenset({"connect_to_loopback", "connect_to_outside", "listen_for_strangers", "send_datagram"})
# What only a new attempt finds as it was: they fill limits that a host and its guest share.
BOMBS = frozenset({"fork_bomb", "thread_bomb"})
WAITING = "echo ready; while [ ! -e gate ]; do sleep 0.1; done"


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    """An agent with all walls on which containers run, and another attempt of it."""
    environ = image.image(tmp_path_factory.mktemp("images"))
    environ |= {"TINYFLEET_CONTAINERS": "on", "TINYFLEET_JOB_NETWORK": "1"}
    with fort(os.geteuid(), "all", **environ) as made:
        yield made
        spare(made)


def verdicts(boxed: Fort, names: list[str], **fields: Any) -> dict[str, str]:
    """Of these attacks in a container: what went through and how."""
    ended = boxed.run(image.spec(boxed.target_of_commands, names, **fields), timeout_s=240.0)
    said = boxed.far_end.stream(ended.attempt_id, "e").decode()
    assert ended.outcome == "succeeded", (ended, said[-2000:])
    found = json.loads(boxed.far_end.stream(ended.attempt_id, "o"))
    assert set(found) == set(names)
    return {name: each["how"] for name, each in found.items() if each["verdict"] != "stopped"}


def test_every_attack_from_a_container_is_stopped_or_meets_what_is_its_own(boxed: Fort) -> None:
    through = verdicts(boxed, list(BY_NAME))
    assert set(through) == set(OWN_IN_CONTAINER), through


def test_what_is_its_own_is_not_the_nodes(boxed: Fort) -> None:
    name = f"planted-{os.getpid()}"
    script = f"""
    here=$(dirname "$(pwd)"); touch "$here/{name}" "$here/../../{name}" /tmp/{name} /dev/shm/{name} given
    {WAITING}; chown 0:0 given
    """
    attempt = boxed.far_end.submit({"kind": "command", "container": image.NAME, "script": script})
    boxed.far_end.wait(lambda: boxed.far_end.stream(attempt, "o") == b"ready\n", "it has planted")
    folder = boxed.directory(attempt)
    assert {path.name for path in folder.rglob(name)} == {name}
    assert (folder / "work" / "tmp" / name).exists()
    assert not any(Path(place, name).exists() for place in (folder, boxed.state, "/tmp", "/dev/shm"))
    assert (folder / "work" / "given").stat().st_uid == (boxed.recorded(attempt).traces.uid or os.geteuid())
    (folder / "work" / "gate").touch()
    boxed.far_end.wait_exit(attempt)


def test_a_container_hides_what_the_walls_outside_leave_to_be_seen(boxed: Fort) -> None:
    script = f"""
    test -e {boxed.secret} && echo a file
    for each in /proc/[0-9]*; do cat $each/cmdline; done | grep -a "fleet[.]agents"
    echo looked
    """
    ended = boxed.run({"kind": "command", "container": image.NAME, "script": script})
    assert boxed.far_end.stream(ended.attempt_id, "o") == b"looked\n"


def test_native_code_in_a_container_is_stopped_by_the_same_calls(boxed: Fort) -> None:
    arguments = [str(boxed.state / "identity.json"), str(boxed.process.pid), str(boxed.target["port"])]
    argv = [f"/bin/{image.NATIVE}", *arguments]
    ended = boxed.run({"kind": "command", "container": image.NAME, "argv": argv})
    lines = boxed.far_end.stream(ended.attempt_id, "o").decode().splitlines()
    assert dict(line.split(" ", 1) for line in lines) == {
        "token": "stopped",
        "signal": "stopped",
        "network": "stopped",
        "other-table": "stopped",
        "x32": "stopped",
        "own-code": "through",  # allowed, as outside
    }, ended


def test_with_the_network_a_container_gets_no_sockets_of_the_machine(boxed: Fort) -> None:
    through = verdicts(boxed, [entry.name for entry in ATTACKS["network"]], network=True)
    assert set(through) == NETWORK, through


def test_a_guest_of_a_container_has_its_walls(boxed: Fort) -> None:
    host = boxed.far_end.submit({"kind": "command", "container": image.NAME, "script": WAITING})
    boxed.far_end.wait(lambda: boxed.far_end.stream(host, "o") == b"ready\n", "the host is ready")
    inside = {"inside": {"attempt_id": host, "fence": 1}, "container": None}
    through = verdicts(boxed, [name for name in BY_NAME if name not in BOMBS], **inside)
    assert set(through) == set(OWN_IN_CONTAINER), through
    (boxed.directory(host) / "work" / "gate").touch()
    boxed.far_end.wait_exit(host)


def test_the_agent_has_lived_through_all_of_it(boxed: Fort) -> None:
    assert boxed.healthy()
    assert "Traceback" not in boxed.words()
