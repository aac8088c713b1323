# SPDX-License-Identifier: Apache-2.0
"""What people say of a new VM, as options of `vms create` and `run`, and as the API wants it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from volant.digits import is_whole_number
from volant.errors import UsageError
from volant.volar.labels import parse_labels
from volant.volar.names import Parameter

if TYPE_CHECKING:
    from volant.contract.api_types import (
        MountAttachment,
        PublishRequest,
        Resources,
        SecretAttachment,
        VmCreate,
        VolumeAttachment,
    )
    from volant.volar.client import Client

# Of docker's; all but `ro` say what is so anyway.
MOUNT_OPTIONS = {"ro", "rw", "z", "Z", "consistent", "cached", "delegated"}
Command = TypeVar("Command", bound=Callable[..., Any])

NETWORK_MODES = ("bridged", "dhcp", "user", "vsock")


@dataclass(frozen=True)
class VmOptions:
    """The options below, by their names."""

    cpus: int | None
    memory: int | None
    disk_size: str | None
    disk_bandwidth: str | None
    nested: bool
    architecture: str | None
    hypervisor: str | None
    network: tuple[str, ...]
    alias: tuple[str, ...]
    isolated: bool
    egress: str | None
    publish: tuple[str, ...]
    env: tuple[str, ...]
    env_file: tuple[IO[str], ...]
    cloud_init: IO[bytes] | None
    ssh_key: tuple[IO[str], ...]
    secret: tuple[str, ...]
    volume: tuple[str, ...]
    mount: tuple[str, ...]
    label: tuple[str, ...]
    restart: str | None
    suspend_when_idle: int | None
    kernel: str | None
    kernel_arguments: str | None

    def make_request(self, client: Client, name: str, plugin: str, *, start: bool = True) -> VmCreate:
        """The API's request; what was not said is left to the daemon, resources to the plugin."""
        return self.complete(self.read(start=start), client, name, plugin)

    def complete(self, request: VmCreate, client: Client, name: str, plugin: str) -> VmCreate:
        """What `read` made of the options, now that there is a plugin."""
        request["name"], request["plugin"] = name, plugin
        if self.cpus or self.memory or self.nested:
            request["resources"] = self._complete_resources(
                client.get_plugin(plugin)["manifest"]["resources"]
            )
        return request

    def read(self, *, start: bool = True) -> VmCreate:
        """The request without name and plugin. Raises UsageError, InvalidInput: before anything is built, then."""
        import base64

        from volant.sizes import read_size

        if self.disk_size:
            read_size(self.disk_size)
        request: VmCreate = {
            "name": "",
            "publish": [parse_publish(text) for text in self.publish],
            "env": {**read_env_files(self.env_file), **parse_environment(self.env)},
            "ssh_keys": [read_text(stream).strip() for stream in self.ssh_key],
            "secrets": [parse_secret(text) for text in self.secret],
            "volumes": [
                *(parse_volume(text) for text in self.volume if not is_folder(text)),
                *(parse_volume(of_volume(text)) for text in self.mount if is_of_volume(text)),
            ],
            "labels": parse_labels(self.label),
            "disk_size": self.disk_size,
            "start": start,
        }
        folders = [text for text in self.mount if not is_of_volume(text)]
        if mounts := [parse_mount(text) for text in (*folders, *filter(is_folder, self.volume))]:
            request["mounts"] = mounts
        modes = [word for word in self.network if word in NETWORK_MODES]
        if len(modes) > 1:
            raise UsageError(f"cannot give --network {' and '.join(modes)}: a VM has one mode")
        if modes:
            request["network"] = modes[0]  # type: ignore[typeddict-item]  # one of the modes
        if names := [word for word in self.network if word not in NETWORK_MODES]:
            request["networks"] = names
        if self.alias:
            request["aliases"] = list(self.alias)
        if self.isolated:
            request["isolated"] = True
        if self.egress is not None:
            request["egress"] = read_egress(self.egress)
        if self.restart:
            request["restart"] = self.restart
        if self.suspend_when_idle is not None:
            request["suspend_when_idle_seconds"] = self.suspend_when_idle
        if self.cloud_init:
            request["user_data_base64"] = base64.b64encode(self.cloud_init.read()).decode()
        if self.architecture:
            request["architecture"] = self.architecture  # type: ignore[typeddict-item]  # one of its choices
        if self.kernel:
            request["kernel"] = self.kernel
        if self.kernel_arguments:
            request["kernel_arguments"] = self.kernel_arguments
        if self.disk_bandwidth:
            request["disk_bandwidth"] = self.disk_bandwidth
        if self.hypervisor:
            request["hypervisor"] = self.hypervisor  # type: ignore[typeddict-item]  # one of its choices
        return request

    def with_networks(self, networks: Iterable[str]) -> VmOptions:
        return replace(self, network=tuple(networks))

    def of_snapshot(self) -> VmOptions:
        """UsageError for what a VM of a snapshot has as the snapshot's VM had it."""
        fixed = {
            "--cpus": self.cpus,
            "--memory": self.memory,
            "--network": self.network or None,
            "--disk-size": self.disk_size,
            "--disk-bandwidth": self.disk_bandwidth,
            "--nested": self.nested or None,
            "--architecture": self.architecture,
            "--kernel": self.kernel,
            "--kernel-arguments": self.kernel_arguments,
            "--mount": self.mount or None,
        }
        for name, value in fixed.items():
            if value is not None:
                raise UsageError(
                    f"cannot give {name} to a VM of a snapshot: it has what the snapshot's VM had"
                )
        return self

    def _complete_resources(self, usual: Resources) -> Resources:
        return {
            "vcpu": self.cpus or usual["vcpu"],
            "memory_mb": self.memory or usual["memory_mb"],
            "nested": self.nested or usual.get("nested", False),
        }


