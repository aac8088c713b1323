# SPDX-License-Identifier: Apache-2.0
"""What people ask of deployments, checked as far as it can be before anything is done, and written down."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from volant.errors import Conflict, InvalidInput
from volant.volantd.clock import now
from volant.volantd.deployments.record import Deployment, Progress, Template, UpdatePolicy
from volant.volantd.deployments.store import DeploymentStore
from volant.volantd.network.types import PortRequest, PublishedPort
from volant.volantd.request_context import find_who
from volant.volantd.vms.addresses import publish
from volant.volantd.vms.definition import choose_plugin, make_definition
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.request_keys import RequestKey

KIND = "deployment"
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,56}$"


@dataclass(frozen=True, slots=True)
class PolicyRequest:
    max_unavailable: int | None = None
    max_surge: int | None = None
    healthy_seconds: float | None = None
    drain_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TemplateChange:
    """None leaves it as it is; in a mapping it removes the key."""

    plugin: str | None = None
    vcpu: int | None = None
    memory_mb: int | None = None
    env: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str | None] = field(default_factory=dict)
    entrypoint: Sequence[str] | None = None
    command: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class DeploymentChange:
    replicas: int | None = None
    template: Template | None = None
    change: TemplateChange | None = None
    publish: Sequence[PortRequest] | None = None
    policy: PolicyRequest | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)


class DeploymentRequests:
    """Each writes what is wanted and tells of it; whoever listens does something about it."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.store = DeploymentStore(domain.database)

    def create(
        self, name: str, replicas: int, template: Template, ports: Sequence[PortRequest],
        policy: PolicyRequest, labels: Mapping[str, str], key: RequestKey | None = None,
    ) -> Deployment:  # fmt: skip
        """Whoever asks again with the same key gets what was made.

        Raises InvalidInput, NotFound, Conflict, NotPermitted for what could not become VMs.
        """
        if not re.fullmatch(NAME_PATTERN, name):
            raise InvalidInput(
                f"cannot create deployment {name!r}: a name has lower-case letters, digits, '-' and '_',"
                " begins with a letter or digit and has at most 57 of them"
            )
        if (found := self.store.find_made(name, key)) is not None:
            return found
        template = self._resolve(name, template)
        made = make_policy(policy, template, None)
        check_template(name, template, replicas, made)
        deployment = self.store.add(
            name, replicas, publish(ports), made, labels, template, find_who(),
            key.text_and_content if key is not None else "",
        )  # fmt: skip
        self.tell(deployment, "created")
        return deployment

    def change(self, name: str, wanted: DeploymentChange) -> Deployment:
        before = self._get_staying(name)
        old = self.store.get_template(before)
        asked = wanted.template or (apply_change(old, wanted.change) if wanted.change else old)
        template = old if asked is old else self._resolve(before.name, asked)
        replicas = before.replicas if wanted.replicas is None else wanted.replicas
        policy = make_policy(wanted.policy or PolicyRequest(), template, before.policy)
        check_template(before.name, template, replicas, policy)
        labels = {**before.labels, **wanted.labels}
        after = replace(
            before, replicas=replicas, policy=policy, updated_at=now(),
            publish=before.publish if wanted.publish is None else choose_ports(before.publish, wanted.publish),
            labels={key: value for key, value in labels.items() if value is not None},
        )  # fmt: skip
        is_new = template.dump() != old.dump()
        if is_new or replicas != before.replicas:
            after = replace(after, progress=begin(before, is_update=is_new))
        if replace(after, updated_at=before.updated_at) == before and not is_new:
            return before
        return self._write(after, template if is_new else None, "update")

    def roll_back(self, name: str, number: int | None) -> Deployment:
        """To an earlier revision: None is the newest whose VMs were made otherwise. It becomes a new one."""
        before = self._get_staying(name)
        current = self.store.get_template(before)
        if number is None:
            number = self._find_earlier(before, current)
        template = self.store.get_template(before, number)
        if template.dump() == current.dump():
            raise Conflict(
                f"cannot roll deployment {before.name} back to revision {number}: its VMs are made that way now"
            )
        self._resolve(before.name, template)
        check_template(before.name, template, before.replicas, before.policy)
        after = replace(before, progress=begin(before, is_update=True), updated_at=now())
        return self._write(after, template, f"rollback to {number}")

    def _find_earlier(self, deployment: Deployment, current: Template) -> int:
        for revision in reversed(self.store.list_revisions(deployment)):
            if revision.template.dump() != current.dump():
                return revision.number
        raise Conflict(
            f"cannot roll deployment {deployment.name} back: there is no earlier revision",
            resolution=f"see what there was: volar deployments get {deployment.name}",
        )

    def delete(self, name: str) -> Deployment:
        """From now on it goes, with its VMs."""
        deployment = replace(self.store.get(name), deleting=True)
        self.store.write(deployment)
        self.tell(deployment, "deleting")
        return deployment

    def tell(self, deployment: Deployment, status: str, reason: str = "") -> None:
        """An event of the deployment. Whoever tends it listens, too."""
        self._domain.events.add(
            KIND, deployment.name, deployment=deployment.id, status=status, reason=reason,
            revision=deployment.revision, replicas=deployment.replicas,
        )  # fmt: skip

    def _get_staying(self, name: str) -> Deployment:
        deployment = self.store.get(name)
        if deployment.deleting:
            raise Conflict(f"cannot change deployment {deployment.name}: it is being deleted")
        return deployment

    def _write(self, after: Deployment, template: Template | None, cause: str) -> Deployment:
        if template is not None:
            after = replace(after, revision=self._find_next_number(after))
        with self.store.database.transaction():
            self.store.write(after)
            if template is not None:
                self.store.add_revision(after, template, cause, find_who())
        self.tell(after, "progressing")
        return after

    def _find_next_number(self, deployment: Deployment) -> int:
        return max(revision.number for revision in self.store.list_revisions(deployment)) + 1

    def _resolve(self, name: str, template: Template) -> Template:
        """With the plugin's version in it: replacements are made of the same one, whatever is installed later."""
        if template.vm.plugin == "":
            raise InvalidInput(
                f"cannot make deployment {name} of a snapshot: its VMs are made of a plugin",
                resolution="give a plugin; one VM of a snapshot is made by: volar vms create --from-snapshot",
            )
        # Volumes without a name are made with each of its VMs.
        one = replace(template.vm, name=name, volumes=[volume for volume in template.vm.volumes if volume[0]])
        manifest = choose_plugin(self._domain, one).manifest
        make_definition(self._domain, one, manifest)
        reference = f"{manifest.name}:{manifest.version}"
        return template.model_copy(update={"vm": replace(template.vm, plugin=reference)})


