# SPDX-License-Identifier: Apache-2.0
"""What the commands of `volar compose` do, without their options: `Composer`, made for one command."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from volant.errors import Conflict, InvalidInput, NotFound
from volant.volar.boot_watch import wait_for_workload
from volant.volar.client import Client
from volant.volar.compose import planning, project_vms
from volant.volar.compose.doing import Doer, stop_in_order, stop_vm
from volant.volar.compose.fates import Fate, list_fates, list_warnings
from volant.volar.compose.files import choose_files
from volant.volar.compose.host_folders import check_folders, make_folders
from volant.volar.compose.loading import Project, load_project, read_dotenv
from volant.volar.compose.networks import delete_networks, make_networks
from volant.volar.compose.planning import Act, Step, WantedVm
from volant.volar.compose.plugins import Pull, find_plugin
from volant.volar.compose.requests import (
    DEFAULT_VOLUME_SIZE,
    SERVICE_LABEL,
    ServiceRequest,
    make_requests,
    name_volume,
)


@dataclass(frozen=True)
class StackOptions:
    """Options of the group: which files, and which of their services."""

    file: tuple[str, ...] = ()
    project_name: str | None = None
    profile: tuple[str, ...] = ()
    env_file: tuple[str, ...] = ()
    project_directory: str | None = None

    def load(self) -> Project:
        here = Path.cwd()
        folder = (here / self.project_directory).absolute() if self.project_directory else None
        environment = dict(os.environ)
        named = [here / name for name in self.env_file or _split(environment.get("COMPOSE_ENV_FILES"), ",")]
        known = {**read_dotenv(folder or here, named, environment), **environment}
        paths = choose_files(self.file, known, here)
        return load_project(
            paths, name=self.project_name, env_files=named, folder=folder, environment=environment
        )

    def list_profiles(self, project: Project) -> list[str]:
        return list(self.profile) or _split(project.environment.get("COMPOSE_PROFILES"), ",")


def _split(text: str | None, sign: str) -> list[str]:
    return [part.strip() for part in (text or "").split(sign) if part.strip()]


@dataclass(frozen=True)
class UpOptions:
    build: bool = False
    pull: Pull | None = None
    force_recreate: bool = False
    remove_orphans: bool = False
    no_deps: bool = False
    timeout_seconds: float = 600.0


@dataclass
class Composer:
    client: Client
    project: Project
    profiles: Sequence[str]
    tell: Callable[[str], None]
    requests: dict[str, ServiceRequest] = field(default_factory=dict)

    def warn(self) -> None:
        """One line for each key that cannot mean anything here. InvalidInput for those that cannot be left out."""
        fates = list_fates(self.project.stack)
        if refused := [f"{each.place}: {each.why}" for each in fates if each.fate is Fate.REFUSED]:
            raise InvalidInput("cannot make VMs of this stack", details=refused)
        for line in (*self.project.warnings, *list_warnings(self.project.stack)):
            self.tell(f"warning: {line}")

    def select(self, named: Sequence[str], *, alone: bool = False) -> list[str]:
        return planning.select_services(self.project.stack, named, self.profiles, alone=alone)

    def read_requests(self, names: Sequence[str]) -> dict[str, ServiceRequest]:
        self.requests = make_requests(self.project, names)
        for request in self.requests.values():
            for note in request.notes:
                self.tell(f"note: {note}")
        users: dict[str, list[tuple[str, int, bool]]] = {}
        for request in self.requests.values():
            for volume in request.body.get("volumes", []):
                users.setdefault(volume["name"], []).append(
                    (request.name, request.replicas, volume.get("read_only", False))
                )
        check_folders(self.client, self.requests.values())
        planning.check_writers(users)
        return self.requests

    def up(self, named: Sequence[str], options: UpOptions) -> list[str]:
        """The names of the stack's VMs, all asked for."""
        self.warn()
        requests = self.read_requests(self.select(named, alone=options.no_deps))
        plugins = {
            name: find_plugin(self.client, self.project, name, build=options.build, pull=options.pull)
            for name in requests
        }
        self.make_volumes()
        used = [name for request in requests.values() for name in request.body.get("networks", [])]
        make_networks(self.client, self.project, used, self.tell)
        for folder in make_folders(requests.values()):
            self.tell(f"{folder}: folder made")
        for request in requests.values():
            for secret, value in request.secrets.items():
                self.client.set_secret(secret, value)
        wanted = [
            WantedVm(
                project_vms.name_vm(self.project.name, name, number + 1), name, request.digest(plugins[name])
            )
            for name, request in requests.items()
            for number in range(request.replicas)
        ]
        found = project_vms.list_found(self.client, self.project.name)
        self._check_names(wanted, {vm.name for vm in found})
        steps = planning.plan_up(
            wanted, found, known=self.project.stack.services, force_recreate=options.force_recreate,
            remove_orphans=options.remove_orphans,
        )  # fmt: skip
        orphans = planning.find_orphans(found, self.project.stack.services)
        if orphans and not options.remove_orphans:
            self.tell(
                f"warning: {', '.join(orphans)}: of no service of these files any more: --remove-orphans"
            )
        Doer(self.client, requests, plugins, self.tell, options.timeout_seconds).carry_out(steps)
        return [each.name for each in wanted]

    def _check_names(self, wanted: Sequence[WantedVm], ours: set[str]) -> None:
        for each in wanted:
            if each.name in ours:
                continue
            with suppress(NotFound):
                self.client.get_vm(each.name)
                raise Conflict(
                    f"cannot create VM {each.name}: there is one of that name, which is not of this stack",
                    resolution=f"volar vms delete {each.name}, or another name for the stack: -p NAME",
                )

    def wait(self, names: Sequence[str], timeout_seconds: float) -> None:
        for name in names:
            wait_for_workload(self.client, name, timeout_seconds)

    def make_volumes(self) -> None:
        """Those that services use; GuestFailed for an external one that is not there."""
        there = {volume["name"] for volume in self.client.list_volumes()}
        external = {
            name_volume(self.project, key): volume.external
            for key, volume in self.project.stack.volumes.items()
        }
        sizes = {
            name_volume(self.project, key): volume.size for key, volume in self.project.stack.volumes.items()
        }
        used = [
            volume["name"] for request in self.requests.values() for volume in request.body.get("volumes", [])
        ]
        for name in dict.fromkeys(used):
            if name in there:
                continue
            if external.get(name):
                raise NotFound(
                    f"cannot find the external volume {name}", resolution=f"volar volumes create {name}"
                )
            with suppress(Conflict):  # another `up` was quicker
                self.client.create_volume(name, sizes.get(name) or DEFAULT_VOLUME_SIZE)
                self.tell(f"{name}: volume made")

    # What follows works on the VMs that are there, whether or not the files still name them.

    def find_vms(self, named: Sequence[str]) -> dict[str, list[str]]:
        """VMs by service. NotFound for a service that the stack has not."""
        found: dict[str, list[str]] = {}
        for vm in project_vms.list_vms(self.client, self.project.name):
            found.setdefault(vm["labels"].get(SERVICE_LABEL, ""), []).append(vm["name"])
        for name in named:
            if name not in found and name not in self.project.stack.services:
                raise NotFound(
                    f"cannot find service {name} in the stack",
                    resolution=f"it has {', '.join(sorted(self.project.stack.services))}",
                )
        return {name: vms for name, vms in found.items() if not named or name in named}

    def stop(self, named: Sequence[str], *, act: Callable[[str, float], None] | None = None) -> None:
        """In the reverse order of what depends on what."""
        services = self.project.stack.services
        needs = {name: list(planning.find_dependencies(service)) for name, service in services.items()}
        grace = {
            name: 10.0 if service.stop_grace_period is None else service.stop_grace_period
            for name, service in services.items()
        }
        stop_in_order(self.client, self.find_vms(named), needs, grace, act or self._stop_one)

    def _stop_one(self, vm: str, grace_seconds: float) -> None:
        stop_vm(self.client, vm, grace_seconds)
        self.tell(f"{vm}: stopped")

    def kill(self) -> None:
        for vms in self.find_vms(()).values():
            for vm in vms:
                with suppress(Conflict, NotFound):
                    self.client.stop_vm(vm, force=True)

    def start(self, named: Sequence[str]) -> None:
        for vms in self.find_vms(named).values():
            for vm in vms:
                with suppress(Conflict):
                    self.client.start_vm(vm)
                self.tell(f"{vm}: started")

    def down(self, *, volumes: bool) -> None:
        def remove(vm: str, grace_seconds: float) -> None:
            stop_vm(self.client, vm, grace_seconds)
            with suppress(NotFound):
                self.client.delete_vm(vm, force=True)
            self.tell(f"{vm}: removed")

        self.stop((), act=remove)
        delete_networks(self.client, self.project.name, self.tell)
        there = {secret["name"] for secret in self.client.list_secrets()}
        for name in sorted(name for name in there if name.startswith(f"compose.{self.project.name}.")):
            with suppress(Conflict, NotFound):
                self.client.delete_secret(name)
        if volumes:
            self._delete_volumes()

    def _delete_volumes(self) -> None:
        """The stack's own: external ones stay, and so do those that others use."""
        external = {
            name_volume(self.project, key)
            for key, volume in self.project.stack.volumes.items()
            if volume.external
        }
        named = {name_volume(self.project, key) for key in self.project.stack.volumes}
        for volume in self.client.list_volumes():
            name = volume["name"]
            if name in external or not (name in named or name.startswith(f"{self.project.name}_")):
                continue
            try:
                self.client.delete_volume(name)
            except Conflict as error:
                self.tell(f"warning: {error.what}")
            else:
                self.tell(f"{name}: volume deleted")


__all__ = ["Act", "Composer", "StackOptions", "Step", "UpOptions"]
