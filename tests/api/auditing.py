"""Mutations of one noun each, for the test that every one leaves exactly one row in the audit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from api.deps import Parts
from fleet import releases, ssh_authority
from fleet.agents.protocol import DataFile, DataList
from fleet.client import Client
from fleet.db import now
from tests import releases as making
from tests.api.agent import Agent
from tests.fleet.acting import gpu_inventory
from tests.sshkeys import public_key

Does = Callable[..., int]  # a route, a body and the ids in its path: the new row's id
NOOP = {"spec": {"kind": "noop"}}


def jobs(does: Does) -> None:
    """Arrays, batches, and jobs again."""
    does("POST /v1/arrays/{array_id}/cancel", array_id=does("POST /v1/arrays", NOOP | {"size": 2}))
    does("POST /v1/jobs/batch", {"jobs": [NOOP, NOOP]})
    job = does("POST /v1/jobs", NOOP)
    does("POST /v1/jobs/{job_id}/cancel", job_id=job)
    for verb in ("clone", "retry"):
        does(f"POST /v1/jobs/{{job_id}}/{verb}", job_id=job)


def inside(does: Does, parts: Parts, agent: Agent) -> None:
    """A command inside one that runs."""
    host = does("POST /v1/jobs", {"spec": {"kind": "command", "argv": ["sleep", "60"]}, "priority": 100})
    parts.controllers.tick()
    [attempt] = [each for each in agent.sync().attempts if each.spec.kind == "command"]
    agent.sync(attempts=[{"attempt_id": attempt.attempt_id, "fence": attempt.fence, "state": "running"}])
    does("POST /v1/jobs/{job_id}/exec", {"spec": {"argv": ["true"]}}, job_id=host)


def data_sets(does: Does, client: Client) -> None:
    """One data set of one file."""
    listed = DataList(files=[DataFile(path="a", size=7, parts=[client.put_blob(b"content")])])
    address = client.put_blob(listed.text())
    does("PUT /v1/data-sets/{data_set}", data_set=address)
    does("DELETE /v1/data-sets/{data_set}", data_set=address)


def places(does: Does, node: int) -> None:
    """Where a node is, what it is called for, and when it is kept for somebody."""
    does("PUT /v1/nodes/{node_id}/labels", {"labels": {"disk": "fast"}}, node_id=node)
    does("PUT /v1/nodes/{node_id}/place", {"site": "lab", "rack": "r1"}, node_id=node)
    does("PUT /v1/racks/{site}/{rack}", {"power_budget_watts": 5000.0}, site="lab", rack="r1")
    does("PUT /v1/tenants/{tenant}/quota", {"max_gpus": 4}, tenant="default")
    window = {"kind": "maintenance", "nodes": [node], "ends_at": time.time() + 3600.0}
    does("DELETE /v1/windows/{window_id}", window_id=does("POST /v1/windows", window))


def health(does: Does, agent: Agent) -> None:
    """A GPU that is doubted, a node that is held against its model, and the stock."""
    agent.sync(inventory=gpu_inventory().model_dump(mode="json"))
    does("POST /v1/nodes/{node_id}/gpus/{gpu}/retest", node_id=agent.node_id, gpu="gpu1")
    does("PUT /v1/box-models/{model}", {"gpus": 2}, model="small")
    does("POST /v1/nodes/{node_id}/acceptance", {"model": "small"}, node_id=agent.node_id)
    box = does("POST /v1/boxes", {"serial": "S1", "model": "small"})
    does("PATCH /v1/boxes/{box_id}", {"state": "installed", "place": "berlin/r1"}, box_id=box)
    does("PUT /v1/box-models/{model}", {"gpus": 3}, model="large")
    does("DELETE /v1/box-models/{model}", model="large")


def logins(does: Does, parts: Parts, node: int) -> None:
    """Keys, requests and what is decided about them."""
    with parts.write() as session:
        ssh_authority.make(session, parts.settings.fleet.ssh_authority_file, now(session))
    key = does("POST /v1/ssh-keys", {"public_key": public_key(1).line})
    wish = {"node": node, "reason": "a test", "key": key}
    does("POST /v1/grants/{grant_id}/deny", {"reason": "no room"}, grant_id=does("POST /v1/grants", wish))
    granted = does("POST /v1/grants", wish)
    does("POST /v1/grants/{grant_id}/approve", grant_id=granted)
    does("POST /v1/grants/{grant_id}/certificate", grant_id=granted)
    does("POST /v1/grants/{grant_id}/revoke", {"reason": "done"}, grant_id=granted)
    does("DELETE /v1/ssh-keys/{key_id}", key_id=key)


def updates(does: Does, parts: Parts, folder: Path) -> None:
    """Which version nodes shall have."""
    folder.mkdir()
    releases.add(making.small_release(folder, "1.0.0", folder / "key"), parts.settings.fleet.releases)
    does("PUT /v1/updates", {"version": "1.0.0"})
    does("POST /v1/updates/pause", {"paused": True, "reason": "a test"})
    does("POST /v1/updates/pause", {"paused": False})
    does("POST /v1/updates/promote")
