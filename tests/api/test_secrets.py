from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from api.cli import app as cli
from api.deps import Parts
from fleet import secrets_kept, tenants
from fleet.agents.protocol import AttemptSpec
from fleet.client import ApiError, Client
from fleet.db import now
from fleet.errors import InvalidSpec, NotFound
from fleet.models import StoredSecret
from tests.api.agent import Agent, exited

VALUE = "hunter2-and-more"


def value(parts: Parts, name: str = "hook", tenant: str = "default") -> str:
    """What the control plane reads, with the keys as they are now."""
    with parts.read() as session:
        keys = secrets_kept.keys(parts.settings.fleet.secret_keys_file, {})
        return secrets_kept.value_of(session, tenant, name, keys)


def on_disk(parts: Parts) -> bytes:
    """Everything that the server has written."""
    return b"".join(path.read_bytes() for path in parts.settings.fleet.data.rglob("*") if path.is_file())


def test_a_secret_is_kept_encrypted_and_returned_by_no_route(
    parts: Parts, http: TestClient, client: Client, bearer: Callable[[str], dict[str, str]]
) -> None:
    assert client.put_secret("hook", VALUE).version == 1
    assert client.put_secret("hook", VALUE + "!").version == 2
    assert value(parts) == VALUE + "!"
    assert [each.name for each in client.secrets().items] == ["hook"]
    assert VALUE not in http.get("/v1/secrets", headers=bearer("admin")).text
    assert VALUE.encode() not in on_disk(parts)
    assert parts.settings.fleet.secret_keys_file.stat().st_mode & 0o777 == 0o600
    client.remove_secret("hook")
    with pytest.raises(NotFound):
        value(parts)
    with pytest.raises(ApiError):
        client.remove_secret("hook")


def test_rotation_leaves_no_box_of_the_old_key_and_loses_no_value(parts: Parts, client: Client) -> None:
    client.put_secret("hook", VALUE)
    path = parts.settings.fleet.secret_keys_file
    old = secrets_kept.keys(path, {})
    done = CliRunner().invoke(cli, ["secret-keys", "rotate", "--data", str(parts.settings.fleet.data)])
    assert (done.exit_code, done.stdout) == (0, "1 secrets are encrypted with the new key\n")
    assert value(parts) == VALUE
    assert not set(old) & set(secrets_kept.keys(path, {}))
    with parts.read() as session, pytest.raises(InvalidSpec, match="none of the keys"):
        secrets_kept.value_of(session, "default", "hook", old)


def test_a_box_in_the_place_of_another_does_not_open(parts: Parts, client: Client) -> None:
    client.put_secret("hook", VALUE)
    client.put_secret("other", "public")
    with parts.write() as session:
        stolen = session.get_one(StoredSecret, ("default", "hook")).box
        session.get_one(StoredSecret, ("default", "other")).box = stolen
    with pytest.raises(InvalidSpec, match="in the place of another"):
        value(parts, "other")


def test_a_tenant_has_its_own_secrets(parts: Parts, http: TestClient, client: Client) -> None:
    with parts.write() as session:
        secret = tenants.mint(session, name="eve", role="admin", now=now(session), tenant="other")[1]
    eve = {"Authorization": f"Bearer {secret}"}
    client.put_secret("hook", VALUE)
    assert http.get("/v1/secrets", headers=eve).json()["items"] == []
    assert http.delete("/v1/secrets/hook", headers=eve).status_code == 404
    assert http.put("/v1/secrets/hook", headers=eve, json={"value": "hers"}).json()["version"] == 1
    assert value(parts) == VALUE


@pytest.mark.parametrize("name", ["..", "a b", "-x", "x" * 65, "%00"])
def test_odd_names_are_refused(http: TestClient, bearer: Callable[[str], dict[str, str]], name: str) -> None:
    reply = http.put(f"/v1/secrets/{name}", headers=bearer("admin"), json={"value": "x"})
    assert reply.status_code in (404, 405, 422)


def test_keys_of_the_environment_go_before_the_file(parts: Parts) -> None:
    path = parts.settings.fleet.secret_keys_file
    mine = secrets_kept._new_key()
    assert secrets_kept.keys(path, {secrets_kept.VARIABLE: mine}) == [mine]
    assert not path.exists()
    with pytest.raises(InvalidSpec, match="these are not keys"):
        secrets_kept.keys(path, {secrets_kept.VARIABLE: "short"})


# ------------------------------------------------------------------------------------- in a command's hands


def with_secret(client: Client, **more: Any) -> Any:
    """A command that is given a secret."""
    return client.run_command(["true"], secrets={"TOKEN": "deploy"}, **more)


def handed(agent: Agent, attempt: AttemptSpec, fence: int | None = None) -> httpx.Response:
    """What the node gets when it asks for an attempt's secrets."""
    return agent.ask(f"/v1/agents/attempts/{attempt.attempt_id}/secrets", fence=fence or attempt.fence)


def test_a_secret_is_handed_to_the_node_that_runs_the_command_while_it_does(
    parts: Parts, client: Client, agent: Agent
) -> None:
    client.put_secret("deploy", VALUE)
    job = with_secret(client)
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    assert VALUE not in attempt.model_dump_json()
    reply = handed(agent, attempt)
    assert reply.json() == {"secrets": {"TOKEN": VALUE}}
    assert reply.headers["cache-control"] == "no-store"
    [event] = [each for each in client.events(after=0).items if each.kind == "attempt.secrets"]
    assert event.data["names"] == ["deploy"]
    assert handed(agent, attempt, fence=attempt.fence + 1).status_code == 409
    agent.sync(attempts=[exited(attempt)])
    assert handed(agent, attempt).status_code == 409
    assert VALUE not in client.job(job.id).model_dump_json()


def test_another_node_gets_nothing(parts: Parts, http: TestClient, client: Client, agent: Agent) -> None:
    client.put_secret("deploy", VALUE)
    with_secret(client, node="tiny1")
    other = Agent.enrolled(http, client.join_token().secret, "tiny2")
    parts.controllers.tick()
    [attempt] = agent.sync().attempts
    assert handed(other, attempt).status_code == 404
    client.remove_secret("deploy")
    assert handed(agent, attempt).status_code == 404


def test_a_secret_that_is_not_kept_is_refused_by_name(client: Client) -> None:
    with pytest.raises(ApiError) as refused:
        with_secret(client)
    assert "spec.secrets.TOKEN" in str(refused.value)
    assert "tinyfleet secrets set deploy" in str(refused.value)


def test_secrets_go_to_no_tainted_node(parts: Parts, client: Client, agent: Agent) -> None:
    client.put_secret("deploy", VALUE)
    client.trust_node(agent.node_id, "tainted", "found a stranger")
    job = with_secret(client)
    parts.controllers.tick()
    assert "is tainted, not shared" in client.job(job.id).reason
    with pytest.raises(ApiError) as refused:
        with_secret(client, requirements={"trust": "tainted"})
    assert "requirements.trust" in str(refused.value)
