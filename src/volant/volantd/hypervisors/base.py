# SPDX-License-Identifier: Apache-2.0
"""What volantd asks of any hypervisor: a resolved VM in, a running process out.

A driver takes only plain values (paths, numbers, addresses): it knows neither the database nor the API. A
VM's process belongs to a session of its own and outlives the daemon; whoever stored its `ProcessIdentity` can
`adopt` it later. Orderly stopping goes through the guest's agent (`volantd.guest`) or, where a system of
its own runs, through the power button.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from volant.contract.agents import Architecture
from volant.volantd.network.types import PublishedPort

Accelerator = Literal["kvm", "tcg"]
MachineType = Literal["microvm", "q35", "virt", "cloud-hypervisor"]
Bus = Literal["mmio", "pci"]
HypervisorKind = Literal["qemu", "cloud-hypervisor"]
ControlTransport = Literal["virtio-serial", "vsock"]
# sun_path of unix(7) holds 108 bytes, the last of which is the terminating zero.
SOCKET_PATH_LIMIT = 107
FIRST_TAP_DESCRIPTOR = 100
# RAM that was made before the process.
MEMORY_DESCRIPTOR = 99


@dataclass(frozen=True, slots=True)
class DiskDrive:
    """One virtio-blk disk. `serial` (at most 20 bytes) is how the guest finds it."""

    path: Path
    format: Literal["qcow2", "raw"]
    serial: str
    read_only: bool = False
    backing: tuple[Path, ...] = ()
    """Files below a copy-on-write disk, which its own header names."""


@dataclass(frozen=True, slots=True)
class UserNic:
    """A NIC on QEMU's own user-mode network (10.0.2.0/24, gateway .2, DNS .3; the guest is told 10.0.2.15).

    Each published port is bound on its host address (a loopback address of the VM's own) by the hypervisor. The gateway
    stands for the host's own loopback, with every service there: `is_restricted` leaves the guest no way out at all.
    """

    mac: str
    published: tuple[PublishedPort, ...] = ()
    is_restricted: bool = False


@dataclass(frozen=True, slots=True)
class StreamNic:
    """A NIC whose frames go over a UNIX stream socket, each after its length in four bytes; somebody listens there."""

    mac: str
    socket: Path


@dataclass(frozen=True, slots=True)
class TapNic:
    """A NIC whose other end is a tap device that exists already; QEMU gets it opened, from FIRST_TAP_DESCRIPTOR on.

    `ipv6_address`: the guest was told to have it; empty where it was told of none.
    """

    mac: str
    tap: str
    ipv6_address: str = ""


@dataclass(frozen=True, slots=True)
class SharedNic:
    """A NIC on the daemon's shared network: whoever starts the machine brings its tap device opened.

    `address` and `ipv6_address` are what the guest was told to have, the second empty where there is none; `namespace`
    is the number of the network's inode, which changes where the network was lost.
    """

    mac: str
    tap: str
    address: str
    namespace: int = 0
    ipv6_address: str = ""


@dataclass(frozen=True, slots=True)
class SilentNic:
    """A NIC that leads nowhere: a template has it in the place of whatever a VM will have."""

    mac: str


Nic = UserNic | StreamNic | TapNic | SharedNic | SilentNic


@dataclass(frozen=True, slots=True)
class MemoryImage:
    """A machine's memory and devices of one instant, in a folder of its own (0700: it holds the guest's secrets).

    With `has_pages` the RAM is a file of its own, which machines that wake from it map privately and so share; with
    `is_copied` each gets a copy instead, and is in nothing different from one that booted. Otherwise RAM is part of
    the state. `is_template`: of a guest that was no VM yet; `has_workload`: and in which a workload was up.
    """

    folder: Path
    has_pages: bool = False
    is_copied: bool = False
    is_template: bool = False
    has_workload: bool = False

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def memory(self) -> Path:
        return self.folder / "memory"


@dataclass(frozen=True, slots=True)
class VmSpec:
    """Everything that the hypervisor's argument list depends on, resolved. All paths are absolute.

    `kernel` None means firmware: the first disk boots itself. Of the kernel command line only `extra_cmdline`
    is the caller's; nothing secret belongs there. In `socket_folder` the driver makes sockets as it needs them,
    with names of at most 12 bytes. `console_log` is appended to across starts, `hypervisor_log` takes the
    process's own standard error. `tsc_khz` is the host clock's rate, which x86 guests under TCG must be told.
    `uefi` is the firmware's program and this VM's variables, where the machine's own BIOS does not do.
    `nested`: the guest runs virtual machines of its own.
    `has_folders`: a stream leads from the guest to whoever serves it folders of the host.
    `disk_bytes_per_second`: read and written by all of its disks together; 0: as much as there is.
    `wakes_from` None boots; otherwise all else is as it was when that image was made, but for names and paths.
    """

    id: str
    name: str
    architecture: Architecture
    machine: MachineType
    accelerator: Accelerator
    vcpu: int
    memory_mb: int
    disks: tuple[DiskDrive, ...]
    nics: tuple[Nic, ...]
    socket_folder: Path
    console_log: Path
    hypervisor_log: Path
    kernel: Path | None = None
    initrd: Path | None = None
    extra_cmdline: tuple[str, ...] = ()
    tsc_khz: int | None = None
    wakes_from: MemoryImage | None = None
    uefi: tuple[Path, Path] | None = None
    nested: bool = False
    disk_bytes_per_second: int = 0
    has_folders: bool = False


@dataclass(frozen=True, slots=True)
class HostSupport:
    """How guests of one architecture run on this host: to be copied into their `VmSpec`.

    `reason` says in one line why this accelerator, `cure` what would make it a better one; `bus` is where the guest
    finds its devices, which decides the drivers it needs; `control` how the guest's agent finds the host; `program` and
    `version` name the hypervisor.
    """

    program: str
    version: str
    machine: MachineType
    bus: Bus
    accelerator: Accelerator
    reason: str
    tsc_khz: int | None = None
    control: ControlTransport = "virtio-serial"
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do at all; what needs something that it cannot is refused before anything is made."""

    firmware: bool
    """Disks that boot a system of their own."""
    power_button: bool
    pause: bool
    snapshot: bool
    restore: bool
    user_network: bool
    """A NIC without rights on the host that is no tap device: `UserNic` or `StreamNic`."""
    lent_taps: bool
    """`SharedNic`."""
    templates: bool
    """Memory of one machine becomes many others, with disks and NICs of their own."""
    emulation: bool
    """Guests of another architecture than the host's."""
    live_layers: bool
    """A disk gets a new layer while its machine runs (`Machine.layer_disk`); otherwise it is copied."""
    knows_secret_users: bool
    """Whoever answers a guest's secrets learns which of its users asks."""
    disk_limits: bool
    """`VmSpec.disk_bytes_per_second`."""
    live_resize: bool
    """CPUs and memory of a machine that runs (`Machine.resize`)."""
    folders: bool
    """`VmSpec.has_folders`."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same number: to be stored with the VM.

    `start_ticks` is field 22 of /proc/PID/stat, `boot_id` /proc/sys/kernel/random/boot_id.
    """

    pid: int
    start_ticks: int
    boot_id: str


