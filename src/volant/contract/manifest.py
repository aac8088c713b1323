# SPDX-License-Identifier: Apache-2.0
"""manifest.json, schema 1.0: what a plugin says of itself. Written by fledge (or by hand), read by volantd."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from volant.contract.egress import check_egress
from volant.contract.names import NAME_PATTERN, VERSION_PATTERN

CHECKSUM_PATTERN = r"^sha256:[0-9a-f]{64}$"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN, max_length=128)]
Checksum = Annotated[str, StringConstraints(pattern=CHECKSUM_PATTERN)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Strict(BaseModel):
    """A frozen value that refuses unknown keys."""

    model_config = ConfigDict(defer_build=True, extra="forbid", frozen=True, populate_by_name=True)


class DiskFile(Strict):
    """The root disk, as a path in the archive or a URL."""

    path: str | None = Field(None, description="its file in the archive")
    url: str | None = Field(None, description="where it is fetched from, in place of a file")
    format: Literal["qcow2", "raw"] = "qcow2"
    checksum: Checksum | None = Field(None, description="needed with a url")
    boot: Literal["kernel", "firmware"] | None = Field(
        None, description="kernel: a bare file system booted by volant's kernel; firmware: a whole system"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("needs exactly one of path and url")
        return self


class InitramfsFile(Strict):
    """The RAM file system, as a path in the archive or a URL."""

    path: str | None = Field(None, description="its file in the archive")
    url: str | None = Field(None, description="where it is fetched from, in place of a file")
    checksum: Checksum | None = Field(None, description="needed with a url")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.path is None) == (self.url is None):
            raise ValueError("needs exactly one of path and url")
        return self


class Resources(Strict):
    vcpu: int = Field(
        1, ge=1, le=256, validation_alias=AliasChoices("vcpu", "cpu_cores"),
        description="virtual CPUs (`cpu_cores` is read as well)",
    )  # fmt: skip
    memory_mb: int = Field(256, ge=32, le=4 * 1024 * 1024, description="memory in MiB")
    nested: bool = Field(
        False, description="a processor with virtualization: the guest may run VMs of its own"
    )


def _refuse_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a NUL character, which no process can be given")
    return text


# An argument, a variable or a path of a process.
ProcessText = Annotated[str, AfterValidator(_refuse_nul)]


class Workload(Strict):
    """What the plugin exists to run. `entrypoint` is an argument list that replaces the image's whole command."""

    type: Literal["http", "tcp", "daemon", "batch"] = Field(
        "daemon", description="`http` and `tcp` serve a port, `daemon` just runs, `batch` ends with a result"
    )
    port: Port | None = Field(None, description="the port that it serves")
    base_url: str | None = Field(None, description="path below which its pages are")
    entrypoint: list[ProcessText] = Field(
        default_factory=list, description="argument list in place of the image's command"
    )
    workdir: ProcessText | None = Field(None, description="working folder in place of the image's WORKDIR")
    env: dict[ProcessText, ProcessText] = Field(
        default_factory=dict, description="variables on top of the image's ENV"
    )
    user: ProcessText | None = Field(None, description="user in place of the image's USER, by name or number")


class HealthCheck(Strict):
    endpoint: str = Field(description="path of an HTTP check on workload.port, e.g. /health")
    interval_ms: int = Field(10_000, ge=100, description="time between two checks")
    timeout_ms: int = Field(2_000, ge=10, description="time that an answer may take")
    retries: int = Field(3, ge=1, description="failures in a row until the workload counts as unhealthy")


class Network(Strict):
    mode: Literal["bridged", "user", "vsock", "dhcp"] | None = Field(
        None, description="network of its VMs unless they ask otherwise"
    )
    egress: Annotated[str, AfterValidator(check_egress)] | None = Field(
        None,
        description="what its VMs reach beyond those of their networks unless they ask otherwise: open, none, or names"
        " and networks with commas between",
    )


class CloudInitDocument(Strict):
    content: str | None = Field(None, description="the document itself")
    path: str | None = Field(None, description="a file with the document; fledge takes its content in")


