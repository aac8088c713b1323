# SPDX-License-Identifier: Apache-2.0
"""A deployment as the database keeps it: what is wanted, and what was begun. Its VMs are rows of their own."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict, Field

from volant.volantd.network.types import PublishedPort
from volant.volantd.usage import Used
from volant.volantd.vms.definition import NewVm
from volant.volantd.vms.record import StoredModel


class UpdatePolicy(StoredModel):
    """How one version makes room for the next: so many fewer that are ready, and so many more VMs at a time.

    A new VM has `healthy_seconds` until it is ready; connections to an old one have `drain_seconds` to end.
    """

    max_unavailable: int = 0
    max_surge: int = 1
    healthy_seconds: float = 120.0
    drain_seconds: float = 30.0


class Progress(StoredModel):
    """What is under way, written before anything is done about it.

    `is_settled`: what was asked for last has been reached. `base`: the revision that a failed update goes back to.
    `rolled_back`: why the last update was undone. `failures`: by name of a VM, how often in a row it failed.
    `leaving`: ids of VMs that are on their way out, whatever comes.
    """

    is_settled: bool = False
    base: int | None = None
    rolled_back: str = ""
    failures: dict[str, int] = Field(default_factory=dict)
    leaving: tuple[str, ...] = ()
    reason: str = ""


class Template(StoredModel):
    """What each VM of one revision is made of; its name is nothing yet."""

    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64"
    )

    vm: NewVm
    replaces_always: bool = True
    """Whether nobody chose a restart policy for the VMs: whichever ends is replaced."""

    def uses(self, used: Used, name: str) -> bool:
        """Whether a VM of it needs this plugin (NAME:VERSION), secret, volume or network."""
        match used:
            case "plugin":
                return self.vm.plugin == name
            case "secret":
                return name in {
                    *(attached.name for attached in self.vm.secrets),
                    *(file.secret for file in self.vm.files),
                }
            case "volume":
                return any(volume == name for volume, _, _ in self.vm.volumes)
            case "network":
                return name in self.vm.networks
            case _:
                return False

    def dump(self) -> str:
        """The same text for the same template, whatever fields come later."""
        return self.model_dump_json(exclude_defaults=True)


@dataclass(frozen=True, slots=True)
class Revision:
    """`cause` is "create", "update" or "rollback to N"."""

    number: int
    template: Template
    cause: str
    who: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """`revision` numbers the template that its VMs are to have."""

    id: str
    name: str
    replicas: int
    revision: int
    publish: tuple[PublishedPort, ...]
    policy: UpdatePolicy
    labels: dict[str, str]
    progress: Progress
    created_at: str
    updated_at: str
    deleting: bool