class MachineState(enum.Enum):
    """running ⇄ paused → ended; from running straight to ended too."""

    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


class EndKind(enum.Enum):
    POWERED_OFF = "powered off"
    """The guest switched itself off."""
    REBOOTED = "rebooted"
    """The guest asked for a reset: whoever owns the VM starts it again."""
    KILLED = "killed"
    """`kill` of ours ended it."""
    CRASHED = "crashed"
    """Anything else: a signal, an error exit, a guest panic."""


class CauseKind(enum.StrEnum):
    EXIT = "exit"
    """The hypervisor gave up, with an exit code."""
    SIGNAL = "signal"
    PANIC = "panic"
    """The guest's kernel."""
    GUEST_OUT_OF_MEMORY = "guest-out-of-memory"
    HOST_OUT_OF_MEMORY = "host-out-of-memory"
    """The host's kernel ended the hypervisor."""
    MEMORY_LIMIT = "memory-limit"
    """The host's kernel ended the hypervisor because the VM took more than its control group may have."""
    HOST_DISK_FULL = "host-disk-full"
    UNKNOWN = "unknown"
    """Nobody saw it end, as while the daemon was away."""


@dataclass(frozen=True, slots=True)
class CrashCause:
    """Why a machine crashed. `line` is what the guest's kernel said of it. Code and signal only a parent learns."""

    kind: CauseKind
    exit_code: int | None = None
    signal: str | None = None
    line: str = ""


@dataclass(frozen=True, slots=True)
class MachineEnd:
    """How the process ended. `reason` is one line for people, empty for an orderly end.

    Exit code and signal are None for an adopted process: only a parent learns them.
    """

    kind: EndKind
    reason: str = ""
    exit_code: int | None = None
    signal: str | None = None
    host_disk_full: bool = False
    cause: CrashCause | None = None


