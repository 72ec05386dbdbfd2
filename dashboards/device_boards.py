"""The dashboards of devices: GPUs and drives."""

from __future__ import annotations

from dashboards.boards import RATE, SM
from dashboards.panels import GPU, GPUS, NODE, NODES, ONE_NODE, RACK, SITE, Board, Panel, Query, Row, one

GPU_BOARD = Board(
    "tinyfleet-gpu",
    "tinyfleet / GPU",
    "One node's GPUs in full: work, power, what holds the clocks down, faults, links.",
    (
        Row(
            "Work",
            (
                one(
                    "SM active",
                    "timeseries",
                    f"fleet_gpu_sm_active_ratio{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "percentunit",
                    SM,
                    most=1,
                ),
                one(
                    "Tensor active",
                    "timeseries",
                    f"fleet_gpu_tensor_active_ratio{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "percentunit",
                    most=1,
                ),
                one(
                    "Memory bandwidth",
                    "timeseries",
                    f"fleet_gpu_memory_bandwidth_ratio{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "percentunit",
                    most=1,
                ),
                one(
                    "Occupancy",
                    "timeseries",
                    f"fleet_gpu_sm_occupancy_ratio{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "percentunit",
                    most=1,
                ),
                one(
                    "Busy",
                    "timeseries",
                    f"fleet_gpu_busy_ratio{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "percentunit",
                    "What vendors' tools call utilization: any kernel at all. For GPUs that can say no better.",
                    most=1,
                ),
                one(
                    "Memory used",
                    "timeseries",
                    f"fleet_gpu_memory_used_bytes{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "bytes",
                ),
            ),
        ),
        Row(
            "Power and clocks",
            (
                Panel(
                    "Power",
                    "timeseries",
                    (
                        Query(f"fleet_gpu_power_watts{{{GPUS}}}", "gpu{{gpu}}"),
                        Query(f"fleet_gpu_power_peak_watts{{{GPUS}}}", "gpu{{gpu}} peak of {{window}}"),
                        Query(f"fleet_gpu_power_limit_watts{{{GPUS}}}", "gpu{{gpu}} limit"),
                    ),
                    "watt",
                ),
                one(
                    "Power from energy",
                    "timeseries",
                    f"rate(fleet_gpu_energy_joules_total{{{GPUS}}}[{RATE}])",
                    "gpu{{gpu}} {{method}}",
                    "watt",
                    "The mean over the interval, from the counter.",
                ),
                one(
                    "Deviation of power",
                    "timeseries",
                    f"fleet_gpu_power_deviation_watts{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "watt",
                ),
                one(
                    "Clocks",
                    "timeseries",
                    f"fleet_gpu_clock_hertz{{{GPUS}}}",
                    "gpu{{gpu}} {{domain}}",
                    "hertz",
                ),
                one(
                    "Held down, by reason",
                    "timeseries",
                    f"rate(fleet_gpu_throttle_seconds_total{{{GPUS}}}[{RATE}])",
                    "gpu{{gpu}} {{reason}}",
                    "percentunit",
                ),
                one(
                    "Temperatures",
                    "timeseries",
                    f"fleet_gpu_temperature_celsius{{{GPUS}}}",
                    "gpu{{gpu}} {{sensor}}",
                    "celsius",
                ),
            ),
        ),
        Row(
            "Faults",
            (
                one(
                    "XIDs",
                    "table",
                    f"max by (node, gpu, xid) (fleet_gpu_xid_errors_total{{{GPUS}}})",
                    about="Since the agent started.",
                ),
                one(
                    "Since the last XID",
                    "table",
                    f"time() - max by (node, gpu, xid) (fleet_gpu_xid_last_timestamp_seconds{{{GPUS}}})",
                    unit="s",
                ),
                one(
                    "Memory errors",
                    "timeseries",
                    f"fleet_gpu_ecc_errors_total{{{GPUS}}}",
                    "gpu{{gpu}} {{kind}} {{scope}}",
                ),
                one(
                    "Recovery action",
                    "states",
                    f"fleet_gpu_recovery_action{{{GPUS}}}",
                    "gpu{{gpu}}",
                    about="0 nothing, 1 reset, 2 reboot, 3 drain peer-to-peer, 4 drain and reset.",
                ),
                one(
                    "Rows remapped",
                    "timeseries",
                    f"fleet_gpu_remapped_rows{{{GPUS}}}",
                    "gpu{{gpu}} {{cause}}",
                ),
                one(
                    "Driver",
                    "table",
                    f"max by (node, gpu, state) (fleet_gpu_driver_state{{{GPUS}}}) == 1",
                    about="kernel, userspace, or none.",
                ),
            ),
        ),
        Row(
            "Links",
            (
                one(
                    "PCIe received",
                    "timeseries",
                    f"fleet_gpu_pcie_rx_bytes_per_second{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "Bps",
                ),
                one(
                    "PCIe sent",
                    "timeseries",
                    f"fleet_gpu_pcie_tx_bytes_per_second{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "Bps",
                ),
                one(
                    "PCIe lanes of those there are",
                    "timeseries",
                    f"fleet_gpu_pcie_link_width{{{GPUS}}} / fleet_gpu_pcie_link_width_max{{{GPUS}}}",
                    "gpu{{gpu}}",
                    "percentunit",
                    "Fewer mean something under load only.",
                    most=1,
                ),
                one(
                    "PCIe errors",
                    "timeseries",
                    f"sum by (node, pci_address, severity) (rate(fleet_pci_aer_errors_total{{{NODES}}}[{RATE}]))",
                    "{{node}} {{pci_address}} {{severity}}",
                ),
                one(
                    "Between GPUs, received",
                    "timeseries",
                    f"sum by (node, gpu, fabric) (rate(fleet_gpu_link_rx_bytes_total{{{GPUS}}}[{RATE}]))",
                    "gpu{{gpu}} {{fabric}}",
                    "Bps",
                ),
                one(
                    "PCIe replays",
                    "timeseries",
                    f"rate(fleet_gpu_pcie_replays_total{{{GPUS}}}[{RATE}])",
                    "gpu{{gpu}}",
                ),
            ),
        ),
    ),
    (SITE, RACK, ONE_NODE, GPU),
)