class CloudInit(Strict):
    datasource: Literal["NoCloud"] = Field("NoCloud", description="where the guest finds its documents")
    seed_mode: Literal["disk", "iso"] = Field("disk", description="form of the seed")
    user_data: CloudInitDocument | None = None
    meta_data: CloudInitDocument | None = None
    network_config: CloudInitDocument | None = None


def _check_source(source: str) -> str:
    if not source.startswith(("http://", "https://")):
        raise ValueError(
            "is no URL, and further disks are not packed into a plugin: leave it out for an empty disk, or put the"
            " files on the root disk with [mappings]"
        )
    return source


class Disk(Strict):
    """A further disk of the plugin's VMs: a volume that is made with a VM, and kept when the VM is deleted."""

    name: Name = Field(description="in the volume's name: VM-NAME")
    source: Annotated[str, AfterValidator(_check_source)] | None = Field(
        None, description="URL of an ext4 file system that it begins with (default: empty)"
    )
    format: Literal["qcow2", "raw"] = Field("raw", description="form of the source")
    readonly: bool = Field(False, description="one volume for all VMs of the plugin, which only read it")
    target: Annotated[str, StringConstraints(pattern=r"^/")] | None = Field(
        None, description="folder where the guest finds it (default: /mnt/NAME)"
    )
    size: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[KMGT]$")] | None = Field(
        None, description="e.g. 20G (default: 10G, or the size of the source)"
    )
    checksum: Checksum | None = Field(None, description="of the file at the source")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.source is None and (self.readonly or self.checksum is not None):
            raise ValueError("is empty without a source: readonly and checksum are for what a source holds")
        if self.source is not None and self.checksum is None:
            raise ValueError('has a source and no checksum: add "sha256:…", as sha256sum prints it')
        return self


def _refuse_same_disks(disks: list[Disk]) -> list[Disk]:
    for names in ([disk.name for disk in disks], [disk.target for disk in disks if disk.target]):
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two of them are called or lie at {twice[0]}")
    return disks


class Action(Strict):
    """A named HTTP request to the workload."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    path: str = Field(description="path of the request")
    timeout_ms: int = Field(30_000, ge=1)
    description: str = ""


class RuntimeHalf(Strict):
    """The part of a manifest that a recipe may give under [plugin.manifest]."""

    resources: Resources = Field(default_factory=Resources)
    workload: Workload = Field(default_factory=Workload)
    health_check: HealthCheck | None = Field(None, description="an HTTP check on the workload's port")
    network: Network | None = Field(None, description="what its VMs use unless they choose")
    cloud_init: CloudInit | None = Field(None, description="documents for every VM of the plugin")
    disks: Annotated[list[Disk], AfterValidator(_refuse_same_disks)] = Field(
        default_factory=list, description="further disks of its VMs: volumes that are made with each"
    )
    actions: dict[str, Action] = Field(
        default_factory=dict, description="named HTTP requests to the workload"
    )
    openapi: str | dict[str, Any] | None = Field(
        None, description="the workload's own API, as a file or a document"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="names and values for people's own order"
    )
    warm: Literal["workload"] | None = Field(
        None,
        description="`workload`: new VMs are copies of one in which the workload is up already, once there is one",
    )


class Manifest(RuntimeHalf):
    """A whole manifest. A hand-made one may leave out everything but name and version."""

    schema_version: Literal["1.0"] = "1.0"
    name: Name = Field(description="of the plugin")
    version: Version = Field(description="a semantic version")
    description: str = Field("", description="one line for people")
    runtime: str = Field("", description="always equal to name; kept for readers of older manifests")
    enabled: bool = Field(True, description="whether VMs may be made of it once it is installed")
    rootfs: DiskFile | None = Field(None, description="the root disk; or an initramfs")
    initramfs: InitramfsFile | None = Field(None, description="a plugin that lives in RAM")

    @model_validator(mode="before")
    @classmethod
    def _runtime_is_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("runtime") and "name" in data:
            data = {**data, "runtime": data["name"]}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rootfs is not None and self.initramfs is not None:
            raise ValueError("has both rootfs and initramfs: exactly one may be given")
        if self.runtime != self.name:
            raise ValueError(f"runtime is {self.runtime!r} but must equal name {self.name!r}")
        return self
