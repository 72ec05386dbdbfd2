"""All attacks that an attempt can judge itself, and which wall stops each alone. docs/walls.md is printed from it.

The letters: L Landlock, S seccomp, U a uid of its own, R no rights (capabilities, setuid programs), M limits, N namespaces;
none: it is never open. The uid is that of an agent that runs as root; one that does not has no such wall.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.attacks import files, kernel_calls, network, processes
from tests.attacks.trial import Attack

LETTERS = {
    "L": "landlock",
    "S": "seccomp",
    "U": "uid",
    "R": "rights",
    "M": "limits",
    "N": "namespaces",
}


@dataclass(frozen=True)
class Entry:
    """One attack. `stopped_by`: letters of the walls each of which is enough."""

    act: Attack
    stopped_by: str

    @property
    def name(self) -> str:
        return self.act.__name__

    def stops(self, walls: frozenset[str]) -> bool:
        """Whether one of these walls stops it."""
        return any(LETTERS[letter] in walls for letter in self.stopped_by)


ATTACKS: dict[str, tuple[Entry, ...]] = {
    "files": (
        Entry(files.read_token, "LU"),
        Entry(files.list_state, "LU"),
        Entry(files.read_desired, "LU"),
        Entry(files.extend_lease, "LU"),
        Entry(files.wake_agent, "LU"),
        Entry(files.poison_node_cache, "LU"),
        Entry(files.change_agents_code, "LUN"),
        Entry(files.forge_own_outcome, "LU"),
        Entry(files.replace_own_assignment, "LU"),
        Entry(files.read_other_attempt, "LU"),
        Entry(files.write_other_attempt, "LU"),
        Entry(files.read_shadow, "LU"),
        Entry(files.read_passwd, "L"),
        Entry(files.read_logs, "L"),
        Entry(files.read_agents_home, "LU"),
        Entry(files.symlink_out, "LU"),
        Entry(files.hardlink_in, "LU"),
        Entry(files.rename_in, "LU"),
        Entry(files.write_shared_tmp, "LN"),
        Entry(files.write_shm, "LN"),
        Entry(files.write_core_pattern, "LU"),
        Entry(files.write_sysrq, "LU"),
        Entry(files.write_uevent_helper, "LUN"),
        Entry(files.read_physical_memory, "LUR"),
        Entry(files.write_kernel_log, "LU"),
        Entry(files.read_disk, "LU"),
        Entry(files.leave_group, "LU"),
        Entry(files.make_device, "LUR"),
        Entry(files.set_setuid_bit, "S"),
        Entry(files.give_file_to_agent, "U"),
        Entry(files.chroot_out, "SUR"),
        Entry(files.open_by_handle, "SUR"),
    ),
    "processes": (
        Entry(processes.read_environment, "UR"),
        Entry(processes.read_memory, "LUR"),
        Entry(processes.read_supervisors_memory, "LUR"),
        Entry(processes.list_descriptors, "U"),
        Entry(processes.enter_agents_root, "LUR"),
        Entry(processes.trace_agent, "LSUR"),
        Entry(processes.trace_supervisor, "LSUR"),
        Entry(processes.read_by_process_vm, "LSUR"),
        Entry(processes.signal_agent, "LU"),
        Entry(processes.signal_supervisor, "LU"),
        Entry(processes.signal_zygote, "LU"),
        Entry(processes.signal_everybody, "S"),
        Entry(processes.signal_by_descriptor, "LU"),
        Entry(processes.steal_descriptor, "LSUR"),
        Entry(processes.change_agents_priority, "SUR"),
        Entry(processes.move_agent_to_core, "UR"),
        Entry(processes.limit_agent, "SU"),
        Entry(processes.run_in_real_time, "SUR"),
        Entry(processes.raise_own_priority, "UR"),
        Entry(processes.be_root, "UR"),
        Entry(processes.regain_capabilities, "UR"),
        Entry(processes.rise_by_setuid_program, "LSR"),
        Entry(processes.inherited_descriptors, ""),
        Entry(processes.dump_core, ""),
        Entry(processes.fork_bomb, "M"),
        Entry(processes.thread_bomb, "M"),
        Entry(processes.open_file_bomb, "M"),
        Entry(processes.memory_bomb, "M"),
        Entry(processes.huge_file, "M"),
    ),
    "kernel": tuple(
        Entry(act, stopped_by)
        for act, stopped_by in (
            (kernel_calls.mount_something, "LSUR"),
            (kernel_calls.unmount_something, "SUR"),
            (kernel_calls.mount_by_descriptor, "SUR"),
            (kernel_calls.user_namespace, "S"),
            (kernel_calls.mount_namespace, "SUR"),
            (kernel_calls.network_namespace, "SUR"),
            (kernel_calls.agents_namespace, "SUR"),
            (kernel_calls.clone_user_namespace, "S"),
            (kernel_calls.clone3_user_namespace, "S"),
            (kernel_calls.pivot_root, "SUR"),
            (kernel_calls.bpf, "S"),
            (kernel_calls.perf, "SUR"),
            (kernel_calls.io_uring, "S"),
            (kernel_calls.kernel_keys, "S"),
            (kernel_calls.userfault, "SUR"),
            (kernel_calls.watch_all_files, "SUR"),
            (kernel_calls.set_clock, "SUR"),
            (kernel_calls.adjust_clock, "S"),
            (kernel_calls.load_module, "SUR"),
            (kernel_calls.load_module_from_file, "SUR"),
            (kernel_calls.next_kernel, "SUR"),
            (kernel_calls.swap, "SUR"),
            (kernel_calls.reboot, "SUR"),
            (kernel_calls.account, "SUR"),
            (kernel_calls.quota, "S"),
            (kernel_calls.kernel_messages, "SUR"),
            (kernel_calls.layout_without_chance, "S"),
            (kernel_calls.host_name, "SUR"),
            (kernel_calls.ports_of_the_machine, "SUR"),
            (kernel_calls.segments, "S"),
            (kernel_calls.take_shared_memory, "SN"),
            (kernel_calls.type_into_terminal, "LS"),
            (kernel_calls.paste_into_console, "LS"),
            (kernel_calls.secret_memory, "S"),
            (kernel_calls.pages_of_others, "LSUR"),
        )
    ),
    "network": (
        Entry(network.connect_to_loopback, "LSN"),
        Entry(network.connect_to_outside, "LSN"),
        Entry(network.listen_for_strangers, "LS"),
        Entry(network.send_datagram, "SN"),
        Entry(network.raw_packets, "SUR"),
        Entry(network.packets_of_the_wire, "SUR"),
        Entry(network.netlink, "S"),
        Entry(network.virtual_machines_host, "S"),
        Entry(network.crypto_sockets, "S"),
        Entry(network.unix_socket, "S"),
        Entry(network.abstract_socket, "LSN"),
        Entry(network.datagram_from_a_pair, "S"),
    ),
}
BY_NAME = {entry.name: entry for entries in ATTACKS.values() for entry in entries}

# What an attack from inside a container gets instead, where it meets something of the container's own that bears the name of
# what it was after. Every other one is stopped there (test_contained).
OWN_IN_CONTAINER = {
    "list_state": "an empty folder in memory",
    "replace_own_assignment": "a file in that memory",
    "write_shared_tmp": "a file in its own folder",
    "write_shm": "a file in memory of its own",
    "give_file_to_agent": "its root is its own user outside",
}

# What a command meets of its own in bubblewrap, alone and with all other walls round it: this fort's folder lies in /tmp,
# and its /tmp is another.
OWN_IN_BUBBLEWRAP = {
    "list_state": "the way to its own folder",
    "replace_own_assignment": "a file in its own /tmp",
    "write_shared_tmp": "a file in its own folder",
    "write_shm": "a file in its own folder",
    "give_file_to_agent": "/tmp is its own user's there, not root's",
}
# What it is enough for by itself, of what is open to whoever is not root: it is never started as root. Where the other walls
# stand they stop as much and more; what they leave to be seen is in test_bubblewrapped.
STOPPED_BY_BUBBLEWRAP = frozenset(
    {
        "read_token",
        "read_desired",
        "extend_lease",
        "wake_agent",
        "poison_node_cache",
        "forge_own_outcome",
        "read_other_attempt",
        "write_other_attempt",
        "read_passwd",
        "read_logs",
        "symlink_out",
        "hardlink_in",
        "rename_in",
        "signal_agent",
        "signal_supervisor",
        "signal_zygote",
        "signal_by_descriptor",
        "change_agents_priority",
        "move_agent_to_core",
        "limit_agent",
        "rise_by_setuid_program",
        "take_shared_memory",
        "connect_to_loopback",
        "connect_to_outside",
        "unix_socket",
        "abstract_socket",
        "datagram_from_a_pair",
    }
)
