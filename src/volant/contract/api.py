# SPDX-License-Identifier: Apache-2.0
"""Models of the REST API under /api/v1: what volantd answers and volar shows.

volar reads plain JSON and does not import this module (start-up time); the generated docs/reference/openapi.json
and the tests hold both sides to it.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from volant.contract.agent import AgentStats, Check, CloudInitState, ProcessState
from volant.contract.guest_config import SECRETS_PORT
from volant.contract.manifest import Manifest, Port, Resources
from volant.contract.request_values import (
    MOST_IDLE_SECONDS,
    ApiModel,
    Base64Text,
    EgressText,
    HostAddress,
    HostPort,
    KernelArguments,
    KernelName,
    NetworkName,
    PublicKey,
    RequestModel,
    Seconds,
    UserData,
    UserId,
)
from volant.contract.volumes_api import VolumeAttachment
from volant.contract.workload_api import WorkloadRequest

VmStatus = Literal["created", "starting", "running", "paused", "suspended", "stopping", "stopped", "failed"]
VmHealth = Literal["starting", "healthy", "unhealthy", "unknown"]
NetworkMode = Literal["bridged", "user", "vsock", "dhcp"]
RESTART_PATTERN = r"^(no|always|unless-stopped|on-failure(:[1-9][0-9]{0,5})?)$"


class ErrorReply(ApiModel):
    error: str
    code: str
    details: list[str] = Field(default_factory=list)
    resolution: str = ""
    request_id: str = Field("", description="of the header X-Request-Id; the daemon's log lines have it too")


class PluginReference(ApiModel):
    name: str
    version: str


class Plugin(ApiModel):
    name: str
    version: str
    description: str = ""
    enabled: bool = True
    kind: Literal["rootfs", "initramfs"]
    boot: Literal["kernel", "firmware"] = "kernel"
    size_bytes: int = Field(description="of the stored disk or initramfs")
    virtual_size_bytes: int = 0
    checksum: str
    installed_at: str
    vms: int = Field(0, description="how many VMs use it")
    manifest: Manifest


class PublishedPort(ApiModel):
    host_ip: str
    host_port: int
    guest_port: Port
    protocol: Literal["tcp", "udp"] = "tcp"


class AgentInfo(ApiModel):
    connected: bool = False
    version: str = ""
    protocol: int = 0
    missing: list[str] = Field(default_factory=list, description="features of this host that the agent lacks")


class HypervisorInfo(ApiModel):
    kind: Literal["qemu", "cloud-hypervisor"]
    accelerator: Literal["kvm", "tcg"]
    emulates: str | None = Field(None, description="the guest's architecture, where it is not the host's")
    pid: int | None = None
    kernel: str = ""


class Crash(ApiModel):
    """Why a VM's process ended that nobody asked to end."""

    kind: Literal[
        "exit",
        "signal",
        "panic",
        "guest-out-of-memory",
        "host-out-of-memory",
        "memory-limit",
        "host-disk-full",
        "unknown",
    ]
    exit_code: int | None = Field(None, description="of the hypervisor")
    signal: str | None = None
    line: str = Field("", description="what the guest's kernel said")


class MountAttachment(ApiModel):
    """A folder or a file of the daemon's host, live in the guest."""

    source: str = Field(description="its absolute path on the daemon's host")
    target: str = Field(description="where the guest finds it")
    read_only: bool = False


class VmEgress(ApiModel):
    """What a VM reaches beyond the VMs of its networks, and what came of it since its start or since it was changed."""

    policy: str = Field(description="open, none, or names and networks with commas between")
    allowed: int | None = Field(None, description="connections that were let through; null: not counted")
    denied: int | None = Field(None, description="packets and names that were refused; null: not counted")
    recently_denied: list[str] = Field(default_factory=list, description="each once, the last at the end")