def vm_options(
    *, publish: Sequence[str] = ("--publish",), volume: Sequence[str] = ("--volume",)
) -> Callable[[Command], Command]:
    """Decorator: these options, given to the command as one argument `options`. `publish` and `volume` name theirs."""
    chosen = (
        click.option("--cpus", type=click.IntRange(1), help="vCPUs; the plugin's own number otherwise."),
        click.option("-m", "--memory", type=Mebibytes(), metavar="MIB", help="Memory in MiB, or 512m, 2g."),
        click.option("--disk-size", metavar="SIZE", help="Grow the root disk, e.g. 20G."),
        click.option("--disk-bandwidth", metavar="SIZE", help="The most its disks read and write in a second."),
        click.option("--nested", is_flag=True, help="Let the guest run VMs itself, if this host can."),
        click.option(
            "--architecture", type=click.Choice(["amd64", "arm64"]), help="Emulate this one; slow."
        ),
        click.option(
            "--hypervisor", type=click.Choice(["auto", "qemu", "cloud-hypervisor"]),
            help="Hypervisor that runs it (default: auto: QEMU if it is installed).",
        ),
        *_network_options(),
        click.option(
            *publish, multiple=True, metavar="[[IP:]PORT:]GUEST_PORT", help="Publish a port of the guest."
        ),
        click.option(
            "-e", "--env", multiple=True, metavar="NAME[=VALUE]",
            help="Environment of the workload; without a value, this shell's.",
        ),
        click.option("--env-file", multiple=True, type=click.File(), help="Lines of NAME=VALUE."),
        click.option("--cloud-init", type=click.File("rb"), help="A user-data file."),
        click.option(
            "--ssh-key", multiple=True, type=click.File(), help="A public key that may log in over the network."
        ),
        click.option("--secret", multiple=True, metavar="NAME[:PORT[,uid=UID]]", help="Attach a secret."),
        click.option(
            *volume, multiple=True, metavar="[NAME:]PATH[:ro]", help="Mount a volume in the guest."
        ),
        click.option(
            "--mount", multiple=True, metavar="FOLDER:PATH[:ro]", help="Mount a folder of this host in the guest."
        ),
        click.option("-l", "--label", multiple=True, metavar="NAME=VALUE", help="A label (repeatable)."),
        click.option(
            "--restart", metavar="POLICY",
            help="no, on-failure[:N], always or unless-stopped (default: on-failure; of volar run: no).",
        ),
        click.option(
            "--suspend-when-idle", type=Period(), metavar="TIME",
            help="Suspend it after this time without traffic, e.g. 10m; a connection wakes it.",
        ),
        click.option("--kernel", metavar="NAME", help="One of volar system kernels, in place of the usual one."),
        click.option(
            "--kernel-arguments", metavar="TEXT", help='Add to the kernel\'s command line, e.g. "loglevel=7".'
        ),
    )  # fmt: skip

    return collect(VmOptions, "options", chosen)


