# SPDX-License-Identifier: Apache-2.0
"""What each service's VMs are made with: from a `Project` to requests of the API. Reads files, and asks no daemon."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from volant.digits import is_whole_number
from volant.errors import InvalidInput, NotFound
from volant.volar.compose.env_files import read_env_file
from volant.volar.compose.host_paths import find_obstacle
from volant.volar.compose.loading import Project
from volant.volar.compose.model import FileReference, NamedContent, Service, ServiceVolume
from volant.volar.compose.networks import PROJECT_LABEL, read_aliases, read_networks

if TYPE_CHECKING:
    from volant.contract.api_types import PlacedFile, PublishRequest, VmCreate

SERVICE_LABEL = "volant.compose.service"
DIGEST_LABEL = "volant.compose.digest"
MOST_FILE_BYTES = 1 << 20
DEFAULT_GRACE_SECONDS = 10.0
DEFAULT_VOLUME_SIZE = "10G"


@dataclass(frozen=True)
class ServiceRequest:
    """`body`: of each VM, but for its name and its plugin. `secrets`: values by their names at the daemon.

    `is_deployed`: a deployment keeps its VMs, and has the ports of `body`.
    """

    name: str
    service: Service
    replicas: int
    body: VmCreate
    secrets: Mapping[str, bytes]
    notes: tuple[str, ...]
    is_deployed: bool = False

    @property
    def grace_seconds(self) -> float:
        return (
            self.service.stop_grace_period
            if self.service.stop_grace_period is not None
            else DEFAULT_GRACE_SECONDS
        )

    def digest(self, plugin: str) -> str:
        """Of all that was asked for: another one means another VM."""
        values = {name: hashlib.sha256(value).hexdigest() for name, value in self.secrets.items()}
        text = json.dumps([self.body, plugin, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_requests(
    project: Project, names: Sequence[str], scale: Mapping[str, int] | None = None
) -> dict[str, ServiceRequest]:
    """For these services. `scale`: how many VMs, in place of what the file says.

    Raises InvalidInput and NotFound, which name the place in the file.
    """
    return {name: _ServiceReader(project, name, (scale or {}).get(name)).read() for name in names}


class _ServiceReader:
    def __init__(self, project: Project, name: str, scale: int | None) -> None:
        self.project, self.name, self.service = project, name, project.stack.services[name]
        self.scale = scale
        self.notes: list[str] = []
        self.secrets: dict[str, bytes] = {}
        self.place = f"services.{name}"

    def read(self) -> ServiceRequest:
        service = self.service
        volumes, files, mounts = self.read_volumes()
        body: dict[str, Any] = {
            "env": self.read_environment(),
            "publish": [self.read_port(number) for number in range(len(service.ports))],
            "labels": self.read_labels(),
            "restart": self.read_restart(),
            "volumes": volumes,
            "files": [*files, *self.read_references("configs"), *self.read_references("secrets")],
        }
        body.update(self.read_command())
        optional = {
            "mounts": mounts,
            "working_dir": service.working_dir,
            "user": service.user,
            "hostname": self.read_hostname(),
            "stop_signal": service.stop_signal,
            "stop_timeout_seconds": service.stop_grace_period,
            "health_check": self.read_health_check(),
            "extra_hosts": {
                name: addresses[0] for name, addresses in service.extra_hosts.items() if addresses
            },
            "resources": self.read_resources(),
            "disk_size": service.volant.disk_size,
            "snapshot": service.volant.snapshot,
            "egress": service.volant.egress,
            "architecture": self.read_architecture(),
            **self.read_network(),
        }
        body.update({key: value for key, value in optional.items() if value not in (None, "", {}, [])})
        self.note_what_is_cut()
        replicas = self.read_replicas()
        is_deployed = replicas is not None and not self.ends()
        if is_deployed and self.says_no_restart():
            del body["restart"]  # whichever ends is replaced
        return ServiceRequest(
            self.name, service, 1 if replicas is None else replicas, cast("VmCreate", body), self.secrets,
            tuple(self.notes), is_deployed,
        )  # fmt: skip

    def read_replicas(self) -> int | None:
        """None where nobody says how many: one, which is nobody's replica."""
        service = self.service
        said = next((each for each in (service.scale, service.deploy.replicas) if each is not None), None)
        return said if self.scale is None or (said is None and self.scale == 1) else self.scale

    def says_no_restart(self) -> bool:
        return self.service.restart is None and self.service.deploy.restart_policy is None

    def ends(self) -> bool:
        """Whether it is to run once, or is made of what no deployment is."""
        conditions = {
            other.depends_on[self.name].condition
            for other in self.project.stack.services.values()
            if self.name in other.depends_on
        }
        is_awaited = "service_completed_successfully" in conditions
        is_once = not self.says_no_restart() and self.read_restart() == "no"
        return is_once or is_awaited or bool(self.service.volant.snapshot)

    def note_what_is_cut(self) -> None:
        """Of keys that are done but for a part of their value."""
        service, policy = self.service, self.service.deploy.restart_policy
        for name, addresses in service.extra_hosts.items():
            if len(addresses) > 1:
                self.notes.append(f"{self.place}.extra_hosts.{name}: the first of its addresses is taken")
        if service.domainname and not service.hostname:
            self.notes.append(f"{self.place}.domainname: left out: it needs a hostname before it")
        if policy and policy.max_attempts and self.read_restart() == "always":
            self.notes.append(
                f"{self.place}.deploy.restart_policy.max_attempts: left out: VMs start again always"
            )

    def read_network(self) -> dict[str, Any]:
        mode = self.service.network_mode
        if mode == "none":
            return {"network": "vsock"}
        if mode not in (None, "bridge"):
            self.notes.append(f"{self.place}.network_mode: left out: a VM has an address of its own")
        return {
            "networks": read_networks(self.project, self.name),
            "aliases": read_aliases(self.project, self.name, self.notes),
        }

    def read_environment(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for file in self.service.env_file:
            path = Path(file.path)
            if not file.required and not path.exists():
                continue
            for name, value in read_env_file(
                path, {**found, **self.project.environment}, is_raw=file.format == "raw"
            ).items():
                if value is not None or name in self.project.environment:
                    found[name] = value if value is not None else self.project.environment[name]
        for name, value in self.service.environment.items():
            if value is not None:
                found[name] = value
            elif name in self.project.environment:
                found[name] = self.project.environment[name]
        return found

    def read_labels(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in self.service.label_file:
            values = read_env_file(Path(path), self.project.environment)
            found.update({name: value or "" for name, value in values.items()})
        return {**found, **self.service.labels, PROJECT_LABEL: self.project.name, SERVICE_LABEL: self.name}

    def read_command(self) -> dict[str, Any]:
        """An empty entrypoint takes the image's away: the command alone is then what runs."""
        service = self.service
        if service.entrypoint is None:
            return {"command": service.command} if service.command else {}
        if service.entrypoint:
            return {"entrypoint": service.entrypoint, "command": service.command or []}
        if not service.command:
            raise InvalidInput(f"cannot use {self.place}: its entrypoint is empty, and there is no command")
        return {"entrypoint": service.command}

    def read_restart(self) -> str:
        policy = self.service.deploy.restart_policy
        if self.service.restart is not None or policy is None:
            return self.service.restart or "no"
        tries = f":{policy.max_attempts}" if policy.max_attempts else ""
        return {"none": "no", "on-failure": f"on-failure{tries}", "any": "always"}[policy.condition]

    def read_hostname(self) -> str | None:
        name = self.service.hostname
        return f"{name}.{self.service.domainname}" if name and self.service.domainname else name

    def read_port(self, number: int) -> PublishRequest:
        port = self.service.ports[number]
        published, sign, _ = (port.published or "").partition("-")
        if sign:
            self.notes.append(f"{self.place}.ports[{number}]: the first port of {port.published} is taken")
        if published and not 0 < int(published) <= 65535:
            raise InvalidInput(f"cannot use {self.place}.ports[{number}]: {published} is no port")
        return {
            "host_ip": port.host_ip,
            "host_port": int(published) if published else None,
            "guest_port": port.target,
            "protocol": port.protocol,
        }

    def read_health_check(self) -> dict[str, Any] | None:
        check = self.service.healthcheck
        if check is None:
            return None
        if check.disable or (check.test or [""])[0] == "NONE":
            return {"test": ["NONE"]}
        if check.test is None:
            self.notes.append(f"{self.place}.healthcheck: left out: its times need a test beside them")
            return None
        times = {
            "interval_seconds": check.interval or None,
            "timeout_seconds": check.timeout or None,
            "start_period_seconds": check.start_period,
            "retries": check.retries,
        }
        return {"test": check.test, **{key: value for key, value in times.items() if value is not None}}

    def read_resources(self) -> dict[str, int]:
        service, limits = self.service, self.service.deploy.resources.limits
        reserved = service.deploy.resources.reservations
        cpus = service.volant.cpus or limits.cpus or service.cpus or reserved.cpus
        memory = service.volant.memory or limits.memory or service.mem_limit or reserved.memory
        found = {}
        if cpus:
            found["vcpu"] = math.ceil(cpus)
        if memory:
            found["memory_mb"] = max(32, memory >> 20)
        return found

    def read_architecture(self) -> str | None:
        platform = self.service.platform
        if platform is None:
            return None
        parts = platform.split("/")
        words = {"amd64": "amd64", "x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
        found = words.get(parts[1] if len(parts) > 1 else parts[0])
        if found is None or parts[0] not in ("linux", *words):
            raise InvalidInput(f"cannot use {self.place}.platform: VMs are of linux/amd64 or linux/arm64")
        return found

    def read_volumes(self) -> tuple[list[dict[str, Any]], list[PlacedFile], list[dict[str, Any]]]:
        """Volumes, and of this host's own what is a file and what is a folder."""
        volumes: list[dict[str, Any]] = []
        files: list[PlacedFile] = []
        mounts: list[dict[str, Any]] = []
        for number, volume in enumerate(self.service.volumes):
            place = f"{self.place}.volumes[{number}]"
            if not volume.target.startswith("/"):
                raise InvalidInput(f"cannot use {place}: its target {volume.target!r} is no absolute path")
            match volume.type:
                case "volume":
                    name = self.name_volume(volume, place)
                    volumes.append({"name": name, "target": volume.target, "read_only": volume.read_only})
                case "bind" if volume.source and (why := find_obstacle(Path(volume.source))):
                    self.notes.append(f"{place}: left out: {why}")
                case "bind" if volume.source and Path(volume.source).is_file():
                    self.notes.append(f"{place}: {volume.source} is copied into the VM when it is made")
                    mode = 0o555 if Path(volume.source).stat().st_mode & 0o100 else 0o444
                    files.append(make_file(volume.target, read_bytes(Path(volume.source), place), mode))
                case "bind" if volume.source:
                    mounts.append(
                        {"source": volume.source, "target": volume.target, "read_only": volume.read_only}
                    )
                case "tmpfs":
                    self.notes.append(f"{place}: left out: the folder stays on the VM's disk")
                case _:
                    raise InvalidInput(f"cannot use {place}: a VM has no volume of type {volume.type}")
        return volumes, files, mounts

    def name_volume(self, volume: ServiceVolume, place: str) -> str:
        if volume.source is None:
            return f"{self.project.name}_{self.name}_{hashlib.sha256(volume.target.encode()).hexdigest()[:8]}"
        if volume.source not in self.project.stack.volumes:
            raise InvalidInput(
                f"cannot use {place}: there is no volume {volume.source}",
                resolution=f"add it at the end of the file: volumes: {{{volume.source}: }}",
            )
        return name_volume(self.project, volume.source)

    def read_references(self, kind: str) -> list[PlacedFile]:
        """Configs with their content, secrets by a name at the daemon."""
        known: Mapping[str, NamedContent] = getattr(self.project.stack, kind)
        references: list[FileReference] = getattr(self.service, kind)
        found = []
        for number, reference in enumerate(references):
            place = f"{self.place}.{kind}[{number}]"
            if reference.source not in known:
                raise InvalidInput(f"cannot use {place}: there is no {kind[:-1]} {reference.source}")
            item, folder = known[reference.source], "/run/secrets/" if kind == "secrets" else "/"
            target = reference.target or reference.source
            target = target if target.startswith("/") else folder + target
            mode = 0o444 if reference.mode is None else reference.mode
            owner = (read_id(reference.uid, place), read_id(reference.gid, place))
            if kind == "configs":
                found.append(
                    make_file(target, self.read_content(item, f"configs.{reference.source}"), mode, *owner)
                )
                continue
            name = item.name or reference.source
            if not item.external:
                name = f"compose.{self.project.name}.{reference.source}"
                self.secrets[name] = self.read_content(item, f"secrets.{reference.source}")
            found.append({"path": target, "secret": name, "mode": mode, "uid": owner[0], "gid": owner[1]})
        return found

    def read_content(self, item: NamedContent, place: str) -> bytes:
        if item.file:
            return read_bytes(Path(item.file), place)
        if item.content is not None:
            return item.content.encode()
        if item.environment:
            if item.environment not in self.project.environment:
                raise InvalidInput(f"cannot use {place}: variable {item.environment} is not set")
            return self.project.environment[item.environment].encode()
        raise InvalidInput(
            f"cannot use {place}: its content is not here",
            resolution="give it a file, an environment or a content",
        )


def make_file(path: str, content: bytes, mode: int, uid: int = 0, gid: int = 0) -> PlacedFile:
    encoded = base64.b64encode(content).decode()
    return {"path": path, "content_base64": encoded, "mode": mode, "uid": uid, "gid": gid}


def read_bytes(path: Path, place: str) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"cannot use {place}: there is no file {path}") from None
    except OSError as error:
        raise InvalidInput(f"cannot use {place}: {path}: {error.strerror or error}") from error
    if len(content) > MOST_FILE_BYTES:
        raise InvalidInput(
            f"cannot use {place}: {path} has more than {MOST_FILE_BYTES >> 10} KiB: use a volume"
        )
    return content


def read_id(text: str | None, place: str) -> int:
    if text is None:
        return 0
    if not is_whole_number(text):
        raise InvalidInput(f"cannot use {place}: uid and gid are numbers here, not {text!r}")
    return int(text)


def name_volume(project: Project, key: str) -> str:
    """What a volume of the file is called at the daemon."""
    volume = project.stack.volumes[key]
    return volume.name or (key if volume.external else f"{project.name}_{key}")
