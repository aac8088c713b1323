# SPDX-License-Identifier: Apache-2.0
"""A VM as the database keeps it.

These types are the database's own: the API may change without a migration, and a row that was valid once stays so. What
is stored as JSON ignores keys that it does not know, has a default for whatever was added later, and checks no limits,
which are for requests. Any other change is a migration, held to the golden rows of each schema in `tests/golden/rows`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from volant.contract.agent import AgentState
from volant.contract.agents import Architecture
from volant.contract.egress import OPEN
from volant.contract.settings_line import FEATURE, WAKE_FEATURE
from volant.volantd.hypervisors.base import (
    CrashCause,
    HypervisorKind,
    MemoryImage,
    ProcessIdentity,
    VmSpec,
)
from volant.volantd.network.types import NetworkMode, PublishedPort
from volant.volantd.vms.states import VmState


class StoredModel(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class VmResources(StoredModel):
    vcpu: int
    memory_mb: int
    nested: bool = False


class AttachedSecret(StoredModel):
    """`port` None: part of what the usual port answers; `uid` None: for every user."""

    name: str
    port: int | None = None
    uid: int | None = None


class AttachedVolume(StoredModel):
    """`target`: the folder where the guest finds it. `made_with_vm`: for a disk of its plugin's manifest.
    `goes_with_vm`: deleted with it, if nobody else has it."""

    name: str
    id: str
    target: str
    read_only: bool = False
    made_with_vm: bool = False
    goes_with_vm: bool = False


class StoredHealthCheck(StoredModel):
    """`test` as Docker has it; None: its default."""

    test: list[str]
    interval_seconds: float | None = None
    timeout_seconds: float | None = None
    start_period_seconds: float | None = None
    retries: int | None = None


class WorkloadSettings(StoredModel):
    """What was asked for in place of what the image says; empty and None: the image's."""

    working_dir: str = ""
    user: str = ""
    groups: list[int] = Field(default_factory=list)
    message_path: str = ""
    hostname: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    stop_signal: str = ""
    stop_timeout_seconds: float | None = None
    health_check: StoredHealthCheck | None = None
    extra_hosts: dict[str, str] = Field(default_factory=dict)


class StoredFile(StoredModel):
    """A file of the VM's own; `secret_port`: its content is a secret, which is attached to that port for root."""

    path: str
    kind: Literal["file", "folder", "memory"] = "file"
    content_base64: str = ""
    secret_port: int | None = None
    mode: int = 0o444
    uid: int = 0
    gid: int = 0


class AttachedFolder(StoredModel):
    """A folder or a file of this host; `target`: where the guest finds it."""

    source: str
    target: str
    read_only: bool = False
    is_file: bool = False


class AgentFacts(StoredModel):
    """What the agent said of itself when it was last connected. `missing`: features of this host that it lacks."""

    connected: bool = False
    version: str = ""
    protocol: int = 0
    missing: tuple[str, ...] = ()


class WakeSource(StoredModel):
    """Memory that a VM is made of: the machine it was of, and the keys that its agent knows until it is that VM."""

    image: MemoryImage
    spec: VmSpec
    control_key: str
    host_key: str
    hypervisor: HypervisorKind = "qemu"
    hypervisor_version: str = ""
    traits: dict[str, str] = Field(default_factory=dict)
    """Of the machine, as its driver told them (`Hypervisor.find_traits`)."""
    takes_settings: bool = False
    """By a line of plain text, which is quicker than a connection: older agents do not."""
    wakes_by_line: bool = False
    """The same for a guest that goes on as who it was."""


class RestorePoint(StoredModel):
    """What a VM is about to become again: of snapshot `name`, whose files are in `folder`. `runs`: afterwards."""

    name: str
    folder: Path
    layer: Path | None
    wake: WakeSource | None
    runs: bool


