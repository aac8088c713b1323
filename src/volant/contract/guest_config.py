# SPDX-License-Identifier: Apache-2.0
"""guest.json: one VM's settings, appended to the boot archive by volantd and read by kestrel as PID 1 of the initrd.

The file lies at /volant/guest.json in the initramfs, mode 0600, and never reaches the root disk or a kernel command
line. Unknown keys are ignored by the agent (an older agent under a newer host), a missing or malformed file ends
the boot with that reason. For an initramfs plugin `root` is null and the plugin's own archive follows kestrel's in
the concatenated initrd.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from volant.contract.image_config import ImageHealthcheck
from volant.contract.manifest import HealthCheck, Workload

GUEST_CONFIG_PATH = "volant/guest.json"
CONTROL_PORT_NAME = "volant.control.0"
FOLDERS_PORT_NAME = "volant.folders.0"
# The serial number of the disk with the kernel's modules, attached to every VM whose kernel has any.
MODULES_SERIAL = "modules"
# Of CID 2, where nothing else is said.
SECRETS_PORT = 9000


class GuestModel(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid")


class Root(GuestModel):
    """The root disk. `serial` is the virtio-blk serial number the agent looks for (at most 20 bytes)."""

    serial: str = "root"
    fstype: str = "ext4"
    read_only: bool = False


class Interface(GuestModel):
    """One network interface, found by its MAC address."""

    mac: str
    mode: Literal["static", "dhcp"]
    addresses: list[str] = Field(default_factory=list, description="CIDR form, IPv4 and IPv6")
    gateway: str | None = None
    gateway6: str | None = None
    mtu: int | None = None


class GuestNetwork(GuestModel):
    interfaces: list[Interface] = Field(default_factory=list, description="empty: no network but loopback")
    nameservers: list[str] = Field(default_factory=list)
    search: list[str] = Field(default_factory=list)
    hosts: dict[str, list[str]] = Field(
        default_factory=dict, description="more of /etc/hosts: address → names"
    )


class Control(GuestModel):
    """How host and guest find each other: a virtio-serial port by name, or a vsock port; keys in OpenSSH form."""

    transport: Literal["virtio-serial", "vsock"] = "virtio-serial"
    port_name: str = CONTROL_PORT_NAME
    vsock_port: int = 1024
    host_key: str = Field(
        description="private key (OpenSSH PEM, ed25519) that the agent's SSH server shows; empty: one of its own"
    )
    authorized_keys: list[str] = Field(description="public keys that may open the control stream")


class Ssh(GuestModel):
    """SSH on the network: off unless a key is known and the image has no sshd of its own."""

    listen_port: int | None = 22
    authorized_keys: list[str] = Field(default_factory=list)


class Mount(GuestModel):
    """A further disk. `format_if_blank`: the file system to make on a disk that holds none."""

    serial: str
    target: str
    fstype: str = "ext4"
    read_only: bool = False
    format_if_blank: bool = False


class HostFolder(GuestModel):
    """A folder of the host, or one of its files, known to its file server by the place in the list."""

    target: str
    read_only: bool = False
    is_file: bool = False


class HostFolders(GuestModel):
    """Folders of the host, whose file server is at a virtio-serial port."""

    port_name: str = FOLDERS_PORT_NAME
    mark: str = Field(description="how the host begins there, which nothing that it says later does")
    mounts: list[HostFolder] = Field(default_factory=list)


class SecretPort(GuestModel):
    """A vsock port of CID 2 on which the host answers secrets; `uid`: the only user that may connect (null: all)."""

    port: int = SECRETS_PORT
    uid: int | None = None


class GuestFile(GuestModel):
    """A file of this VM, mounted over its path. `secret_port`: the content is what that port of CID 2 answers.

    Of the kinds folder (of the disk) and memory it is an empty folder.
    """

    path: str
    kind: Literal["file", "folder", "memory"] = "file"
    content_base64: str = ""
    secret_port: int | None = None
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


class CloudInitDocuments(GuestModel):
    """NoCloud documents as text (user_data_base64 for gzip or MIME bytes). The instance id is the VM's id."""

    instance_id: str
    user_data_base64: str = ""
    meta_data: str = ""
    network_config: str = ""


class GuestWorkload(Workload):
    """The manifest's workload, and what was asked for when this VM was made."""

    command: list[str] = Field(
        default_factory=list, description="in place of the image's CMD, or of the manifest's whole entrypoint"
    )
    groups: list[int] = Field(
        default_factory=list, description="supplementary groups, beside those of the user"
    )
    run_once: bool = Field(
        False, description="the VM ends with its processes, and an image's command is not started again"
    )
    message_path: str = Field(
        "", description="of the file that the command is offered for its last message; empty: none"
    )
    always: bool = Field(False, description="an image's command is started again however it ended")
    stdin: bool = Field(
        False, description="it has a standard input, which the subsystem `attach` joins people to"
    )
    stdin_once: bool = Field(False, description="which ends with the first of them")
    tty: bool = Field(False, description="its input and output are one terminal")
    stop_signal: str = Field("", description="in place of the image's STOPSIGNAL")
    stop_timeout_seconds: float | None = Field(None, description="what processes are given to stop")
    healthcheck: ImageHealthcheck | None = Field(None, description="in place of every other check")


class GuestConfig(GuestModel):
    schema_version: Literal[1] = 1
    vm_id: str = Field(description="empty: what the machine's firmware says, where no volantd knows it")
    vm_name: str
    hostname: str
    root: Root | None = Field(default_factory=Root)
    network: GuestNetwork = Field(default_factory=GuestNetwork)
    control: Control
    ssh: Ssh = Field(default_factory=Ssh)
    mounts: list[Mount] = Field(default_factory=list)
    folders: HostFolders | None = None
    secrets: list[SecretPort] = Field(default_factory=list)
    files: list[GuestFile] = Field(default_factory=list)
    workload: GuestWorkload = Field(default_factory=GuestWorkload)
    health_check: HealthCheck | None = None
    cloud_init: CloudInitDocuments | None = None
    unix_time_nanoseconds: int = Field(
        0, description="the host's clock when the VM was started; 0: leave the clock"
    )
    modules: list[str] = Field(
        default_factory=list,
        description="kernel modules in load order, paths under /volant/modules in the boot archive",
    )
    console: str = Field("/dev/console", description="where tagged logs of processes are copied to")
    environment_folders: list[str] = Field(
        default_factory=list,
        description="variables on top of the workload's own, each in a file by its name; their folders are mounted",
    )
    awaits_settings: bool = Field(
        False,
        description="a template, which is no VM yet: of all this only `modules` and `control.port_name` count, and the"
        " VM's own come over the control stream (settings_line.py)",
    )