def _network_options() -> Sequence[Any]:
    return (
        click.option(
            "--network", "--net", metavar="NAME|MODE", multiple=True,
            help="A network by name (repeatable), or a mode: bridged, dhcp, user or vsock.",
        ),
        click.option(
            "--alias", "--network-alias", metavar="NAME", multiple=True, help="A name beside its own (repeatable)."
        ),
        click.option("--isolated", is_flag=True, help="Separate it from the bridge's other VMs."),
        click.option(
            "--egress", metavar="none|open|NAME,CIDR,...",
            help="What it may reach outside its networks (default: open).",
        ),
    )  # fmt: skip


def collect(kind: type[Any], argument: str, chosen: Sequence[Any]) -> Callable[[Command], Command]:
    """Decorator: the options `chosen`, one for each field of the dataclass `kind`, given as one argument."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gather(*arguments: Any, **given: Any) -> Any:
            collected = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            return command(*arguments, **given, **{argument: collected})

        decorated: Any = gather
        for option in reversed(chosen):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]  # click's options return what they are given

    return decorate


class Period(Parameter):
    """Seconds as a number, or with s, m, h or d."""

    name = "time"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value).strip().lower()
        number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h", "d") else (text, "s")
        try:
            seconds = int(float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit])
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time: give seconds, or 90s, 10m, 2h", parameter, context)
        if not 0 <= seconds <= 31_536_000:
            self.fail(f"{value!r} is not between 0 and 365d", parameter, context)
        return seconds


class Mebibytes(Parameter):
    """MiB as a number, or with docker's suffixes k, m, g."""

    name = "MiB"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value).lower().removesuffix("ib").removesuffix("b")
        number, unit = (text[:-1], text[-1]) if text[-1:] in ("k", "m", "g") else (text, "m")
        try:
            size = int(float(number) * {"k": 1 / 1024, "m": 1, "g": 1024}[unit])
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a size: give MiB, or 512m or 2g", parameter, context)
        if size < 32:
            self.fail(f"{value!r} is less than 32 MiB", parameter, context)
        return size


def read_egress(text: str) -> str:
    from volant.contract.egress import check_egress

    try:
        return check_egress(text)
    except ValueError as error:
        raise UsageError(
            f"cannot use --egress: {error}",
            resolution="--egress none, open or deb.debian.org,*.example.com,10.0.0.0/8",
        ) from error


def parse_publish(text: str) -> PublishRequest:
    """[[HOST_IP:]HOST_PORT:]GUEST_PORT[/udp] as the API wants it."""
    plain, _, protocol = text.partition("/")
    parts = plain.rsplit(":", 2)
    ports = [int(part) if is_whole_number(part) else None for part in parts[-2:]]
    if any(part and port is None for part, port in zip(parts[-2:], ports, strict=True)):
        ports = [None]
    guest_port = ports[-1]
    if guest_port is None or protocol not in ("", "tcp", "udp"):
        raise UsageError(
            f"cannot publish {text!r}: not a port",
            resolution="--publish [[HOST_IP:]HOST_PORT:]GUEST_PORT[/udp]",
        )
    return {
        "host_ip": parts[0].strip("[]") if len(parts) == 3 else None,
        "host_port": ports[0] if len(ports) == 2 else None,
        "guest_port": guest_port,
        "protocol": "udp" if protocol == "udp" else "tcp",
    }


