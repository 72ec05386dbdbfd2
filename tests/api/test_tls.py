"""TLS for real: a server with an issued certificate, and whom agents and clients believe."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from api.app import assemble
from api.cli import app as verbs
from api.settings import Settings
from fleet import authority
from fleet.agents.authorities import fingerprint, pin, pinned
from fleet.agents.client import ControlPlane, Unreachable
from fleet.agents.keys import Signer
from fleet.agents.protocol import Observed
from fleet.agents.settings import Settings as AgentSettings
from fleet.agents.settings import SettingsError
from fleet.agents.settings import settings as agent_settings
from fleet.cli.connection import Usage, address
from fleet.client import Client
from fleet.client import Unreachable as NoAnswer
from fleet.db import now
from fleet.errors import AlreadyExists, InvalidSpec
from fleet.settings import Settings as FleetSettings
from fleet.tenants import mint
from tests.api.conftest import Served, serving
from tests.fleet.acting import inventory

LOOPBACK = ("localhost", "127.0.0.1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a lab's authority."""
    folder = tmp_path_factory.mktemp("lab") / "ca"
    authority.init(folder, "the lab", authority.PERMITTED)
    return folder


@contextmanager
def secure(
    fleet: FleetSettings, folder: Path, lab: Path, days: float = 1.0, made: float = 0.0
) -> Iterator[Served]:
    """A server whose certificate the lab's authority issued `made` days from now, for so many days."""
    cert, key = folder / "server.pem", folder / "server.key"
    moment = datetime.now(UTC) + timedelta(days=made)
    authority.issue(authority.load(lab), LOOPBACK, cert, key, days, moment)
    settings = Settings(fleet=fleet, port=0, tls_cert=cert, tls_key=key)
    settings.check_listening()
    parts = assemble(settings)
    with serving(parts, run_controllers=False) as served:
        yield served


@pytest.fixture
def served_tls(settings: FleetSettings, tmp_path: Path, lab: Path) -> Iterator[Served]:
    """A server with a good certificate."""
    with secure(settings, tmp_path, lab) as served:
        yield served


def told(url: str, state: Path, ca: Path | None = None, sha256: str = "") -> AgentSettings:
    """What an agent is started with."""
    state.mkdir(exist_ok=True)
    return AgentSettings(server=url, state=state, name="tiny1", ca_file=ca, ca_sha256=sha256)


def join(served: Served, asked: AgentSettings) -> int:
    """Join as an agent does, and report once; the node's id."""
    pin(asked)
    with served.parts.write() as session:
        secret = mint(session, name="root", role="admin", now=now(session))[1]
    known = Path(served.parts.settings.tls_cert or "").read_text().split("-----END CERTIFICATE-----")[1]
    ca = asked.state.parent / "admin-ca.pem"
    ca.write_text(f"{known}-----END CERTIFICATE-----\n")
    with Client(served.url, secret, ca_file=ca, retry_delays_s=()) as admin:
        token = admin.join_token().secret
    with ControlPlane(served.url, Signer(asked.state), pinned(asked.state)) as control:
        node = control.enroll(token, asked.name, inventory())
        control.sync(Observed(boot_id="1", sequence=1, inventory=inventory()))
    return node.node_id


def test_an_agent_joins_with_the_authoritys_file(served_tls: Served, tmp_path: Path, lab: Path) -> None:
    assert served_tls.url.startswith("https://")
    assert join(served_tls, told(served_tls.url, tmp_path / "state", ca=lab / "ca.pem")) == 1


def test_an_agent_joins_with_the_authoritys_sha256(served_tls: Served, tmp_path: Path, lab: Path) -> None:
    asked = told(served_tls.url, tmp_path / "state", sha256=fingerprint((lab / "ca.pem").read_text()))
    assert join(served_tls, asked) == 1
    assert (tmp_path / "state" / "ca.pem").read_text() == (lab / "ca.pem").read_text()
    pin(asked)  # the next start: nothing is asked for again


