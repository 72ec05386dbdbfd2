"""Every series that a node exports: its name, what kind it is, and a sentence. Nothing else can be rendered.

The labels are in docs/telemetry.md, which a test compares with this list.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter"]
# Values of the label `reason`, of which a vendor has some.
THROTTLE_REASONS = (
    *("power_cap", "power_brake", "hw_slowdown", "sw_thermal", "hw_thermal", "sync_boost"),
    *("current", "other"),
)


class Family(NamedTuple):
    """A metric's name with its kind and help."""

    name: str
    kind: Kind
    help: str

    @property
    def header(self) -> str:
        """The lines before its samples."""
        return f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n"


def _families(prefix: str, text: str) -> tuple[Family, ...]:
    """From lines of `name: sentence`. What ends in _total is a counter, all else a gauge."""
    found = []
    for line in text.strip().splitlines():
        name, _, sentence = line.strip().partition(": ")
        kind: Kind = "counter" if name.endswith("_total") else "gauge"
        found.append(Family(f"{prefix}{name}", kind, sentence))
    return tuple(found)


GPU = _families(
    "fleet_",
    """
    gpu_info: A GPU and who says so (source); always 1.
    gpu_up: Whether the GPU that the PCI bus shows can be read.
    gpu_driver_state: Which kind of driver has the GPU: 1 for the state that is so.
    gpus_expected: GPUs that this node has had since its telemetry started and that have no driver outside the kernel.
    gpu_power_watts: Power that the board draws now.
    gpu_power_limit_watts: Power limit that is enforced.
    gpu_power_peak_watts: Highest of the 10 Hz power samples in the window.
    gpu_power_low_watts: Lowest of the 10 Hz power samples in the window.
    gpu_power_mean_watts: Mean of the 10 Hz power samples in the window.
    gpu_power_deviation_watts: Standard deviation of the 10 Hz power samples in the window.
    gpu_energy_joules_total: Energy used, by the device's own counter or integrated from its power.
    gpu_busy_ratio: Share of time in which any kernel ran, as vendors' tools call utilization; see sm_active.
    gpu_gpm_supported: Whether the GPU can say its true utilization; where it cannot, that is absent.
    gpu_sm_active_ratio: Share of time and of multiprocessors with at least one warp on them.
    gpu_sm_occupancy_ratio: Warps that were on multiprocessors, of those that fit.
    gpu_tensor_active_ratio: Share of time in which the tensor cores worked.
    gpu_memory_bandwidth_ratio: Memory bandwidth used, of the highest possible.
    gpu_memory_used_bytes: Memory in use.
    gpu_memory_total_bytes: Memory there is.
    gpu_temperature_celsius: Temperature by sensor.
    gpu_fan_ratio: Fan speed, of the highest.
    gpu_clock_hertz: Clock by domain.
    gpu_throttle_seconds_total: Time for which clocks were held down, by reason.
    gpu_throttled: Whether clocks are held down now, by reason.
    gpu_ecc_errors_total: Memory errors corrected and uncorrected, since the driver was loaded and ever.
    gpu_remapped_rows: Rows of memory that were replaced, by cause.
    gpu_remap_pending: Whether a row waits for a reset to be replaced.
    gpu_remap_failed: Whether a row could not be replaced.
    gpu_recovery_action: What the driver asks for: 0 nothing, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset.
    gpu_xid_errors_total: Errors by XID since the telemetry started.
    gpu_xid_last_timestamp_seconds: When this XID was last seen.
    gpu_pcie_rx_bytes_per_second: Bytes received over PCIe, packets' headers included, by GPM since the last look or over 20 ms.
    gpu_pcie_tx_bytes_per_second: Bytes sent over PCIe, counted in the same way.
    gpu_pcie_replays_total: PCIe packets that had to be sent again.
    gpu_pcie_link_width: Lanes in use; fewer when idle mean nothing.
    gpu_pcie_link_width_max: Lanes that card and slot could use.
    gpu_pcie_link_generation: PCIe generation in use; a lower one when idle means nothing.
    gpu_pcie_link_generation_max: PCIe generation that card and slot could use.
    gpu_link_rx_bytes_total: Bytes received over a link between GPUs.
    gpu_link_tx_bytes_total: Bytes sent over a link between GPUs.
    gpu_processes: Processes that compute on the GPU.
    pci_aer_errors_total: PCIe errors that the kernel counted, by severity.
    job_info: The job whose lease holds the GPU now; always 1.
    """,
)
DRIVE = _families(
    "fleet_",
    """
    drive_info: A drive; always 1.
    drive_up: Whether the drive answers and calls itself healthy.
    drive_capacity_bytes: Capacity.
    drive_temperature_celsius: Composite temperature.
    drive_percentage_used_ratio: Endurance used, by the maker's reckoning; may exceed 1.
    drive_available_spare_ratio: Spare blocks left.
    drive_critical_warning: Whether the drive warns, by bit.
    drive_media_errors_total: Reads and writes that the drive could not serve.
    drive_unsafe_shutdowns_total: Times that power went without notice.
    drive_power_on_seconds_total: Time under power, in whole hours.
    drive_host_read_bytes_total: Bytes read by the host.
    drive_host_written_bytes_total: Bytes written by the host.
    drive_warning_temperature_seconds_total: Time above the warning temperature, in whole minutes.
    drive_thermal_throttle_seconds_total: Time for which the drive slowed itself down, by level.
    drive_link_width: PCIe lanes in use.
    drive_io_time_seconds_total: Time with requests in flight, as the kernel counts it.
    raid_array_up: Whether an array has all its members.
    """,
)
POWER = _families(
    "fleet_",
    """
    node_power_watts: Power that the node draws, by who says so.
    node_energy_joules_total: Energy that the node used, by who says so.
    psu_power_watts: Power by power supply.
    cpu_energy_joules_total: Energy by processor package and zone.
    pdu_current_amperes: Current of a PDU's outlet or input.
    pdu_voltage_volts: Voltage of a PDU's outlet or input.
    pdu_power_watts: Power of a PDU's outlet or input.
    pdu_energy_joules_total: Energy of a PDU's outlet or input.
    """,
)
NODE = _families(
    "fleet_",
    """
    node_boot_timestamp_seconds: When the node booted.
    node_cpus: Processors that are online.
    node_cpu_seconds_total: Time of all processors by mode.
    node_load1: Processes running or waiting, averaged over a minute.
    node_memory_total_bytes: Main memory.
    node_memory_available_bytes: Main memory that could be used without swapping.
    node_pressure_stalled_seconds_total: Time for which some process waited, by resource.
    node_network_receive_bytes_total: Bytes received by interface.
    node_network_transmit_bytes_total: Bytes sent by interface.
    node_disk_read_bytes_total: Bytes read by block device.
    node_disk_written_bytes_total: Bytes written by block device.
    node_filesystem_size_bytes: Size of a filesystem.
    node_filesystem_available_bytes: Bytes that any user may still write.
    """,
)
AGENT = _families(
    "fleet_",
    """
    collector_success: Whether the collector's last run gave what it should.
    collector_duration_seconds: How long its last run took.
    collector_last_success_timestamp_seconds: When it last gave what it should.
    collector_timeouts_total: Runs that did not end in time.
    agent_build_info: The agent's version; always 1.
    agent_cpu_seconds_total: Processor time of the agent's processes, by process.
    agent_clock_offset_seconds: By how much the node's clock is behind the control plane's, where it had to be corrected.
    agent_resident_memory_bytes: Resident memory of the agent's processes, by process.
    """,
)
FAMILIES = (*AGENT, *NODE, *GPU, *DRIVE, *POWER)