class Vm(ApiModel):
    id: str
    name: str
    status: VmStatus
    status_reason: str = ""
    health: VmHealth = "unknown"
    health_reason: str = ""
    checks: list[Check] = Field(default_factory=list)
    processes: list[ProcessState] = Field(default_factory=list)
    last_message: str = Field(
        "", description="what its workload left of its last end, in the file at its message_path"
    )
    warnings: list[str] = Field(default_factory=list)
    plugin: PluginReference
    resources: Resources
    network: NetworkMode
    networks: list[str] = Field(default_factory=list, description="by name")
    aliases: list[str] = Field(default_factory=list)
    isolated: bool = False
    egress: VmEgress = Field(default_factory=lambda: VmEgress(policy="open"))
    disk_bytes_per_second: int = Field(0, description="the most its disks read and write; 0: no bound")
    ip: str | None = None
    ip6: str | None = Field(None, description="on the bridge, where the host has IPv6")
    url: str | None = None
    ports: list[PublishedPort] = Field(default_factory=list)
    agent: AgentInfo = Field(default_factory=AgentInfo)
    hypervisor: HypervisorInfo | None = None
    cloud_init: CloudInitState = Field(default_factory=CloudInitState)
    secrets: list[str] = Field(default_factory=list, description="names only")
    volumes: list[VolumeAttachment] = Field(default_factory=list)
    mounts: list[MountAttachment] = Field(default_factory=list, description="folders and files of this host")
    stdin: bool = Field(False, description="its workload has a standard input: /vms/{name}/attach")
    tty: bool = Field(False, description="its workload has a terminal")
    labels: dict[str, str] = Field(default_factory=dict)
    restart: str = "on-failure"
    kernel: str | None = Field(None, description="as /system/kernels names it; null: this host's usual one")
    kernel_arguments: str = Field("", description="added to the kernel's command line")
    suspend_when_idle_seconds: int = Field(0, description="0: never")
    restarts: int = Field(0, description="in a row, by the restart policy")
    pending: list[str] = Field(
        default_factory=list, description="what was changed and counts from the next start"
    )
    exit_code: int | None = Field(None, description="of a batch workload")
    crash: Crash | None = Field(None, description="only where the VM failed by a crash")
    last_console_lines: list[str] = Field(default_factory=list, description="only where the VM failed")
    created_at: str
    started_at: str | None = None
    started_from: Literal["boot", "template", "workload", "snapshot"] | None = Field(
        None, description="how its last start came to a running guest"
    )


class PublishRequest(RequestModel):
    host_ip: HostAddress | None = None
    host_port: HostPort | None = Field(None, description="null or 0: one that is free")
    guest_port: Port
    protocol: Literal["tcp", "udp"] = "tcp"


class SecretAttachment(ApiModel):
    """`port` null: part of what port 9000 answers; else a port of its own, for `uid` only where given."""

    name: str
    port: int | None = Field(None, ge=1, le=0xFFFFFFFE)
    uid: UserId | None = None


class SnapshotCreate(RequestModel):
    name: str | None = Field(
        None, pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$", description="null: the VM's name and a number"
    )


class Snapshot(ApiModel):
    id: str
    name: str
    vm: str = Field(description="the VM's name at that time")
    plugin: PluginReference
    has_memory: bool = Field(description="of a VM that ran; false: of its disk alone")
    pause_ms: float = Field(description="how long the VM stood still for it")
    size_bytes: int = Field(description="on the host's disk, without what other snapshots and VMs share")
    created_at: str


class RestoreRequest(RequestModel):
    snapshot: str = Field(description="name or id, of this very VM")


class ForkRequest(RequestModel):
    names: list[str] = Field(min_length=1, max_length=100, description="of the new VMs")


