# SPDX-License-Identifier: Apache-2.0
"""What a snapshot's archive says of it: the first entry, `snapshot.json`, before the files that it names.

Whoever hands over an archive is not trusted. So the document holds no path, no hardware address and no name of a
secret: what depends on a host is put together again on the one that imports it.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from volant.contract.agents import Architecture
from volant.contract.manifest import Name, Resources
from volant.contract.request_values import (
    MOST_IDLE_SECONDS,
    EgressText,
    KernelArguments,
    KernelName,
    PublicKey,
    RequestModel,
    UserData,
)
from volant.contract.workload_api import PlacedFile, WorkloadRequest
from volant.volantd.network.types import NetworkMode
from volant.volantd.vms.record import VmDefinition

DOCUMENT: Final = "snapshot.json"
DISK: Final = "disk.qcow2"
STATE: Final = "state"
PAGES: Final = "memory"
FileName = Literal["disk.qcow2", "state", "memory"]
SNAPSHOT_NAME = r"^[a-z0-9][a-z0-9_.-]{0,62}$"
# Device state is some hundred kB where memory has a file of its own, and all of the memory otherwise.
MOST_STATE_OVERHEAD_BYTES = 256 << 20
MOST_FILE_BYTES = 1 << 46
# Of a VM's definition stays on its host: whose secrets it gets, what its disk became, what this host does with it.
LEFT_OUT = frozenset(
    {
        "secrets",
        "placed_files",
        "volumes",
        "mounts",
        "mounts_mark",
        "networks",
        "aliases",
        "disk_size_bytes",
        "disk_bytes_per_second",
        "restart",
        "retries",
        "cold",
        "wakes_from",
        "restores_to",
    }
)
CARRIED = frozenset(VmDefinition.model_fields) - LEFT_OUT


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True)


class ArchivedFile(_Part):
    name: FileName
    size: int = Field(ge=0, le=MOST_FILE_BYTES)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class ArchivedPlugin(_Part):
    name: Name
    version: str = Field(max_length=100)
    checksum: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class ArchivedMemory(_Part):
    """The machine that the memory is of, and the keys that its agent knows until it is another VM."""

    architecture: Architecture
    machine: Literal["microvm", "q35", "virt"]
    accelerator: Literal["kvm", "tcg"]
    kernel: str = Field(max_length=200)
    tsc_khz: int | None = Field(None, gt=0, lt=1 << 31)
    nic: Literal["user", "stream", "tap", "shared", "none"]
    has_modules: bool
    has_pages: bool
    control_key: str = Field(max_length=10_000)
    host_key: str = Field(max_length=10_000)
    hypervisor_version: str = Field(max_length=200)
    traits: dict[str, str] = Field(max_length=20)


class ArchivedWorkload(WorkloadRequest):
    """A VM's files may be of secrets, and stay."""

    files: list[PlacedFile] = Field(default_factory=list, max_length=0, exclude=True)


class SnapshotDocument(RequestModel):
    """Fields of a `VmDefinition` have its names, and the limits of a request."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=SNAPSHOT_NAME)
    vm_name: Name
    plugin: ArchivedPlugin
    resources: Resources
    network: NetworkMode
    isolated: bool = False
    egress: EgressText = "open"
    env: dict[str, str] = Field(default_factory=dict)
    entrypoint: list[str] = Field(default_factory=list, max_length=1000)
    command: list[str] = Field(default_factory=list, max_length=1000)
    run_once: bool = False
    workload: ArchivedWorkload = Field(default_factory=ArchivedWorkload)
    user_data_base64: UserData = ""
    ssh_keys: list[PublicKey] = Field(default_factory=list, max_length=1000)
    labels: dict[str, str] = Field(default_factory=dict)
    architecture: Architecture | None = None
    suspend_when_idle_seconds: int = Field(0, ge=0, le=MOST_IDLE_SECONDS)
    kernel: KernelName | None = None
    kernel_arguments: KernelArguments = ""
    pause_ms: float = Field(0.0, ge=0, allow_inf_nan=False)
    created_at: str = Field(max_length=40)
    memory: ArchivedMemory | None = None
    files: list[ArchivedFile] = Field(max_length=3)

    @model_validator(mode="after")
    def _has_its_files(self) -> Self:
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError("files: one is named twice")
        wanted = set() if self.memory is None else {STATE, PAGES} if self.memory.has_pages else {STATE}
        if set(names) - {DISK} != wanted:
            raise ValueError(f"files: its memory is {sorted(set(names) - {DISK})}, not {sorted(wanted)}")
        memory_bytes = self.resources.memory_mb << 20
        for file in self.files:
            if file.name == PAGES and file.size != memory_bytes:
                raise ValueError(f"files: {PAGES} has {file.size} bytes, and the VM {memory_bytes} of memory")
            if file.name == STATE and file.size > memory_bytes + MOST_STATE_OVERHEAD_BYTES:
                raise ValueError(f"files: {STATE} has {file.size} bytes, more than such a machine can have")
        return self
