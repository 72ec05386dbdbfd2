"""The attacks from inside bubblewrap, by an agent of root's and by another: what the walls beside leave to be seen, it hides."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.agents.protocol import blob_address
from fleet.agents.walls.bubblewrap import SHM
from tests.attacks.catalogue import BY_NAME, OWN_IN_BUBBLEWRAP, STOPPED_BY_BUBBLEWRAP
from tests.attacks.fort import NOBODY, ROOT, Fort, fort, spare, user_of
from tests.attacks.image import PYTHON
from tests.parts import need

pytestmark = pytest.mark.slow

_CODE = ("tests/attacks", "fleet/agents/walls", "fleet/agents/__init__.py", "fleet/agents/processes.py")


@pytest.fixture(scope="module", params=["root", "nobody"])
def wrapped(request: pytest.FixtureRequest) -> Iterator[Fort]:
    """An agent that puts commands into bubblewrap."""
    need("bwrap", install="bubblewrap")
    with fort(user_of(request.param), "all") as made:
        assert made.walls["bubblewrap"].state == "up", made.walls["bubblewrap"].detail
        yield made
        spare(made)


def packed() -> bytes:
    """The attacks, as a file that a command brings along."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in _CODE:
            top = ROOT / name
            for path in [top] if top.is_file() else sorted(top.rglob("*.py")):
                archive.write(path, path.relative_to(ROOT))
        archive.writestr("fleet/__init__.py", "")
    return held.getvalue()


def verdicts(stands: Fort, names: list[str]) -> dict[str, str]:
    """Of these attacks by a command: what went through and how."""
    content = packed()
    stands.far_end.blobs[blob_address(content)] = content
    target = json.dumps(stands.target_of_commands)
    script = f'{PYTHON} -m zipfile -e attacks.zip tree && exec {PYTHON} -m tests.attacks.contained "$TARGET" $NAMES'
    job: dict[str, Any] = {
        "kind": "command",
        "script": script,
        "env": {"PYTHONPATH": "tree", "TARGET": target, "NAMES": " ".join(names)},
        "files": [{"path": "attacks.zip", "blob": blob_address(content)}],
    }
    attempt = stands.far_end.submit(job, blobs=[blob_address(content)], timeout_s=240.0)
    ended = stands.far_end.wait_exit(attempt)
    said = stands.far_end.stream(attempt, "e").decode(errors="replace")
    assert ended.outcome == "succeeded", (ended, said[-2000:])
    found = json.loads(stands.far_end.stream(attempt, "o"))
    assert set(found) == set(names)
    return {name: each["how"] for name, each in found.items() if each["verdict"] != "stopped"}


def test_every_attack_is_stopped_or_meets_a_folder_of_its_own(wrapped: Fort) -> None:
    through = verdicts(wrapped, list(BY_NAME))
    assert set(through) == set(OWN_IN_BUBBLEWRAP), through


def test_alone_it_stops_what_it_is_said_to_stop() -> None:
    """Of an agent that is not root, beside the same one without any wall."""
    need("bwrap", install="bubblewrap")
    uid = NOBODY if os.geteuid() == 0 else os.geteuid()
    with fort(uid, "none") as stands:
        open_without = set(verdicts(stands, list(BY_NAME)))
    with fort(uid, "bubblewrap") as stands:
        assert stands.standing == frozenset({"bubblewrap"})
        through = verdicts(stands, list(BY_NAME))
    assert len(open_without & STOPPED_BY_BUBBLEWRAP) > 20, "it has been tried on what is open"
    assert {name: through[name] for name in STOPPED_BY_BUBBLEWRAP & set(through)} == {}
    assert open_without - set(through) <= STOPPED_BY_BUBBLEWRAP
    assert set(OWN_IN_BUBBLEWRAP) <= set(through)


def test_what_goes_through_is_in_its_own_folder(wrapped: Fort) -> None:
    name = f"planted-{os.getpid()}"
    script = f"""
    for place in /tmp /var/tmp /dev/shm .. ../..; do touch "$place/{name}"; done
    echo ready; while [ ! -e gate ]; do sleep 0.1; done
    """
    attempt = wrapped.far_end.submit({"kind": "command", "script": script})
    wrapped.far_end.wait(lambda: wrapped.far_end.stream(attempt, "o") == b"ready\n", "it has planted")
    work = wrapped.directory(attempt) / "work"
    planted = [path.relative_to(work).parts[0] for path in wrapped.state.rglob(name)]
    assert set(planted) == {"tmp"}
    assert (work / SHM / name).exists()
    assert not any(Path(place, name).exists() for place in ("/tmp", "/var/tmp", "/dev/shm"))
    (work / "gate").touch()
    assert wrapped.far_end.wait_exit(attempt).outcome == "succeeded"


def test_it_hides_files_command_lines_and_the_name_of_the_group(wrapped: Fort) -> None:
    """All that docs/walls.md says the other walls leave to be seen."""
    script = f"""
    for path in /etc/passwd /root/.bashrc {wrapped.secret} {wrapped.state}/identity.json; do stat $path && echo seen; done
    for each in /proc/[0-9]*; do cat $each/cmdline; done | grep -a "fleet[.]agents[ .]*agent" && echo seen
    cat /proc/self/cgroup | grep tinyfleet && echo seen; ls /sys/fs/cgroup | grep tinyfleet && echo seen
    echo looked
    """
    ended = wrapped.run({"kind": "command", "script": script})
    assert wrapped.far_end.stream(ended.attempt_id, "o") == b"looked\n"


def test_the_agent_has_lived_through_all_of_it(wrapped: Fort) -> None:
    assert wrapped.healthy()
    assert "Traceback" not in wrapped.words()