class VmTemplate(WorkloadRequest):
    """What a VM is made of and how, whatever it is called."""

    plugin: str = Field("", description="name, or name:version (default: the newest enabled version)")
    snapshot: str | None = Field(None, description="name or id, in place of a plugin")
    resources: Resources | None = None
    network: NetworkMode | None = None
    publish: list[PublishRequest] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    entrypoint: list[str] = Field(
        default_factory=list, max_length=1000, description="in place of the image's ENTRYPOINT and CMD"
    )
    command: list[str] = Field(
        default_factory=list, max_length=1000, description="in place of the image's CMD"
    )
    run_once: bool = Field(
        False, description="the VM ends with its processes, and an image's command is not started again"
    )
    user_data_base64: UserData | None = Field(None, description="cloud-init user-data, as the file's bytes")
    ssh_keys: list[PublicKey] = Field(default_factory=list, max_length=1000)
    secrets: list[SecretAttachment] = Field(default_factory=list)
    volumes: list[VolumeAttachment] = Field(default_factory=list)
    mounts: list[MountAttachment] = Field(
        default_factory=list, description="for the daemon's own user at its UNIX socket only"
    )
    isolated: bool = Field(False, description="reaches no other VM, nor is it reached; on the bridge only")
    networks: list[NetworkName] = Field(
        default_factory=list,
        max_length=100,
        description="by name; none: the one called default",
    )
    aliases: list[NetworkName] = Field(
        default_factory=list,
        max_length=100,
        description="names beside its own, for who shares a network with it; several VMs may have one",
    )
    egress: EgressText | None = Field(
        None,
        description="what it reaches beyond the VMs of its networks: open, none, or names and networks with commas"
        " between; null: as its plugin's manifest or its snapshot says, or open",
    )
    disk_size: str | None = Field(None, description="grow the root disk to this, e.g. 20G")
    disk_bandwidth: str | None = Field(
        None, description="the most that its disks read and write in a second, all together, e.g. 50M"
    )
    architecture: Literal["amd64", "arm64"] | None = Field(
        None, description="of the guest's processor, where it is not the host's: emulated, and slow"
    )
    hypervisor: Literal["auto", "qemu", "cloud-hypervisor"] = Field(
        "auto", description="auto: QEMU, or what else is installed and can do what is asked for"
    )
    restart: str = Field(
        "on-failure",
        pattern=RESTART_PATTERN,
        description="no, on-failure, on-failure:N (N times in a row), always or unless-stopped; where it is given"
        " with run_once, a command that fails is a failure, too",
    )
    suspend_when_idle_seconds: int | None = Field(
        None,
        ge=0,
        le=MOST_IDLE_SECONDS,
        description="its memory goes to the disk after so long without traffic; 0: never",
    )
    kernel: KernelName | None = Field(
        None, description="as /system/kernels names it; null: this host's usual one"
    )
    kernel_arguments: KernelArguments = Field(
        "", description="added to the kernel's command line, for all in the guest to read"
    )
    cold: bool = Field(False, description="boot at its first start, whatever it could wake from")
    labels: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _made_of_one_thing(self) -> Self:
        if bool(self.plugin) == (self.snapshot is not None):
            raise ValueError("plugin: a VM is made of a plugin or of a snapshot: give one of them")
        return self

    @model_validator(mode="after")
    def _one_reader_a_port(self) -> Self:
        """A port has one rule of who may ask: secrets that share it would get the widest."""
        ports: dict[int, list[SecretAttachment]] = {}
        for attached in self.secrets:
            ports.setdefault(attached.port or SECRETS_PORT, []).append(attached)
        for port, sharing in ports.items():
            names = " and ".join(attached.name for attached in sharing)
            if len({attached.name for attached in sharing}) < len(sharing):
                raise ValueError(f"secrets: {names}: one is attached twice to port {port}")
            if len(sharing) > 1 and any(attached.port is not None for attached in sharing):
                raise ValueError(f"secrets: {names} have port {port} both: give each a port of its own")
            if len({attached.uid for attached in sharing}) > 1:
                raise ValueError(f"secrets: {names} share port {port} but are for different users")
        return self


class VmCreate(VmTemplate):
    name: str
    start: bool = True


