"""What a simulated node exports: the same families with the same labels as a real one, by the agent's own exporter."""

from __future__ import annotations

from importlib import metadata

from fleet.agents.exporter import render
from fleet.agents.samples import Readings, joined, labels
from fleet.simulation.faults import FaultKind
from fleet.simulation.hardware import THROTTLES, SimulatedBox, SimulatedDrive, SimulatedGpu

WINDOW = "10s"
_PCIE_BYTES_PER_SECOND = 9e9  # of a GPU that is wholly busy
SEVERITIES = ("correctable", "nonfatal", "fatal")
COLLECTORS = ("nvml", "smartctl", "ipmi", "pcie", "kmsg", "host")
CPU_MODES = {"user": 0.3, "system": 0.05, "idle": 0.64, "iowait": 0.01}


class Exposed:
    """Renders one node's exposition. The texts of labels are put together once."""

    def __init__(self, hardware: SimulatedBox, serial: str) -> None:
        self._box = hardware
        self._serial = serial
        model = hardware.box.gpu
        self._gpus = [labels(gpu=str(gpu.number), uuid=f"GPU-{serial}-{gpu.number}") for gpu in hardware.gpus]
        self._pci = [f"0000:{0x10 + gpu.number * 0x10:02x}:00.0" for gpu in hardware.gpus]
        self._info = [
            joined(
                own,
                vendor=model.vendor,
                product=model.product,
                pci_address=pci,
                serial=f"{serial}{number:02d}",
                driver_version=model.driver,
                source="simulation",
            )
            for number, (own, pci) in enumerate(zip(self._gpus, self._pci, strict=True))
        ]
        self._links = [
            [joined(own, fabric=model.fabric, link=str(link)) for link in range(model.links)]
            for own in self._gpus
        ]
        self._drives = [
            labels(device=f"nvme{drive.number}", serial=f"{serial}D{drive.number:02d}")
            for drive in hardware.drives
        ]

    def text(self, jobs: dict[int, int]) -> str:
        """The exposition as of the hardware's last advance; `jobs`: the job that holds a GPU, by the GPU's number."""
        readings = Readings()
        for gpu in self._box.gpus:
            self._gpu(readings, gpu)
            if gpu.number in jobs:
                own = joined(self._gpus[gpu.number], job_id=str(jobs[gpu.number]))
                readings.add("fleet_job_info", own, 1)
        for drive in self._box.drives:
            self._drive(readings, drive)
        self._power(readings)
        self._host(readings)
        self._agent(readings)
        return render(readings.samples)

    def _gpu(self, readings: Readings, gpu: SimulatedGpu) -> None:
        own, model = self._gpus[gpu.number], self._box.box.gpu
        driver = "none" if self._box.faults.has(FaultKind.DRIVER, gpu.number) else "kernel"
        readings.add("fleet_gpu_up", own, int(not gpu.lost))
        readings.state("fleet_gpu_driver_state", own, "state", ("kernel", "userspace", "none"), driver)
        for xid, count in gpu.xids.items():
            text = joined(own, xid=str(xid))
            readings.add("fleet_gpu_xid_errors_total", text, count)
            readings.add("fleet_gpu_xid_last_timestamp_seconds", text, round(gpu.xid_last[xid], 3))
        self._bus(readings, gpu)
        if gpu.lost:
            return
        readings.add("fleet_gpu_info", self._info[gpu.number], 1)
        readings.add("fleet_gpu_power_watts", own, round(gpu.power_watts, 3))
        readings.add("fleet_gpu_power_limit_watts", own, gpu.limit_watts)
        window = joined(own, window=WINDOW)
        readings.add("fleet_gpu_power_peak_watts", window, round(gpu.peak_watts, 3))
        readings.add("fleet_gpu_power_low_watts", window, round(gpu.power_watts * 0.93, 3))
        readings.add("fleet_gpu_power_mean_watts", window, round(gpu.power_watts, 3))
        readings.add("fleet_gpu_power_deviation_watts", window, round(gpu.power_watts * 0.02, 3))
        method = "counter" if model.vendor == "nvidia" else "integrated"
        readings.add("fleet_gpu_energy_joules_total", joined(own, method=method), round(gpu.energy_joules, 3))
        readings.add("fleet_gpu_busy_ratio", own, 1.0 if gpu.work else 0.0)
        readings.add("fleet_gpu_gpm_supported", own, int(model.true_utilization))
        if model.true_utilization:
            readings.add("fleet_gpu_sm_active_ratio", own, round(gpu.work * 0.99, 4))
            readings.add("fleet_gpu_sm_occupancy_ratio", own, round(gpu.work * 0.55, 4))
            readings.add("fleet_gpu_tensor_active_ratio", own, round(gpu.work * 0.7, 4))
            readings.add("fleet_gpu_memory_bandwidth_ratio", own, round(gpu.work * 0.45, 4))
        used = 0.86 if gpu.work else 0.004
        readings.add("fleet_gpu_memory_used_bytes", own, int(used * model.memory_bytes))
        readings.add("fleet_gpu_memory_total_bytes", own, model.memory_bytes)
        for sensor, above in (("gpu", 0.0), ("memory", 9.0)):
            text = joined(own, sensor=sensor)
            readings.add("fleet_gpu_temperature_celsius", text, round(gpu.temperature + above, 1))
        for domain in ("graphics", "sm", "video", "memory"):
            share = 1.0 if domain == "memory" else gpu.clock_share
            hertz = round(model.clock_hertz * share)
            readings.add("fleet_gpu_clock_hertz", joined(own, domain=domain), hertz)
        for reason in THROTTLES:
            text = joined(own, reason=reason)
            readings.add("fleet_gpu_throttled", text, int(reason in gpu.throttled))
            readings.add("fleet_gpu_throttle_seconds_total", text, round(gpu.throttle_seconds[reason], 3))
        if model.true_utilization:  # a GeForce has neither ECC nor rows to remap
            self._memory(readings, gpu)
        readings.add("fleet_gpu_recovery_action", own, int(bool(gpu.uncorrected)))
        readings.add("fleet_gpu_processes", own, int(gpu.work > 0))
        for text in self._links[gpu.number]:
            readings.add("fleet_gpu_link_rx_bytes_total", text, int(gpu.link_bytes))
            readings.add("fleet_gpu_link_tx_bytes_total", text, int(gpu.link_bytes))

    def _memory(self, readings: Readings, gpu: SimulatedGpu) -> None:
        own = self._gpus[gpu.number]
        failed = self._box.faults.has(FaultKind.REMAP, gpu.number)
        for kind, count in (("corrected", 0.0), ("uncorrected", gpu.uncorrected)):
            for scope in ("volatile", "aggregate"):
                text = joined(own, kind=kind, scope=scope)
                readings.add("fleet_gpu_ecc_errors_total", text, int(count))
        for cause in ("corrected", "uncorrected"):
            readings.add("fleet_gpu_remapped_rows", joined(own, cause=cause), 0)
        readings.add("fleet_gpu_remap_pending", own, 0)
        readings.add("fleet_gpu_remap_failed", own, int(failed))

    def _bus(self, readings: Readings, gpu: SimulatedGpu) -> None:
        own, pci = self._gpus[gpu.number], self._pci[gpu.number]
        for severity in SEVERITIES:
            text = labels(pci_address=pci, severity=severity)
            readings.add("fleet_pci_aer_errors_total", text, int(gpu.aer) if severity == "correctable" else 0)
        if gpu.lost:
            return
        degraded = self._box.faults.has(FaultKind.LINK, gpu.number)
        readings.add("fleet_gpu_pcie_rx_bytes_per_second", own, gpu.work * _PCIE_BYTES_PER_SECOND)
        readings.add("fleet_gpu_pcie_tx_bytes_per_second", own, gpu.work * 0.4 * _PCIE_BYTES_PER_SECOND)
        readings.add("fleet_gpu_pcie_replays_total", own, int(gpu.aer / 2))
        readings.add("fleet_gpu_pcie_link_width", own, 8 if degraded else 16)
        readings.add("fleet_gpu_pcie_link_width_max", own, 16)
        readings.add("fleet_gpu_pcie_link_generation", own, 5 if gpu.work else 1)
        readings.add("fleet_gpu_pcie_link_generation_max", own, 5)

    def _drive(self, readings: Readings, drive: SimulatedDrive) -> None:
        own = self._drives[drive.number]
        readings.add("fleet_drive_up", own, int(not drive.gone))
        if drive.gone:
            return
        info = joined(
            own, vendor="ACME", product="Simulated 3.84TB", firmware="1.0", transport="nvme", role="data"
        )
        readings.add("fleet_drive_info", info, 1)
        readings.add("fleet_drive_capacity_bytes", own, 3_840_755_982_336)
        readings.add("fleet_drive_temperature_celsius", own, round(drive.temperature, 1))
        readings.add("fleet_drive_percentage_used_ratio", own, round(drive.used_ratio, 6))
        readings.add("fleet_drive_available_spare_ratio", own, round(drive.spare_ratio, 4))
        worn = drive.spare_ratio < 0.1
        for bit in ("spare", "temperature", "reliability", "read_only", "backup"):
            text = joined(own, bit=bit)
            readings.add("fleet_drive_critical_warning", text, int(bit == "spare" and worn))
        readings.add("fleet_drive_media_errors_total", own, int(drive.media_errors))
        readings.add("fleet_drive_unsafe_shutdowns_total", own, 3)
        readings.add("fleet_drive_power_on_seconds_total", own, 3600 * int(1e7 / 3600))
        readings.add("fleet_drive_host_read_bytes_total", own, int(drive.read_bytes))
        readings.add("fleet_drive_host_written_bytes_total", own, int(drive.written_bytes))
        readings.add("fleet_drive_warning_temperature_seconds_total", own, 0)
        for level in ("1", "2"):
            text = joined(own, level=level)
            readings.add("fleet_drive_thermal_throttle_seconds_total", text, 0)
        readings.add("fleet_drive_link_width", own, 4)
        readings.add("fleet_drive_io_time_seconds_total", own, round(drive.busy_seconds, 3))

    def _power(self, readings: Readings) -> None:
        box = self._box
        readings.add("fleet_gpus_expected", "", box.box.gpus)
        text = labels(source="ipmi")
        readings.add("fleet_node_power_watts", text, round(box.node_watts, 1))
        readings.add("fleet_node_energy_joules_total", text, round(box.node_joules, 1))
        for psu in ("1", "2"):
            readings.add("fleet_psu_power_watts", labels(psu=psu), round(box.node_watts / 2, 1))
        for package in ("0", "1"):
            text = labels(package=package, zone="package")
            readings.add("fleet_cpu_energy_joules_total", text, round(box.cpu_joules / 2, 3))
        self._pdu(readings)
        readings.add("fleet_raid_array_up", labels(array="md0"), int(not any(d.gone for d in box.drives)))

    def _pdu(self, readings: Readings) -> None:
        """A PDU of its own, whose load hangs on three phases, on one of them more when that is what is wrong."""
        box = self._box
        shares = (0.6, 0.2, 0.2) if box.faults.has(FaultKind.IMBALANCE) else (0.34, 0.33, 0.33)
        for phase, share in zip(("L1", "L2", "L3"), shares, strict=True):
            text = labels(pdu=f"{self._serial}-pdu", input=phase)
            watts = box.true_watts * share
            readings.add("fleet_pdu_current_amperes", text, round(watts / 230.0, 2))
            readings.add("fleet_pdu_voltage_volts", text, 230.0)
            readings.add("fleet_pdu_power_watts", text, round(watts, 1))
            readings.add("fleet_pdu_energy_joules_total", text, round(box.node_joules * share, 1))

    def _host(self, readings: Readings) -> None:
        box, up_s = self._box, self._box.now - self._box.started
        readings.add("fleet_node_boot_timestamp_seconds", "", round(box.started - 86_400.0))
        readings.add("fleet_node_cpus", "", box.box.cores)
        for mode, share in CPU_MODES.items():
            text = labels(mode=mode)
            readings.add("fleet_node_cpu_seconds_total", text, round(share * box.box.cores * up_s, 2))
        readings.add("fleet_node_load1", "", round(box.work * box.box.cores * 0.4, 2))
        readings.add("fleet_node_memory_total_bytes", "", box.box.memory_bytes)
        free = int(box.box.memory_bytes * (0.9 - 0.5 * box.work))
        readings.add("fleet_node_memory_available_bytes", "", free)
        for resource in ("cpu", "io", "memory"):
            readings.add(
                "fleet_node_pressure_stalled_seconds_total", labels(resource=resource), round(up_s * 0.01, 3)
            )
        for interface in ("eth0", *(f"ib{number}" for number in range(len(box.gpus)))):
            text = labels(interface=interface)
            moved = int(1e6 * up_s + box.gpus[0].link_bytes)
            readings.add("fleet_node_network_receive_bytes_total", text, moved)
            readings.add("fleet_node_network_transmit_bytes_total", text, moved)
        for drive in box.drives:
            text = labels(device=f"nvme{drive.number}n1")
            readings.add("fleet_node_disk_read_bytes_total", text, int(drive.read_bytes))
            readings.add("fleet_node_disk_written_bytes_total", text, int(drive.written_bytes))
        text = labels(mountpoint="state")
        readings.add("fleet_node_filesystem_size_bytes", text, 960 << 30)
        readings.add("fleet_node_filesystem_available_bytes", text, 512 << 30)

    def _agent(self, readings: Readings) -> None:
        box = self._box
        for number, collector in enumerate(COLLECTORS):
            hung = number == 0 and box.faults.has(FaultKind.HUNG)
            text = labels(collector=collector)
            readings.add("fleet_collector_success", text, int(not hung))
            readings.add("fleet_collector_duration_seconds", text, 10.0 if hung else 0.002)
            last = box.now - 3600.0 if hung else box.now
            readings.add("fleet_collector_last_success_timestamp_seconds", text, round(last, 3))
            readings.add("fleet_collector_timeouts_total", text, box.timeouts if number == 0 else 0)
        version = metadata.version("tinyfleet")
        readings.add("fleet_agent_build_info", labels(version=version, simulated="true"), 1)
        for process in ("agent", "telemetry"):
            text = labels(process=process)
            readings.add("fleet_agent_cpu_seconds_total", text, round(box.cpu_seconds / 2, 3))
            readings.add("fleet_agent_resident_memory_bytes", text, 27 << 20)
