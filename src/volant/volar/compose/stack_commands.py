# SPDX-License-Identifier: Apache-2.0
"""What the commands of `volar compose` do, without their options: `Composer`, made for one command."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from volant.errors import Conflict, InvalidInput, NotFound, VolantError
from volant.volar.boot_watch import wait_for_workload
from volant.volar.client import Client
from volant.volar.compose import planning, project_vms
from volant.volar.compose.doing import Doer, stop_in_order, stop_vm
from volant.volar.compose.fates import Fate, list_fates, list_warnings
from volant.volar.compose.files import STANDARD_INPUT_PATH, choose_files
from volant.volar.compose.foreground import LineOptions, follow_beside
from volant.volar.compose.host_folders import check_folders, make_folders
from volant.volar.compose.loading import Project, load_project, read_dotenv
from volant.volar.compose.networks import delete_networks, make_networks
from volant.volar.compose.planning import Step, WantedDeployment, WantedVm
from volant.volar.compose.plugins import Pull, find_disks, find_plugins
from volant.volar.compose.project_vms import Unit
from volant.volar.compose.requests import (
    DEFAULT_VOLUME_SIZE,
    SERVICE_LABEL,
    ServiceRequest,
    make_requests,
    name_volume,
)
from volant.volar.deployment_watch import wait_for_deployment

if TYPE_CHECKING:
    from volant.contract.api_types import PublishedPort, Vm


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
        if STANDARD_INPUT_PATH in paths:
            folder = folder or here
        return load_project(
            paths, name=self.project_name, env_files=named, folder=folder, environment=environment
        )

    def list_profiles(self, project: Project) -> list[str]:
        return list(self.profile) or _split(project.environment.get("COMPOSE_PROFILES"), ",")


END_POLL_SECONDS = 0.5


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
    scale: Mapping[str, int] = field(default_factory=dict)


def list_users(requests: Iterable[ServiceRequest]) -> dict[str, list[tuple[str, int, bool]]]:
    """Of each volume: services, how many VMs they have, and whether these only read it."""
    users: dict[str, list[tuple[str, int, bool]]] = {}
    for request in requests:
        for volume in request.body.get("volumes", []):
            users.setdefault(volume["name"], []).append(
                (request.name, request.replicas, volume.get("read_only", False))
            )
    return users


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

    def list_remarks(self) -> list[str]:
        """What `up` would note and say no to, as far as no daemon is asked."""
        remarks: list[str] = []
        try:
            requests = make_requests(self.project, self.select(())).values()
            remarks += [f"note: {note}" for request in requests for note in request.notes]
            planning.check_writers(list_users(requests))
        except VolantError as error:
            remarks += [f"warning: up: {line}" for line in (error.what, *error.details)]
        return remarks

    def select(self, named: Sequence[str], *, alone: bool = False) -> list[str]:
        return planning.select_services(self.project.stack, named, self.profiles, alone=alone)

    def read_requests(
        self, names: Sequence[str], scale: Mapping[str, int] | None = None
    ) -> dict[str, ServiceRequest]:
        for name in (scale or {}).keys() - set(names):
            raise NotFound(f"cannot scale {name}: no service of that name is started")
        self.requests = make_requests(self.project, names, scale)
        for request in self.requests.values():
            for note in request.notes:
                self.tell(f"note: {note}")
        check_folders(self.client, self.requests.values())
        planning.check_writers(list_users(self.requests.values()))
        return self.requests

    def up(self, named: Sequence[str], options: UpOptions) -> None:
        """All VMs are asked for then, and updates are over."""
        self.warn()
        requests = self.read_requests(self.select(named, alone=options.no_deps), options.scale)
        plugins = find_plugins(
            self.client, self.project, list(requests), build=options.build, pull=options.pull
        )
        self.prepare()
        steps = self._plan(plugins, options)
        doer = Doer(
            self.client, requests, plugins, self.tell, options.timeout_seconds,
            force_recreate=options.force_recreate,
        )  # fmt: skip
        doer.carry_out(steps)

    def prepare(self) -> None:
        """What VMs of the services that were read need beside plugins: volumes, networks, folders, secrets."""
        requests = self.requests.values()
        self.make_volumes()
        used = [name for request in requests for name in request.body.get("networks", [])]
        make_networks(self.client, self.project, used, self.tell)
        for folder in make_folders(requests):
            self.tell(f"{folder}: folder made")
        for request in requests:
            for secret, value in request.secrets.items():
                self.client.set_secret(secret, value)

    def _plan(self, plugins: Mapping[str, str], options: UpOptions) -> list[Step]:
        project, known = self.project.name, self.project.stack.services
        wanted, single = [], []
        for name, request in self.requests.items():
            digest = request.digest(plugins[name])
            if request.is_deployed:
                deployment = project_vms.name_deployment(project, name)
                wanted.append(WantedDeployment(deployment, name, digest, request.replicas))
            else:
                names = [project_vms.name_vm(project, name, number + 1) for number in range(request.replicas)]
                single += [WantedVm(vm, name, digest) for vm in names]
        vms = project_vms.find_vms(project_vms.list_vms(self.client, project))
        deployments = project_vms.find_deployments(project_vms.list_deployments(self.client, project))
        steps = planning.plan_deployments(
            wanted, deployments, vms, known=known, single=[each.service for each in single],
            force_recreate=options.force_recreate, remove_orphans=options.remove_orphans,
        )  # fmt: skip
        self._check_names(single, {vm.name for vm in vms})
        steps += planning.plan_up(
            single, vms, known=known, force_recreate=options.force_recreate,
            remove_orphans=options.remove_orphans,
        )  # fmt: skip
        own = [vm for vm in vms if not vm.deployment]
        orphans = planning.find_orphans([*own, *deployments], known)
        if orphans and not options.remove_orphans:
            self.tell(
                f"warning: {', '.join(orphans)}: of no service of these files any more: --remove-orphans"
            )
        return steps

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

    def wait(self, timeout_seconds: float) -> None:
        """Until what `up` asked for is healthy."""
        units = project_vms.list_units(self.client, self.project.name)
        for unit in (unit for name in self.requests for unit in units.get(name, ())):
            wait = wait_for_deployment if unit.is_deployment else wait_for_workload
            wait(self.client, unit.name, timeout_seconds)

    def follow_to_an_end(self, client: Client, names: Sequence[str], service: str | None) -> int:
        """Show what they write until one ends that nobody waits for to end; then all are stopped. The exit code is that
        of the service's VM, or of the one that ended."""
        services = self.project.stack.services
        jobs = {
            other
            for each in services.values()
            for other, dependency in each.depends_on.items()
            if dependency.condition == "service_completed_successfully"
        }
        threads = follow_beside(client, names, LineOptions())
        while True:
            vms = [client.get_vm(name) for name in names]
            ended = [vm for vm in vms if vm["status"] in ("stopped", "failed")]
            ended = [vm for vm in ended if vm["labels"].get(SERVICE_LABEL) not in jobs]
            if ended:
                break
            time.sleep(END_POLL_SECONDS)
        for thread in threads:
            thread.join(END_POLL_SECONDS)
        self.stop(())
        wanted = [vm["name"] for vm in vms if vm["labels"].get(SERVICE_LABEL) == service] or [
            ended[0]["name"]
        ]
        last = client.get_vm(wanted[0])
        return last["exit_code"] if last["exit_code"] is not None else int(last["status"] == "failed")

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

    def find_vms(self, named: Sequence[str]) -> dict[str, list[Vm]]:
        """VMs by service, those of one in the order of their numbers. NotFound for a service that the stack has not."""
        found: dict[str, list[Vm]] = {}
        vms = project_vms.list_vms(self.client, self.project.name)
        for vm in sorted(vms, key=lambda each: project_vms.find_number(each["name"])):
            found.setdefault(vm["labels"].get(SERVICE_LABEL, ""), []).append(vm)
        for name in named:
            if name not in found and name not in self.project.stack.services:
                raise NotFound(
                    f"cannot find service {name} in the stack",
                    resolution=f"it has {', '.join(sorted(self.project.stack.services))}",
                )
        return {name: vms for name, vms in found.items() if not named or name in named}

    def list_names(self, named: Sequence[str]) -> list[str]:
        """Of VMs of these services."""
        return [vm["name"] for vms in self.find_vms(named).values() for vm in vms]

    def list_ports(self) -> dict[str, list[PublishedPort]]:
        """Of each deployment, for its VMs have none of the service's themselves."""
        deployments = project_vms.list_deployments(self.client, self.project.name)
        return {each["name"]: each["publish"] for each in deployments}

    def stop(self, named: Sequence[str], timeout_seconds: float | None = None) -> None:
        vms = {name: [Unit(vm["name"], False) for vm in vms] for name, vms in self.find_vms(named).items()}
        self._end(vms, self._stop_one, timeout_seconds)

    def _end(
        self, units: Mapping[str, Sequence[Unit]], act: Callable[[Unit, float], None],
        timeout_seconds: float | None,
    ) -> None:  # fmt: skip
        """In the reverse order of what depends on what. `timeout_seconds`: in place of each service's own."""
        services = self.project.stack.services
        needs = {name: list(planning.find_dependencies(service)) for name, service in services.items()}
        grace = {
            name: timeout_seconds
            if timeout_seconds is not None
            else 10.0
            if service.stop_grace_period is None
            else service.stop_grace_period
            for name, service in services.items()
        }
        stop_in_order(units, needs, grace, act)

    def _stop_one(self, vm: Unit, grace_seconds: float) -> None:
        stop_vm(self.client, vm.name, grace_seconds)
        self.tell(f"{vm.name}: stopped")

    def kill(self) -> None:
        for name in self.list_names(()):
            with suppress(Conflict, NotFound):
                self.client.stop_vm(name, force=True)

    def start(self, named: Sequence[str]) -> None:
        for name in self.list_names(named):
            with suppress(Conflict):
                self.client.start_vm(name)
            self.tell(f"{name}: started")

    def _remove_one(self, unit: Unit, grace_seconds: float) -> None:
        with suppress(NotFound):
            if unit.is_deployment:
                self.client.delete_deployment(unit.name)
            else:
                stop_vm(self.client, unit.name, grace_seconds)
                self.client.delete_vm(unit.name, force=True)
        self.tell(f"{unit.name}: removed")

    def down(self, *, volumes: bool, timeout_seconds: float | None = None) -> None:
        of_plugins = project_vms.list_own_volumes(self.client, self.project.name) if volumes else set()
        for name in project_vms.list_one_offs(self.client, self.project.name):
            self._remove_one(Unit(name, is_deployment=False), 0.0)
        self._end(project_vms.list_units(self.client, self.project.name), self._remove_one, timeout_seconds)
        delete_networks(self.client, self.project.name, self.tell)
        there = {secret["name"] for secret in self.client.list_secrets()}
        for name in sorted(name for name in there if name.startswith(f"compose.{self.project.name}.")):
            with suppress(Conflict, NotFound):
                self.client.delete_secret(name)
        if volumes:
            self._delete_volumes(of_plugins)

    def _delete_volumes(self, of_plugins: set[str]) -> None:
        """The stack's own: external ones stay, and so do those that others use."""
        external = {
            name_volume(self.project, key)
            for key, volume in self.project.stack.volumes.items()
            if volume.external
        }
        named = {name_volume(self.project, key) for key in self.project.stack.volumes}
        is_of_plugin = self._match_disks()
        for volume in self.client.list_volumes():
            name = volume["name"]
            is_own = name in named or name in of_plugins or name.startswith(f"{self.project.name}_")
            is_own = is_own or is_of_plugin.fullmatch(name) is not None
            if name in external or not is_own:
                continue
            try:
                self.client.delete_volume(name)
            except Conflict as error:
                self.tell(f"warning: {error.what}")
            else:
                self.tell(f"{name}: volume deleted")

    def _match_disks(self) -> re.Pattern[str]:
        """Names of volumes that VMs of the stack have had from their plugins, and left behind at an earlier `down`."""
        project = self.project
        names = [
            f"{re.escape(project_vms.name_deployment(project.name, service))}-[0-9]+-{re.escape(disk)}"
            for service in project.stack.services
            for disk in find_disks(self.client, project, service)
        ]
        return re.compile("|".join(names) or r"(?!)")


__all__ = ["Composer", "StackOptions", "UpOptions"]
