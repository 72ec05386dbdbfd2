"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import InvalidSpec
from fleet.settings import Settings, Timings


def test_without_an_environment_everything_has_a_default() -> None:
    found = Settings.from_env({})
    assert found.data == Path("tinyfleet-data").absolute()
    assert found.database_url == f"sqlite:///{found.data}/fleet.db"
    assert found.timings == Timings()


def test_the_environment_overrides(tmp_path: Path) -> None:
    found = Settings.from_env(
        {
            "TINYFLEET_DATA": str(tmp_path),
            "TINYFLEET_DATABASE_URL": "postgresql://fleet",
            "TINYFLEET_LEASE_S": "2.5",
            "TINYFLEET_GRACE_S": "1",
            "TINYFLEET_MAX_BLOB_BYTES": "1000",
        }
    )
    assert found.database_url == "postgresql://fleet"
    assert (found.timings.lease_s, found.timings.lost_s, found.max_blob_bytes) == (2.5, 3.5, 1000)
    assert found.blobs == tmp_path / "blobs"


@pytest.mark.parametrize("value", ["soon", "0", "-1", "inf", "nan"])
def test_a_bad_number_names_its_variable(value: str) -> None:
    with pytest.raises(InvalidSpec, match="TINYFLEET_TICK_S"):
        Settings.from_env({"TINYFLEET_TICK_S": value})


def test_three_missed_polls_make_a_node_late() -> None:
    found = Timings()
    assert 3 * found.poll_s == found.late_s < found.unreachable_s < found.lost_s