def parse_secret(text: str) -> SecretAttachment:
    """NAME[:PORT[,uid=UID]] as the API wants it."""
    plain, _, option = text.partition(",")
    name, _, port = plain.partition(":")
    key, _, uid = option.partition("=")
    if (port and not is_whole_number(port)) or (
        option and (key != "uid" or not is_whole_number(uid) or not port)
    ):
        raise UsageError(
            f"cannot attach the secret {text!r}", resolution="--secret NAME, NAME:PORT or NAME:PORT,uid=UID"
        )
    return {"name": name, "port": int(port) if port else None, "uid": int(uid) if uid else None}


def is_folder(text: str) -> bool:
    """Whether what -v names is a path of this host, and no volume: as docker tells them apart."""
    if is_nameless(text):
        return False
    name = text.partition(":")[0]
    return "/" in name or name in (".", "..", "~")


def is_nameless(text: str) -> bool:
    """Whether -v says a path of the guest alone, as docker's anonymous volumes have it."""
    return text.startswith("/") and ":" not in text


def is_of_volume(text: str) -> bool:
    """Whether what --mount says is docker's type=volume,…"""
    return "type=volume" in text.split(",")


def of_volume(text: str) -> str:
    """The same as -v has it."""
    source, target, is_read_only = read_mount_words(text)
    return f"{source}:{target}{':ro' if is_read_only else ''}" if source else target


def read_mount_words(text: str) -> tuple[str, str, bool]:
    """Source, target and whether it is read only, of docker's type=bind,source=FOLDER,target=PATH[,readonly]."""
    words = dict(word.partition("=")[::2] for word in text.split(","))
    source = words.get("source") or words.get("src", "")
    target = words.get("target") or words.get("destination") or words.get("dst", "")
    return source, target, bool({"readonly", "ro"} & set(words))


def parse_mount(text: str) -> MountAttachment:
    """FOLDER:PATH[:ro|:rw], or docker's type=bind,source=FOLDER,target=PATH[,readonly], as the API wants it."""
    options: set[str] = set()
    if "=" in text.partition(",")[0]:
        source, target, is_read_only = read_mount_words(text)
        is_known = "type=" not in text or "type=bind" in text.split(",")
    else:
        source, _, rest = text.partition(":")
        target, _, mode = rest.partition(":")
        options = set(mode.split(",")) - {""}
        is_known, is_read_only = True, "ro" in options
    if not source or not target.startswith("/") or not is_known or options - MOUNT_OPTIONS:
        raise UsageError(
            f"cannot mount {text!r}", resolution="--mount FOLDER:/path/in/the/guest, or FOLDER:/path:ro"
        )
    return {
        "source": os.path.abspath(os.path.expanduser(source)), "target": target, "read_only": is_read_only,
    }  # fmt: skip


def parse_volume(text: str) -> VolumeAttachment:
    """NAME:PATH[:ro|:rw], or PATH for one that is made with the VM, as the API wants it."""
    if is_nameless(text):
        return {"name": "", "target": text, "read_only": False}
    name, _, rest = text.partition(":")
    target, _, mode = rest.partition(":")
    if not name or not target.startswith("/") or mode not in ("", "ro", "rw"):
        raise UsageError(
            f"cannot attach the volume {text!r}",
            resolution="--volume NAME:/path/in/the/guest, NAME:/path:ro, or /path for one that is made with the VM",
        )
    return {"name": name, "target": target, "read_only": mode == "ro"}


def parse_environment(given: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE, or NAME alone for this shell's value (left out where it has none), as docker reads them."""
    pairs = (text.split("=", 1) if "=" in text else (text, os.environ.get(text)) for text in given)
    return {name: value for name, value in pairs if value is not None}


def read_text(stream: IO[str]) -> str:
    try:
        return stream.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {stream.name}: it is not UTF-8 text") from error


def read_env_files(streams: Sequence[IO[str]]) -> dict[str, str]:
    """Lines as docker's --env-file has them: comments and empty lines are dropped, nothing is unquoted."""
    lines = [line.strip("\r\n").lstrip() for stream in streams for line in read_text(stream).split("\n")]
    return parse_environment([line for line in lines if line and not line.startswith("#")])