class VmDefinition(StoredModel):
    """What a VM is, resolved at its creation from the request and the plugin's manifest."""

    resources: VmResources
    network: NetworkMode
    env: dict[str, str] = Field(default_factory=dict)
    user_data_base64: str = ""
    ssh_keys: list[str] = Field(default_factory=list)
    secrets: list[AttachedSecret] = Field(default_factory=list)
    volumes: list[AttachedVolume] = Field(default_factory=list)
    mounts: list[AttachedFolder] = Field(default_factory=list)
    mounts_mark: str = ""
    """Known to the guest's agent, and so the same in all copies of the VM."""
    disk_size_bytes: int | None = None
    disk_bytes_per_second: int = 0
    """0: as much as there is."""
    isolated: bool = False
    networks: list[str] = Field(default_factory=list)
    """By name; none: the one that is always there."""
    aliases: list[str] = Field(default_factory=list)
    """Names beside its own."""
    egress: str = OPEN
    """What it reaches beyond the VMs of its networks (`contract.egress`)."""
    restart: str = "on-failure"
    labels: dict[str, str] = Field(default_factory=dict)
    entrypoint: list[str] = Field(default_factory=list)
    command: list[str] = Field(default_factory=list)
    run_once: bool = False
    retries: bool = False
    """Whether a command that fails is a failure for the restart policy, too, and not its VM's alone."""
    workload: WorkloadSettings = WorkloadSettings()
    placed_files: list[StoredFile] = Field(default_factory=list)
    architecture: Architecture | None = None
    """None: the host's."""
    suspend_when_idle_seconds: int = 0
    """0: never."""
    kernel: str | None = None
    """By its name here (`boot.named_kernels`); None: the usual one."""
    kernel_arguments: str = ""
    cold: bool = False
    """Asked for at its last start, or for its first: until it has run, it boots, whatever it could wake from."""
    wakes_from: WakeSource | None = None
    """At its first start; whatever keeps it from that, it boots."""
    restores_to: RestorePoint | None = None
    """Written before anything is done, and gone when it is done."""


@dataclass(frozen=True, slots=True)
class VmRecord:
    """`wanted` says whether the VM should run (what a reboot of the host restores), `state` what it last did.

    `deleting` belongs to a VM whose files are going: that is finished at the next start of the daemon. `control_key`
    and `host_key` are private keys (OpenSSH): ours for the agent, and the agent's own. `hypervisor` is the kind that
    it was made for, `spec` that of the last start; `process` is None unless it was seen to run. `restarts` counts
    those in a row that the restart policy made. `pending` names what was changed since the start and counts from the
    next one. `crash` is why it failed last, where its process had crashed.
    """

    id: str
    name: str
    state: VmState
    reason: str
    wanted: bool
    plugin_name: str
    plugin_version: str
    definition: VmDefinition
    address: str | None
    mac: str
    ports: tuple[PublishedPort, ...]
    control_key: str
    host_key: str
    hypervisor: HypervisorKind
    process: ProcessIdentity | None
    spec: VmSpec | None
    agent: AgentFacts
    guest: AgentState | None
    last_lines: tuple[str, ...]
    exit_code: int | None
    created_at: str
    started_at: str | None
    deleting: bool
    restarts: int
    pending: tuple[str, ...]
    crash: CrashCause | None = None

    @property
    def plugin_reference(self) -> str:
        return f"{self.plugin_name}:{self.plugin_version}"

    def as_event(self) -> dict[str, object]:
        """What every event of the VM says of it."""
        facts: dict[str, object] = {"id": self.id, "status": self.state.value, "reason": self.reason}
        return facts if self.crash is None else {**facts, "crash": asdict(self.crash)}

    @property
    def has_own_system(self) -> bool:
        """Whether it was started from a disk with a boot loader and system of its own, in which no agent answers."""
        return self.spec is not None and self.spec.kernel is None


def make_wake_source(
    record: VmRecord,
    spec: VmSpec,
    image: MemoryImage,
    place: Path,
    version: str,
    traits: Mapping[str, str],
    features: Collection[str],
) -> WakeSource:
    """`place`: where the image is going to be; `features`: of its agent."""
    return WakeSource(
        image=replace(image, folder=place),
        spec=replace(spec, wakes_from=None),
        control_key=record.control_key,
        host_key=record.host_key,
        hypervisor=record.hypervisor,
        hypervisor_version=version,
        traits=dict(traits),
        takes_settings=FEATURE in features,
        wakes_by_line=WAKE_FEATURE in features,
    )