def test_another_pin_is_refused_before_anything_is_sent(served_tls: Served, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no certificate with the pinned sha256"):
        pin(told(served_tls.url, tmp_path / "state", sha256="0" * 64))
    assert pinned(tmp_path / "state") is None


def refused(served: Served, state: Path) -> str:
    """Why an agent does not speak to this server."""
    with (
        ControlPlane(served.url, Signer(state), pinned(state)) as control,
        pytest.raises(Unreachable) as caught,
    ):
        control.sync(Observed(boot_id="1", sequence=1))
    return str(caught.value)


def test_a_server_of_another_authority_is_refused(served_tls: Served, tmp_path: Path) -> None:
    authority.init(tmp_path / "other", "the lab", authority.PERMITTED)
    asked = told(served_tls.url, tmp_path / "state", ca=tmp_path / "other" / "ca.pem")
    pin(asked)
    assert "CERTIFICATE_VERIFY_FAILED" in refused(served_tls, asked.state)


def test_a_certificate_of_nobody_the_system_knows_is_refused(served_tls: Served, tmp_path: Path) -> None:
    asked = told(served_tls.url, tmp_path / "state")
    assert "CERTIFICATE_VERIFY_FAILED" in refused(served_tls, asked.state)
    with Client(served_tls.url, "tfu_canary", retry_delays_s=()) as client, pytest.raises(NoAnswer):
        client.whoami()


@pytest.mark.parametrize(("days", "made"), [(1.0, -2.0), (1.0, 2.0)], ids=["expired", "of the future"])
def test_a_certificate_of_another_time_is_refused(
    settings: FleetSettings, tmp_path: Path, lab: Path, days: float, made: float
) -> None:
    with secure(settings, tmp_path, lab, days, made) as served:
        asked = told(served.url, tmp_path / "state", ca=lab / "ca.pem")
        pin(asked)
        assert "CERTIFICATE_VERIFY_FAILED" in refused(served, asked.state)


def test_a_certificate_for_another_name_is_refused(served_tls: Served, tmp_path: Path, lab: Path) -> None:
    port = urlsplit(served_tls.url).port
    asked = told(f"https://127.0.0.2:{port}", tmp_path / "state", ca=lab / "ca.pem")
    pin(asked)
    other = Served(asked.server, served_tls.parts, served_tls.stop)
    assert refused(other, asked.state)


def test_a_pin_that_was_kept_is_not_exchanged(served_tls: Served, tmp_path: Path, lab: Path) -> None:
    pin(told(served_tls.url, tmp_path / "state", ca=lab / "ca.pem"))
    authority.init(tmp_path / "other", "the lab", authority.PERMITTED)
    with pytest.raises(SettingsError, match="another authority"):
        pin(told(served_tls.url, tmp_path / "state", ca=tmp_path / "other" / "ca.pem"))


# --------------------------------------------------------------------------------------- the authority


def test_the_authoritys_key_is_private_and_made_once(lab: Path) -> None:
    assert stat.S_IMODE((lab / "ca.key").stat().st_mode) == 0o600
    with pytest.raises(AlreadyExists):
        authority.init(lab, "again", authority.PERMITTED)


@pytest.mark.parametrize(
    "name", ["example.com", "localhost.example.com", "8.8.8.8", "notlocal", "2001:db8::1"]
)
def test_it_vouches_for_nothing_of_the_internets(lab: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidSpec, match="may vouch for"):
        authority.issue(authority.load(lab), [name], tmp_path / "c.pem", tmp_path / "c.key")
    assert list(tmp_path.iterdir()) == []


def test_what_it_signs_beyond_its_names_is_believed_by_nobody(
    settings: FleetSettings, tmp_path: Path
) -> None:
    authority.init(tmp_path / "ca", "narrow", ["lab.example"])
    narrow = authority.load(tmp_path / "ca")
    wide = authority.init(tmp_path / "wide", "narrow", authority.PERMITTED)
    forged = authority.Authority(wide.certificate, narrow.key)  # skips the check of its own names
    cert, key = tmp_path / "server.pem", tmp_path / "server.key"
    authority.issue(forged, LOOPBACK, cert, key)
    parts = assemble(Settings(fleet=settings, port=0, tls_cert=cert, tls_key=key))
    with serving(parts, run_controllers=False) as served:
        asked = told(served.url, tmp_path / "state", ca=tmp_path / "ca" / "ca.pem")
        pin(asked)
        assert "permitted subtree violation" in refused(served, asked.state)


def test_the_verbs_make_what_the_server_takes(tmp_path: Path) -> None:
    run = CliRunner().invoke
    folder, cert, key = tmp_path / "ca", tmp_path / "s.pem", tmp_path / "s.key"
    made = run(verbs, ["ca", "init", "--dir", str(folder)])
    assert made.exit_code == 0, made.output
    assert fingerprint((folder / "ca.pem").read_text()) in made.output
    files = ["--dir", str(folder), "--cert", str(cert), "--key", str(key)]
    assert run(verbs, ["ca", "issue", "rack1.lab.internal", "10.1.2.3", *files]).exit_code == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    Settings(fleet=FleetSettings.from_env({}), host="0.0.0.0", tls_cert=cert, tls_key=key).check_listening()
    assert run(verbs, ["ca", "issue", "bank.example", *files]).exit_code == 2
    key.chmod(0o644)
    with pytest.raises(InvalidSpec, match="chmod 600"):
        Settings(fleet=FleetSettings.from_env({}), tls_cert=cert, tls_key=key).check_listening()


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    fleet = FleetSettings.from_env({})
    with pytest.raises(InvalidSpec, match="give both"):
        Settings(fleet=fleet, tls_cert=tmp_path / "c.pem").check_listening()
    with pytest.raises(InvalidSpec, match="there is no file"):
        Settings(fleet=fleet, tls_cert=tmp_path / "c.pem", tls_key=tmp_path / "c.key").check_listening()


# ----------------------------------------------------------------------------------------- plain HTTP


@pytest.mark.parametrize("url", ["http://10.0.0.7:8000", "http://fleet.example", "http://0.0.0.0:8000"])
def test_the_command_line_shows_no_token_in_plain_http(url: str, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="plain HTTP"):
        address(url, None, {"TINYFLEET_TOKEN": "tfu_canary", "HOME": str(tmp_path)})


def test_an_agent_reads_the_pin_as_people_write_it() -> None:
    environ = {"TINYFLEET_URL": "https://a.example", "TINYFLEET_CA_SHA256": ":".join(["AB"] * 32)}
    assert agent_settings(environ).ca_sha256 == "ab" * 32
    with pytest.raises(SettingsError, match="64 hex digits"):
        agent_settings(environ, ca_sha256="abcd")
