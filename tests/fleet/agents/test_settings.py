"""The agent's settings: where they come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.agents.cli import app
from fleet.agents.settings import SettingsError, checked_url, settings


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:8080",
        "http://fleet.example",
        "http://[fd00::1]",
        "http://127.example.org",
        "http://0.0.0.0",
    ],
)
def test_plain_http_leaves_the_machine_for_nobody(url: str) -> None:
    with pytest.raises(SettingsError, match="plain HTTP"):
        checked_url(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:80", "https://fleet.example"]
)
def test_loopback_and_https_are_accepted(url: str) -> None:
    assert checked_url(url + "/") == url


@pytest.mark.parametrize(
    "url", ["fleet.example", "ftp://fleet.example", "https://", "http://[::1", "https://a:x", "https://a:0"]
)
def test_what_is_no_url_is_refused_with_a_reason(url: str) -> None:
    with pytest.raises(SettingsError, match="URL"):
        checked_url(url)


def test_options_come_before_the_environment(tmp_path: Path) -> None:
    environ = {"TINYFLEET_URL": "https://a.example", "TINYFLEET_NODE_NAME": "from-environment"}
    assert settings(environ).server == "https://a.example"
    told = settings(environ, server="https://b.example", name="given", state=tmp_path)
    assert (told.server, told.name, told.state) == ("https://b.example", "given", tmp_path)


def test_the_join_token_comes_from_a_file_or_the_environment_and_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "join"
    file.write_text("tfj_from-file\n")
    environ = {"TINYFLEET_URL": "https://a.example", "TINYFLEET_JOIN_TOKEN": "tfj_from-environment"}
    assert settings(environ).join_token == "tfj_from-environment"
    told = settings(environ, join_token_file=file)
    assert told.join_token == "tfj_from-file"
    assert "tfj_" not in repr(told)


def test_a_join_token_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "join"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="--join-token-file"):
        settings({"TINYFLEET_URL": "https://a.example"}, join_token_file=file)


@pytest.mark.parametrize("state", ["/dev/null/x", "/proc/x"])
def test_a_state_folder_that_cannot_be_used_names_its_option(state: str) -> None:
    outcome = CliRunner().invoke(app, ["agent", "--server", "http://127.0.0.1:9", "--state", state])
    assert outcome.exit_code == 2
    assert f"--state {state} cannot be used" in outcome.output


def test_a_missing_server_is_said_with_the_fix() -> None:
    with pytest.raises(SettingsError, match="--server URL or set TINYFLEET_URL"):
        settings({})


@pytest.mark.parametrize("name", ["two words", "-x", "a/b", "x" * 64, "ümlaut", "line\n"])
def test_a_name_that_would_not_be_accepted_is_refused_here(name: str) -> None:
    with pytest.raises(SettingsError, match="give --name"):
        settings({"TINYFLEET_URL": "https://a.example"}, name=name)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "1e9"])
def test_a_start_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="TINYFLEET_START_S"):
        settings({"TINYFLEET_URL": "https://a.example", "TINYFLEET_START_S": text})


def test_what_is_wrong_with_the_telemetrys_settings_is_named(tmp_path: Path) -> None:
    base = {"TINYFLEET_URL": "https://fleet"}
    bad = tmp_path / "telemetry.toml"
    bad.write_text("[redfish]\n")
    wrong = {
        "TINYFLEET_TELEMETRY": ("no", "TINYFLEET_TELEMETRY is 'no'; give on or off"),
        "TINYFLEET_METRICS_LISTEN": ("9400", "--metrics-listen '9400' is no address; give host:port"),
        "TINYFLEET_TELEMETRY_CONFIG": (str(bad), r"\[redfish\]: url is None; give a text"),
    }
    for name, (text, said) in wrong.items():
        with pytest.raises(SettingsError, match=said):
            settings(base | {name: text})
    told = settings(base | {"TINYFLEET_TELEMETRY": "off", "TINYFLEET_METRICS_LISTEN": "[::1]:9400"})
    assert (told.telemetry, told.metrics_listen) == (False, "[::1]:9400")