class Machine(Protocol):
    """A running VM process."""

    @property
    def identity(self) -> ProcessIdentity: ...

    @property
    def state(self) -> MachineState: ...

    @property
    def problem(self) -> str:
        """What keeps a machine from running that has not ended, e.g. that the host's disk is full; else
        empty."""

    async def wait(self) -> MachineEnd:
        """Wait until the process has ended. May be called by several tasks; cancelling it harms nothing."""

    async def kill(self) -> MachineEnd:
        """End the process at once and wait for it. Harmless when it has ended already."""

    async def open_control(self) -> socket.socket:
        """A stream to the agent's port, whatever device that is; it accepts before the agent does. Unreachable
        where the hypervisor does not."""

    async def open_folders(self) -> socket.socket:
        """A stream to what mounts the host's folders in the guest; it accepts before that does. Unreachable where the
        hypervisor does not, or its spec has no folders."""

    async def open_console(self) -> socket.socket:
        """A stream to and from the serial console. Unreachable where the hypervisor does not answer."""

    def listen_for_guest(self, port: int) -> socket.socket | None:
        """A listening socket for what the guest connects to CID 2 at `port`, where that comes out on this host; None
        where the agent listens in the guest."""

    async def press_power_button(self) -> None:
        """Ask the guest's own system to power off (ACPI); whether it does is for the guest to say."""

    async def pause(self) -> None:
        """Stop the virtual CPUs. Conflict unless running."""

    async def resume(self) -> None:
        """Let the virtual CPUs go on. Conflict unless paused."""

    async def save_memory(self, folder: Path) -> MemoryImage:
        """Write memory and devices to a folder that is there. Conflict unless paused, and it stays so; StorageFull and
        ToolFailed leave no file."""

    async def layer_disk(self, index: int, overlay: Path, name: str) -> None:
        """From now on the machine writes to `overlay`, an empty QCOW2 over the file of its disk `index`. `name` (at
        most 31 bytes) is how `find_layer` knows it again."""

    async def copy_disk(self, index: int, target: Path, begun: Callable[[], Awaitable[None]]) -> None:
        """Copy what the disk `index` holds itself at this instant, without what lies below, to `target`, an empty QCOW2
        over the same file. `begun` is called after that instant. ToolFailed and StorageFull leave a useless target."""

    async def resize_disk(self, index: int, size_bytes: int) -> None:
        """Tell the machine that the file of its disk `index`, a raw one, has grown to this."""

    async def resize(self, spec: VmSpec) -> None:
        """Give the machine the CPUs or the memory of this spec, which is its own in all else; the guest has still to
        make use of them. Conflict, saying why, where that takes a new process."""

    async def merge_layers(self, index: int, base: Path) -> bool:
        """Bring what lies between the disk `index` and the file `base`, at the bottom of its layers, into the disk
        itself. False where another act on the disk ended it; ToolFailed and StorageFull leave the disk as right as it
        was."""

    async def find_layer(self, index: int) -> str:
        """The name of what the disk `index` writes to: that of the last `layer_disk`, or one of the driver's own."""

    async def wait_resumed(self) -> None:
        """Wait until the virtual CPUs went on after a pause, whoever paused them; one waiter at a time. A pause that
        ended since the last call counts."""

    async def release(self) -> None:
        """Let go of the process (the daemon ends): nothing of ours is left open, the VM runs on."""


class Hypervisor(Protocol):
    """A kind of hypervisor on this host."""

    kind: HypervisorKind
    """The name under which a VM's record remembers who started it."""
    capabilities: Capabilities

    def is_installed(self, architecture: Architecture) -> bool:
        """Whether its program for such guests is on this host, working or not."""

    async def find_support(
        self, architecture: Architecture, *, kernel: Path | None, firmware: bool = False
    ) -> HostSupport:
        """How this host runs such guests; the answer is kept for as long as the host is up.

        `kernel` is what a test guest boots, since only that proves an accelerator; `firmware` asks for a
        machine that boots whole-system disks. ToolMissing, naming the package, where the program is not
        installed.
        """

    def find_traits(self, spec: VmSpec) -> dict[str, str]:
        """What of this machine its memory depends on, by name, beside the hypervisor's version and the accelerator."""

    async def start(self, spec: VmSpec, taps: Sequence[int] = ()) -> Machine:
        """Start a VM; `taps`: descriptors for each `SharedNic`, which stay the caller's.

        Where its spec says that it wakes, it is paused with that memory: `resume` lets it go on. Raises ToolMissing,
        Conflict (port in use), ToolFailed with the hypervisor's own words.
        """

    def find_process(self, spec: VmSpec) -> ProcessIdentity | None:
        """The process of a VM whose start was cut off before its identity was stored. Reads /proc: blocking."""

    async def adopt(self, identity: ProcessIdentity, spec: VmSpec) -> Machine | None:
        """The machine that this identity names, or None where that process is gone."""
