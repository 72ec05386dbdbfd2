"""The telemetry's process beside an agent: what it pushes, what it knows of attempts, and how it gets over trouble."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fleet.agents import telemetry_pid
from fleet.agents.attempts import Assignment, Key, Limits, State
from fleet.agents.client import ControlPlane
from fleet.agents.instruments import MARK, Process
from fleet.agents.processes import clock
from fleet.agents.protocol import AttemptSpec, Outcome
from fleet.agents.runner import Attempt
from tests.fleet.agents.conftest import Start, gone, until
from tests.fleet.agents.far_end import FarEnd
from tests.fleet.agents.probes import box, nvidia
from tests.fleet.agents.probes.nvidia import H200
from tests.parts import need
from tests.signing import Pen

pytestmark = pytest.mark.slow
Measure = Callable[..., Process]
WATTS = 700


def values(text: str) -> dict[str, float]:
    """Of an exposition, by name and labels but uuid."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = [f"{key}={value}" for key, value in sample.labels.items() if key != "uuid"]
            found[" ".join([sample.name.removeprefix("fleet_"), *sorted(labels)])] = sample.value
    return found


@pytest.fixture
def measure(far_end: FarEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Measure]:
    """Telemetry of a box with two H200 of steady power, pushed to the far end."""
    box.host(tmp_path / "root")
    need("cc", "gcc", "clang", install="gcc")
    nvidia.build(tmp_path)
    nvidia.table(tmp_path / "table", *[H200 | {"power": WATTS * 1000}] * 2)
    monkeypatch.setenv("NVML_TABLE", str(tmp_path / "table"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    (tmp_path / "state").mkdir()
    started: list[Process] = []
    with ControlPlane(far_end.url, far_end.knows(Pen())) as control:

        def start(hint: Callable[[], None] = lambda: None, **options: Any) -> Process:
            started.append(Process(control, tmp_path / "state", hint, root=tmp_path / "root", **options))
            started[-1].start()
            return started[-1]

        yield start
        for process in started:
            process.close()


def attempt(folder: Path, began: float, ended: float | None = None, kind: str = "noop") -> Attempt:
    """One as the runner shows it, on the first GPU."""
    folder.mkdir(exist_ok=True)
    spec = {"kind": "noop"}
    if kind == "measure":
        spec = {"kind": kind, "kernel": {"program": "copy", "shape": [8]}, "budget_s": 1.0}  # type: ignore[dict-item]
        spec["candidates"] = [{"hash": "0" * 64, "schedule": []}]  # type: ignore[assignment]
    document = {
        "attempt_id": 7,
        "job_id": 40,
        "fence": 1,
        "device": "gpu0",
        "exclusive": True,
        "timeout_s": 60.0,
    }
    told = AttemptSpec.model_validate(document | {"spec": spec})
    if ended is None:
        state = State("running", started=began)
    else:
        state = State("exited", started=began, elapsed_s=ended - began, outcome=Outcome.SUCCEEDED)
    return Attempt(Key(7, 1), folder, Assignment(told, Limits()), state, False)


def seen(far_end: FarEnd, name: str) -> float:
    """Until the far end has been pushed this value; returns it."""
    found: dict[str, float] = {}

    def there() -> bool:
        found.update(values(far_end.expositions[-1]) if far_end.expositions else {})
        return name in found

    far_end.wait(there, name)
    return found[name]


def test_what_the_probes_say_is_pushed_and_counted(far_end: FarEnd, measure: Measure) -> None:
    measure(version="1.2")
    assert seen(far_end, "gpu_power_watts gpu=0") == WATTS
    assert seen(far_end, "gpu_power_peak_watts gpu=1 window=15s") == WATTS
    assert seen(far_end, "node_cpus") == 2
    assert seen(far_end, "agent_build_info version=1.2") == 1
    assert seen(far_end, "collector_success collector=nvml") == 1
    assert 0 < seen(far_end, "agent_resident_memory_bytes process=telemetry") < 60 << 20


def test_an_attempt_is_told_its_joules_by_the_counter(
    far_end: FarEnd, measure: Measure, tmp_path: Path
) -> None:
    hinted = threading.Event()
    process = measure(hinted.set)
    seen(far_end, "gpu_energy_joules_total gpu=0 method=counter")  # compared with power, and believed
    began = clock()
    process.show([attempt(tmp_path / "7-1", began)])
    assert seen(far_end, "job_info gpu=0 job_id=40") == 1
    until(lambda: (tmp_path / "7-1" / MARK).exists())
    ended = clock()
    over = attempt(tmp_path / "7-1", began, ended)
    process.show([over])
    assert not process.settled(over)
    assert hinted.wait(10)
    assert process.settled(over)
    found = process.energy(over)
    assert found is not None
    assert found.method == "counter"
    assert found.joules == pytest.approx(WATTS * (ended - began), rel=0.05)
    assert found.throttled_s > 0, "this GPU is always at its cap"


def test_joules_go_on_over_a_restart_of_the_telemetry(
    far_end: FarEnd, measure: Measure, tmp_path: Path
) -> None:
    process = measure()
    seen(far_end, "gpu_energy_joules_total gpu=0 method=counter")
    began = clock()
    running = attempt(tmp_path / "7-1", began)
    process.show([running])
    until(lambda: (tmp_path / "7-1" / MARK).exists())
    process.close()
    again = measure()
    until(lambda: "gpu0" in again._devices)
    ended = clock()
    over = attempt(tmp_path / "7-1", began, ended)
    again.show([over])
    until(lambda: again.settled(over))
    found = again.energy(over)
    assert found is not None
    assert found.method == "counter"
    assert found.joules == pytest.approx(WATTS * (ended - began), rel=0.05)


def test_the_telemetry_hears_that_something_is_measured_here(
    far_end: FarEnd, measure: Measure, tmp_path: Path
) -> None:
    process = measure()
    seen(far_end, "gpu_power_watts gpu=0")
    process.show([attempt(tmp_path / "7-1", clock(), kind="measure")])
    assert process._said["paused"]
    assert seen(far_end, "job_info gpu=0 job_id=40") == 1
    process.show([])
    assert not process._said["paused"]


def test_through_an_outage_it_samples_on_and_then_sums_up(far_end: FarEnd, measure: Measure) -> None:
    process = measure()
    seen(far_end, "gpu_power_watts gpu=0")
    far_end.answer_with = 503
    until(lambda: process._offline)
    far_end.expositions.clear()
    far_end.answer_with = None
    assert seen(far_end, "gpu_power_peak_watts gpu=0 window=offline") == WATTS
    assert seen(far_end, "gpu_power_mean_watts gpu=1 window=offline") == pytest.approx(WATTS)


def test_a_telemetry_that_dies_is_started_again_and_nobody_waits_for_it(
    far_end: FarEnd, measure: Measure, tmp_path: Path
) -> None:
    process = measure()
    seen(far_end, "gpu_power_watts gpu=0")
    assert process._child is not None
    assert telemetry_pid.telemetry(tmp_path / "state") == {process._child.pid}, "whom a GPU's check spares"
    os.kill(process._child.pid, signal.SIGKILL)
    until(lambda: not process._devices)
    assert telemetry_pid.telemetry(tmp_path / "state") == set()
    over = attempt(tmp_path / "7-1", clock() - 1, clock())
    process.show([over])
    assert process.settled(over)
    assert process.energy(over) is None
    far_end.expositions.clear()
    assert seen(far_end, "gpu_power_watts gpu=0") == WATTS


def test_one_gpu_that_never_answers_costs_its_own_series(
    far_end: FarEnd, measure: Measure, tmp_path: Path
) -> None:
    nvidia.table(tmp_path / "table", H200 | {"hang": 1}, H200 | {"power": WATTS * 1000})
    measure()
    assert seen(far_end, "gpu_power_watts gpu=1") == WATTS
    assert seen(far_end, "gpu_ecc_errors_total gpu=0 kind=corrected scope=volatile") == 7, (
        "of another collector"
    )
    far_end.wait(
        lambda: values(far_end.expositions[-1]).get("collector_timeouts_total collector=nvml") == 1,
        "the read that hangs counted",
    )
    assert "gpu_temperature_celsius gpu=0 sensor=gpu" not in values(far_end.expositions[-1])
    assert seen(far_end, "gpu_temperature_celsius gpu=1 sensor=gpu") == 61


def test_it_is_served_on_a_local_port_too(far_end: FarEnd, measure: Measure) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    measure(listen=f"127.0.0.1:{port}")
    seen(far_end, "gpu_power_watts gpu=0")
    status, text = ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
    assert status == "200 OK"
    assert values(text)["gpu_power_watts gpu=0"] == WATTS
    assert ask(port, b"GET /other HTTP/1.1\r\n\r\n")[0] == "404 Not Found"
    assert ask(port, b"DELETE /metrics HTTP/1.1\r\n\r\n")[0] == "405 Method Not Allowed"


def ask(port: int, request: bytes) -> tuple[str, str]:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.decode().partition("\r\n\r\n")
    return head.splitlines()[0].removeprefix("HTTP/1.1 "), body


def test_an_agent_pushes_its_machine_and_takes_its_telemetry_with_it(
    far_end: FarEnd, start_agent: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = start_agent(far_end, telemetry="on")
    assert seen(far_end, "node_cpus") >= 1
    assert seen(far_end, "agent_resident_memory_bytes process=agent") > 0
    children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
    telemetry = [
        pid for pid in children if b"fleet.agents.telemetry" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    agent.end(signal.SIGKILL)
    until(lambda: all(gone(int(pid)) for pid in telemetry))