def begin(before: Deployment, *, is_update: bool) -> Progress:
    """What is remembered when something new is asked for. What an update goes back to is what was reached last."""
    progress = before.progress
    base = progress.base
    if is_update and progress.is_settled:
        base = before.revision
    return Progress(base=base, leaving=progress.leaving)


def apply_change(template: Template, change: TemplateChange) -> Template:
    vm = template.vm
    changes: dict[str, object] = {
        name: value
        for name in ("plugin", "vcpu", "memory_mb", "entrypoint", "command")
        if (value := getattr(change, name)) is not None
    }
    changes |= {"env": _merge(vm.env, change.env), "labels": _merge(vm.labels, change.labels)}
    return template.model_copy(update={"vm": replace(vm, **changes)})  # type: ignore[arg-type]  # fields of its own


def _merge(before: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**before, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def writes_to_volume(template: Template) -> bool:
    return any(name and not read_only for name, _, read_only in template.vm.volumes)


def make_policy(asked: PolicyRequest, template: Template, before: UpdatePolicy | None) -> UpdatePolicy:
    """What is asked for, else what it was, else what is usual."""
    usual = UpdatePolicy(max_unavailable=1, max_surge=0) if writes_to_volume(template) else UpdatePolicy()
    base = before or usual
    if before is not None and writes_to_volume(template) and asked.max_surge is None:
        base = before.model_copy(update={"max_surge": 0, "max_unavailable": max(1, before.max_unavailable)})
    given = {
        name: value
        for name in ("max_unavailable", "max_surge", "healthy_seconds", "drain_seconds")
        if (value := getattr(asked, name)) is not None
    }
    if given.get("max_surge") == 0 and "max_unavailable" not in given and base.max_unavailable == 0:
        given["max_unavailable"] = 1
    return base.model_copy(update=given)


def check_template(name: str, template: Template, replicas: int, policy: UpdatePolicy) -> None:
    """Refuse what VMs beside each other could not have."""
    if policy.max_surge == 0 and policy.max_unavailable == 0:
        raise InvalidInput(
            f"cannot update deployment {name} with max_surge 0 and max_unavailable 0: no VM could ever be replaced",
            resolution="let one of them be 1",
        )
    if writes_to_volume(template):
        volume = next(name for name, _, read_only in template.vm.volumes if name and not read_only)
        if replicas > 1:
            raise InvalidInput(
                f"cannot give {replicas} VMs of deployment {name} volume {volume}: one writes to a volume",
                resolution=f"make it 1 replica, or mount it read-only: {volume}:PATH:ro",
            )
        if policy.max_surge:
            raise InvalidInput(
                f"cannot update deployment {name} with max_surge {policy.max_surge}: one VM writes to volume {volume}",
                resolution="leave max_surge out, or give 0",
            )
    if port := next((port for port in template.vm.publish if port.host_port), None):
        raise InvalidInput(
            f"cannot publish port {port.host_port} of each VM of deployment {name}: one VM can have it",
            resolution="publish it for the deployment, which balances it over its VMs",
        )


def choose_ports(before: Sequence[PublishedPort], asked: Sequence[PortRequest]) -> tuple[PublishedPort, ...]:
    """Those that the deployment has already are not in use; the others are checked."""
    kept: list[PublishedPort] = []
    new: list[PortRequest] = []
    for request in asked:
        host_ip = request.host_ip or "127.0.0.1"
        same = next(
            (
                port
                for port in before
                if (port.host_ip, port.guest_port, port.protocol)
                == (host_ip, request.guest_port, request.protocol)
                and request.host_port in (None, 0, port.host_port)
                and port not in kept
            ),
            None,
        )
        if same is not None:
            kept.append(same)
        else:
            new.append(request)
    added = _publish_beside(before, new, kept)
    return (*kept, *added)


def _publish_beside(
    before: Sequence[PublishedPort], new: Sequence[PortRequest], kept: Sequence[PublishedPort]
) -> list[PublishedPort]:
    """One of its own ports may lead to another port of the guests from now on."""
    own = {(port.host_ip, port.host_port, port.protocol) for port in before}
    moved = [
        PublishedPort(
            request.host_ip or "127.0.0.1", request.host_port or 0, request.guest_port, request.protocol
        )
        for request in new
        if (request.host_ip or "127.0.0.1", request.host_port, request.protocol) in own
    ]
    rest = [
        request
        for request in new
        if (request.host_ip or "127.0.0.1", request.host_port, request.protocol) not in own
    ]
    return [*moved, *publish(rest, [*kept, *moved])]
