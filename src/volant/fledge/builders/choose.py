# SPDX-License-Identifier: Apache-2.0
"""Which builder is used: the one that is asked for, or the first that runs a step here."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace

from volant.errors import ToolMissing
from volant.fledge.builders.base import Builder
from volant.fledge.builders.containers import Buildah, Podman
from volant.fledge.builders.docker import Docker
from volant.fledge.builders.trial import try_step
from volant.fledge.order import BuilderChoice
from volant.fledge.scratch_folder import make_scratch_folder
from volant.process import find_tool
from volant.progress import Monitor

KINDS: tuple[type[Builder], ...] = (Docker, Podman, Buildah)
# For a machine without any; the last two are for users other than root.
GET_A_BUILDER = "apt-get install buildah crun uidmap fuse-overlayfs"


@dataclass(frozen=True)
class Refusal:
    """A builder that is not used, and why."""

    name: str
    fact: str
    cure: str = ""
    is_installed: bool = True

    def __str__(self) -> str:
        return f"{self.name}: {self.fact}"


def find_builder(choice: BuilderChoice, monitor: Monitor, *, host_network: bool = False) -> Builder:
    """The builder asked for, or the first that runs a step; ToolMissing tells why none does."""
    refusals: list[Refusal] = []
    for kind in KINDS:
        if choice not in ("auto", kind.name):
            continue
        found = examine_builder(kind, monitor, host_network=host_network)
        if isinstance(found, Builder):
            return replace(found, note="; ".join(map(str, refusals)))
        refusals.append(found)
    installed = [refusal for refusal in refusals if refusal.is_installed]
    cure = next((refusal.cure for refusal in reversed(installed) if refusal.cure), "")
    if choice != "auto":
        raise ToolMissing(
            f"cannot build the Dockerfile: {choice} cannot be used",
            details=[*map(str, refusals)],
            resolution=cure or "leave --builder out to take the first that works; see 'fledge doctor'",
        )
    if not installed:
        cure = GET_A_BUILDER
    raise ToolMissing(
        "cannot build the Dockerfile: no image builder works on this machine",
        details=[*map(str, refusals)],
        resolution=f"{cure or 'fledge doctor'}; or build the image elsewhere and give it with "
        "--docker-archive image.tar",
    )


def examine_builder(kind: type[Builder], monitor: Monitor, *, host_network: bool) -> Builder | Refusal:
    """One builder as it works here, or why it does not."""
    program = find_tool(kind.name)
    if program is None:
        return Refusal(kind.name, "not installed", is_installed=False)
    builder = kind(program)
    absence = builder.find_absence()
    if absence:
        return Refusal(kind.name, absence)
    with ExitStack() as stack:
        trial = try_step(builder, make_scratch_folder(stack), monitor, host_network=host_network)
    if trial.isolation is None:
        return Refusal(kind.name, trial.fact, trial.cure)
    return replace(
        builder, isolation=trial.isolation, isolation_fact=trial.fact, isolation_cure=trial.cure,
        is_remembered=trial.is_remembered, storage_driver=trial.storage_driver,
    )  # fmt: skip
