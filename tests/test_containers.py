"""Containers through the whole product: a node that has podman and one that has not, and a command that asks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import containers
from tests.whole import ROOT, Fleet, running_fleet, until

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A server with a node where no container runs."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as running:
        running.start_agent("bare")
        yield running


Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(fleet: Fleet, tmp_path: Path) -> Run:
    """The command line tool, run to its end."""
    environ = {**os.environ, "TINYFLEET_URL": fleet.url, "TINYFLEET_TOKEN": fleet.token}
    environ |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}

    def to_its_end(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "fleet.command", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, timeout=90, check=False
        )

    return to_its_end


def test_a_command_in_a_container_waits_for_a_node_that_has_podman_and_runs_there(
    fleet: Fleet, run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environ = containers.image(tmp_path_factory.mktemp("images"))
    script = "cat /etc/image-release; echo to me >&2; echo 7 > artifacts/seven; while [ ! -e gate ]; do sleep 0.1; done; exit 7"
    with fleet.client() as client:
        job = client.run_command(script=script, container=containers.NAME)
        reason = until(lambda: client.job(job.id).reason, "it is looked at")
        assert "does not offer containers to commands" in reason
        said = run("why", str(job.id))
        assert b"does not offer containers" in said.stdout, said
        fleet.start_agent("boxed", TINYFLEET_CONTAINERS="on", **environ)
        fleet.wait_job(job.id, "running")
        refused = run("exec", str(job.id), "--", "no-such-program")
        assert refused.returncode == 127, refused
        inside = run("exec", str(job.id), "--", "sh", "-c", "cat /etc/image-release; touch gate")
        assert (inside.returncode, inside.stdout) == (0, b"of the image\n"), inside
        ended = fleet.wait_job(job.id, "failed")
        assert ended.error is not None
        assert "exit status 7" in ended.error
        assert set("".join(client.job_logs(job.id)).splitlines()) == {"of the image", "to me"}
        assert client.artifact(job.id, "seven") == b"7\n"


def test_run_takes_an_image_and_refuses_what_is_no_name_of_one(run: Run) -> None:
    done = run(
        "run", "--container", containers.NAME, "-e", "A=b", "--", "sh", "-c", "echo $A $OF_IMAGE; exit 3"
    )
    assert (done.returncode, done.stdout) == (3, b"b yes\n"), done
    refused = run("run", "--container", "--privileged", "--", "true")
    assert refused.returncode == 3, refused
    assert b"container" in refused.stderr
