# SPDX-License-Identifier: Apache-2.0
"""A VM's spec as Cloud Hypervisor's command and as the document of its `vm.create`: pure functions, with golden tests.

The document is the VmConfig of its OpenAPI description (vmm/src/api/openapi/cloud-hypervisor.yaml there). Why it is as
it is:

- Every device has an `id` of ours: a restored machine's state knows devices by them, whatever their files are called.
- NICs are no part of it: their tap devices come opened, by `vm.add-net` (`api.put` with descriptors).
- The serial port is standard output, which is the console's log, opened to append (a file of its own would be emptied
  at each start), and standard input, which is a terminal (`console.py`).
- Disks say what they are (`image_type`), so that what a guest writes to its raw disk never makes it another kind.
- There is room for more CPUs and memory than the machine has (`vm.resize`): for constants, so that a machine which was
  resized and one that wakes from its memory have the same. Each possible CPU costs the guest some hundred kB.
- Without Landlock of version 3 (Linux 6.2) Cloud Hypervisor's own refuses to start; ours is around it in any case.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volant.errors import Conflict, InvalidInput
from volant.volantd.hypervisors.base import SOCKET_PATH_LIMIT, DiskDrive, SharedNic, TapNic, VmSpec

EVENTS_DESCRIPTOR = 98
OWN_LANDLOCK_SINCE = 3
# Of the guest; the host is 2. Sockets are the VM's own, so every VM may have the same.
GUEST_CID = 3
MOST_VCPU = 8
MOST_MORE_MEMORY_MB = 16 << 10
# Linux takes memory in such sections (SECTION_SIZE_BITS).
MEMORY_STEP_MB = 128
IMAGE_TYPES = {"qcow2": "Qcow2", "raw": "Raw"}


@dataclass(frozen=True, slots=True)
class VmmFiles:
    """What one Cloud Hypervisor has in a folder where it may do as it likes (it locks its socket by a file beside, and
    writes memory to three). `vsock` is also the beginning of the names of those sockets on which the host answers."""

    folder: Path

    @property
    def api(self) -> Path:
        return self.folder / "api.sock"

    @property
    def vsock(self) -> Path:
        return self.folder / "vs"

    @property
    def events(self) -> Path:
        return self.folder / "events"

    def find_answering(self, port: int) -> Path:
        """Where whoever in the guest connects to the host's `port` comes out (docs/vsock.md there)."""
        return self.folder / f"{self.vsock.name}_{port}"


def find_files(spec: VmSpec) -> VmmFiles:
    return VmmFiles(spec.socket_folder / "ch")


def make_arguments(spec: VmSpec, program: str, landlock: int) -> list[str]:
    """The whole command of a Cloud Hypervisor that waits for its VM. `landlock`: the version that this host has."""
    files = find_files(spec)
    if len(bytes(files.find_answering(65535))) > SOCKET_PATH_LIMIT:
        raise InvalidInput(
            f"cannot start {spec.name}: the path {files.vsock} is longer than a socket's name may be",
            resolution="choose a state folder with a shorter path",
        )
    own = ["--landlock"] if landlock >= OWN_LANDLOCK_SINCE else []
    return [
        program, "--api-socket", f"path={files.api}", "--event-monitor", f"fd={EVENTS_DESCRIPTOR}",
        "--seccomp", "true", *own,
    ]  # fmt: skip


def make_vm_config(spec: VmSpec, landlock: int) -> dict[str, Any]:
    """The document of `vm.create`, without NICs."""
    files = find_files(spec)
    if spec.kernel is None:
        raise Conflict(
            f"cannot start {spec.name}: Cloud Hypervisor boots no disks with a system of their own"
        )
    return {
        "payload": {
            "kernel": str(spec.kernel),
            "cmdline": " ".join(make_command_line(spec)),
            **({"initramfs": str(spec.initrd)} if spec.initrd is not None else {}),
        },
        "cpus": {"boot_vcpus": spec.vcpu, "max_vcpus": max(spec.vcpu, MOST_VCPU), "nested": spec.nested},
        "memory": {"size": spec.memory_mb << 20, "hotplug_size": MOST_MORE_MEMORY_MB << 20},
        "disks": [_make_disk(index, disk) for index, disk in enumerate(spec.disks)],
        "rng": {"id": "entropy", "src": "/dev/urandom"},
        "vsock": {"id": "control", "cid": GUEST_CID, "socket": str(files.vsock)},
        "serial": {"mode": "Tty"},
        "console": {"mode": "Off"},
        "landlock_enable": landlock >= OWN_LANDLOCK_SINCE,
        "landlock_rules": list_rules(spec),
    }


def make_resize_request(before: VmSpec, spec: VmSpec) -> dict[str, int]:
    """The document of `vm.resize`. Conflict for what only a new process can have."""

    def refuse(reason: str) -> Conflict:
        return Conflict(f"cannot resize {spec.name} while it runs: {reason}")

    request: dict[str, int] = {}
    if spec.vcpu != before.vcpu:
        if spec.vcpu > MOST_VCPU:
            raise refuse(f"there is room for {MOST_VCPU} CPUs")
        request["desired_vcpus"] = spec.vcpu
    if (more := spec.memory_mb - before.memory_mb) != 0:
        if more < 0:
            raise refuse("a guest does not give memory back")
        if more % MEMORY_STEP_MB:
            raise refuse(f"memory comes in steps of {MEMORY_STEP_MB} MiB")
        request["desired_ram"] = spec.memory_mb << 20
    return request


def make_command_line(spec: VmSpec) -> list[str]:
    """The kernel's parameters. A panic resets at once, which ends the machine with the reason on the console."""
    console = "ttyAMA0" if spec.architecture == "arm64" else "ttyS0"
    return [
        f"console={console}",
        "quiet",
        "panic=-1",
        "cryptomgr.notests",
        "random.trust_cpu=on",
        *spec.extra_cmdline,
    ]


def _make_disk(index: int, disk: DiskDrive) -> dict[str, Any]:
    return {
        "id": f"disk{index}",
        "path": str(disk.path),
        "readonly": disk.read_only,
        "serial": disk.serial,
        "image_type": IMAGE_TYPES[disk.format],
        "backing_files": bool(disk.backing),
    }


def make_net_config(index: int, nic: TapNic | SharedNic) -> dict[str, Any]:
    """The document of `vm.add-net`; its tap device goes with it."""
    return {"id": f"net{index}", "mac": nic.mac, "num_queues": 2}


def list_rules(spec: VmSpec) -> list[dict[str, str]]:
    """What its own Landlock would not think of: the files below a disk, and where memory goes to and comes from."""
    below = [{"path": str(path), "access": "r"} for disk in spec.disks for path in disk.backing]
    return [*below, {"path": str(find_files(spec).folder), "access": "rw"}]


def list_taps(spec: VmSpec) -> list[TapNic | SharedNic]:
    """Conflict for a NIC of another kind: whoever makes a spec has asked for `capabilities` before."""
    taps = [nic for nic in spec.nics if isinstance(nic, TapNic | SharedNic)]
    if len(taps) != len(spec.nics):
        raise Conflict(
            f"cannot start {spec.name}: Cloud Hypervisor has no network without rights on the host",
            resolution="give --network bridged, dhcp or vsock",
        )
    return taps