DRIVES = Board(
    "tinyfleet-drives",
    "tinyfleet / Drives",
    "Wear, errors, heat and traffic of drives, by their serials.",
    (
        Row(
            "Now",
            (
                one("Drives", "stat", f"count(fleet_drive_up{{{NODES}}})", width=6),
                one(
                    "Not well",
                    "stat",
                    f"count(fleet_drive_up{{{NODES}}} == 0) or vector(0)",
                    width=6,
                    limits=(1, 2),
                ),
                one(
                    "Most worn",
                    "stat",
                    f"max(fleet_drive_percentage_used_ratio{{{NODES}}})",
                    unit="percentunit",
                    width=6,
                    limits=(0.8, 0.95),
                ),
                one(
                    "Arrays that lack a member",
                    "stat",
                    f"count(fleet_raid_array_up{{{NODES}}} == 0) or vector(0)",
                    width=6,
                    limits=(1, 1),
                ),
            ),
        ),
        Row(
            "Health",
            (
                one(
                    "The most worn",
                    "table",
                    f"topk(20, fleet_drive_percentage_used_ratio{{{NODES}}})",
                    unit="percentunit",
                    width=12,
                ),
                one(
                    "Critical warnings",
                    "table",
                    f"max by (node, device, serial, bit) (fleet_drive_critical_warning{{{NODES}}}) > 0",
                    width=12,
                ),
                one(
                    "Life used in a week, at today's rate",
                    "timeseries",
                    f"deriv(fleet_drive_percentage_used_ratio{{{NODES}}}[1d]) * 7 * 86400",
                    "{{node}} {{device}}",
                    "percentunit",
                ),
                one(
                    "Spare left",
                    "timeseries",
                    f"fleet_drive_available_spare_ratio{{{NODES}}}",
                    "{{node}} {{device}}",
                    "percentunit",
                    most=1,
                ),
                one(
                    "Media errors",
                    "timeseries",
                    f"fleet_drive_media_errors_total{{{NODES}}}",
                    "{{node}} {{device}}",
                ),
                one(
                    "Temperature",
                    "timeseries",
                    f"fleet_drive_temperature_celsius{{{NODES}}}",
                    "{{node}} {{device}}",
                    "celsius",
                ),
                one(
                    "Slowed down by heat",
                    "timeseries",
                    f"sum by (node, device) (rate(fleet_drive_thermal_throttle_seconds_total{{{NODES}}}[{RATE}]))",
                    "{{node}} {{device}}",
                    "percentunit",
                ),
                one(
                    "Unsafe shutdowns",
                    "timeseries",
                    f"fleet_drive_unsafe_shutdowns_total{{{NODES}}}",
                    "{{node}} {{device}}",
                ),
            ),
        ),
        Row(
            "Traffic",
            (
                one(
                    "Read",
                    "timeseries",
                    f"rate(fleet_drive_host_read_bytes_total{{{NODES}}}[{RATE}])",
                    "{{node}} {{device}}",
                    "Bps",
                ),
                one(
                    "Written",
                    "timeseries",
                    f"rate(fleet_drive_host_written_bytes_total{{{NODES}}}[{RATE}])",
                    "{{node}} {{device}}",
                    "Bps",
                ),
                one(
                    "Busy",
                    "timeseries",
                    f"rate(fleet_drive_io_time_seconds_total{{{NODES}}}[{RATE}])",
                    "{{node}} {{device}}",
                    "percentunit",
                    most=1,
                ),
                one("PCIe lanes", "timeseries", f"fleet_drive_link_width{{{NODES}}}", "{{node}} {{device}}"),
            ),
        ),
    ),
    (SITE, RACK, NODE),
)