class VmUpdate(RequestModel):
    """What is left out stays as it is; null for a variable or a label removes it."""

    vcpu: int | None = Field(None, ge=1, le=256)
    memory_mb: int | None = Field(None, ge=32, le=4 * 1024 * 1024)
    disk_size: str | None = Field(None, description="grow the root disk to this, e.g. 20G")
    env: dict[str, str | None] = Field(default_factory=dict)
    publish: list[PublishRequest] | None = Field(None, description="in place of those asked for before")
    labels: dict[str, str | None] = Field(default_factory=dict)
    restart: str | None = Field(None, pattern=RESTART_PATTERN)
    kernel: KernelName | Literal[""] | None = Field(None, description='"": this host\'s usual one')
    kernel_arguments: KernelArguments | None = Field(None, description="in place of those before")
    suspend_when_idle_seconds: int | None = Field(None, ge=0, le=MOST_IDLE_SECONDS, description="0: never")
    egress: EgressText | None = Field(None, description="in place of the one before; on a bridge at once")


class FieldChange(ApiModel):
    name: str = Field(description="as in a VM's update, e.g. vcpu, env.NAME or labels.NAME")
    before: str | None = Field(description="null: there was none; *** for a variable's value")
    after: str | None


class VmChange(ApiModel):
    time: str
    who: str = Field(description='"uid 1000" or "token NAME"')
    request_id: str
    action: Literal["update", "restore"]
    fields: list[FieldChange]
    pending: list[str] = Field(description="what of it counts from the next start")


class BootStep(ApiModel):
    name: Literal["disk", "machine", "agent", "running", "healthy"] = Field(
        description="disk: made ready; machine: its process runs, paused or not; agent: the guest's kernel is up and"
        " its agent connected; running: its processes have been started; healthy: its checks say so"
    )
    seconds: float = Field(description="since the start was asked for")


class Boot(ApiModel):
    """Where the time of a VM's last start went; each step is noted once."""

    started_at: str | None
    started_from: Literal["boot", "template", "workload", "snapshot"] | None
    steps: list[BootStep]


class StartRequest(RequestModel):
    cold: bool = Field(False, description="boot, whatever it could wake from")


class StopRequest(RequestModel):
    timeout_seconds: Seconds = Field(30.0, ge=0)
    force: bool = False


class ExecRequest(RequestModel):
    command: list[str] = Field(min_length=1)
    user: str = ""
    working_dir: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    stdin_base64: Base64Text = ""
    timeout_seconds: Seconds = Field(60.0, gt=0)


class ExecResult(ApiModel):
    exit_code: int
    stdout: str
    stderr: str


class SshSessionRequest(RequestModel):
    """Authorizes a client's key for a while; the stream is then a WebSocket at /vms/{name}/ssh/stream."""

    public_key: PublicKey
    ttl_seconds: int = Field(60, ge=1, le=3600)


class SshSession(ApiModel):
    host_key: str = Field(description="public key of the guest's SSH server, for known_hosts")
    user: str = "root"
    identity: str = Field(
        "",
        description="where the guest boots its own system: the public key that logs in; ssh/signature signs with it",
    )


class SignatureRequest(RequestModel):
    data_base64: Base64Text = Field(
        max_length=1 << 17, description="what the guest's SSH server wants signed"
    )


class Signature(ApiModel):
    signature_base64: str = Field(description="in SSH's own form (RFC 4253, 6.6)")


class LogLine(ApiModel):
    time: str
    process: str
    stream: Literal["stdout", "stderr", "agent"]
    line: str


class Secret(ApiModel):
    name: str
    size_bytes: int
    updated_at: str
    vms: list[str] = Field(default_factory=list)


class VmStats(ApiModel):
    guest: AgentStats | None = None
    host_memory_bytes: int = 0
    host_cpu_seconds: float = 0


class Event(ApiModel):
    """One server-sent event of /events/vms; `id` counts up and may be given as Last-Event-ID."""

    id: int
    time: str
    kind: str
    vm: str
    data: dict[str, Any] = Field(default_factory=dict)
