# SPDX-License-Identifier: Apache-2.0
"""Options of `docker run` that a VM has no use for, or another way: each is answered in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from volant.errors import UsageError

Command = TypeVar("Command", bound=Callable[..., Any])

_OWN_KERNEL = "leave it out: a VM has its own kernel, and so its own namespaces"
_NO_VOLUMES = "-v NAME:/path mounts a volume, -v ./FOLDER:/path a folder of this host"
_IN_THE_GUEST = "set it in the guest: --cloud-init FILE"
_NO_LOGS = "leave it out: volar logs keeps what processes write"
_NO_DEVICES = "devices of the host are not given to VMs"

# Flags (no value) and options (one value) that mean nothing here, so that the rest of the line may work.
NOT_NEEDED_FLAGS = ("--privileged", "--init", "--oom-kill-disable", "--sig-proxy")
NOT_NEEDED = (
    "--cap-add",
    "--cap-drop",
    "--security-opt",
    "--shm-size",
    "--ulimit",
    "--expose",
    "--memory-swap",
    "--memory-reservation",
    "--memory-swappiness",
    "--cpu-shares",
    "--cpuset-cpus",
    "--pids-limit",
    "--oom-score-adj",
)
REFUSED_FLAGS = {
    "-P/--publish-all": "-p PORT publishes a port; the workload's own is at the VM's address anyway: volar get NAME",
    "--read-only": "the root disk of a VM can be written to",
}
REFUSED = {
    "--volumes-from": _NO_VOLUMES,
    "--tmpfs": _IN_THE_GUEST,
    "--domainname": "give it with the host name: --hostname NAME.DOMAIN",
    "--group-add": _IN_THE_GUEST,
    "-a/--attach": "without -d, run shows what the workload writes; -i gives it what is typed here",
    "--dns": _IN_THE_GUEST,
    "--dns-search": _IN_THE_GUEST,
    "--sysctl": _IN_THE_GUEST,
    "--link": "VMs of one network find each other by name: volar networks create NAME, then --network NAME",
    "--ip": "the daemon chooses addresses: volar get NAME shows it",
    "--mac-address": "the daemon chooses it",
    "--device": _NO_DEVICES,
    "--gpus": _NO_DEVICES,
    "--pid": _OWN_KERNEL,
    "--ipc": _OWN_KERNEL,
    "--uts": _OWN_KERNEL,
    "--userns": _OWN_KERNEL,
    "--cgroupns": _OWN_KERNEL,
    "--cgroup-parent": _OWN_KERNEL,
    "--runtime": _OWN_KERNEL,
    "--log-driver": _NO_LOGS,
    "--log-opt": _NO_LOGS,
    "--cidfile": "volar run --name NAME chooses the name that other commands take",
}
NETWORKS = {"none": "vsock", "bridge": "", "default": ""}


def docker_options(command: Command) -> Command:
    """Decorator: the command takes all of these, hidden from its help, and gets none of them."""
    decorated: Any = command
    for names in NOT_NEEDED_FLAGS:
        decorated = _add(decorated, names, _note, is_flag=True)
    for names in NOT_NEEDED:
        decorated = _add(decorated, names, _note, multiple=True)
    for names in REFUSED_FLAGS:
        decorated = _add(decorated, names, _refuse, is_flag=True)
    for names in REFUSED:
        decorated = _add(decorated, names, _refuse, multiple=True)
    return decorated  # type: ignore[no-any-return]  # click's options return what they are given


def _add(command: Any, names: str, answer: Callable[..., None], **kind: Any) -> Any:
    option = click.option(*names.split("/"), hidden=True, expose_value=False, callback=answer, **kind)
    return option(command)


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        click.echo(f"note: {parameter.opts[-1]} is not needed: the workload has the whole VM", err=True)


def _refuse(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value:
        answer = {**REFUSED_FLAGS, **REFUSED}["/".join(parameter.opts)]
        raise UsageError(f"volar run has no {parameter.opts[-1]}", resolution=answer)


def translate_network(name: str | None) -> str | None:
    """A network mode of ours for what docker's --network says; those of our own pass."""
    if name == "host":
        raise UsageError(
            "volar run has no --network host: a VM has an address of its own",
            resolution="-p HOST_PORT:GUEST_PORT publishes a port",
        )
    return NETWORKS.get(name, name) or None if name else None
