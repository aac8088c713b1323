# SPDX-License-Identifier: Apache-2.0
"""volar vms: the group, and what is done to VMs that exist. Each other command has its module."""

from __future__ import annotations

import click

from volant.errors import GuestFailed
from volant.volar.client import quoted
from volant.volar.docker_words import VM_ALIASES, VM_ANSWERS
from volant.volar.each import do_each
from volant.volar.groups import Commands, Lazy
from volant.volar.names import vm_argument, vms_argument
from volant.volar.target import make_client

COMMANDS = {
    "create": Lazy("vms_create", "create", "Create a VM from a plugin and start it."),
    "fork": Lazy("vms_fork", "fork", "Create running VMs from a running one."),
    "list": Lazy("vms_show", "list_vms", "List the VMs."),
    "get": Lazy("vms_show", "get", "Show one VM: state, health, address, and what went wrong."),
    "inspect": Lazy("vms_show", "inspect", "Print everything about VMs as JSON."),
    "update": Lazy("vms_update", "update", "Change a VM: CPUs, memory, disk, environment, ports, labels."),
    "history": Lazy("vms_history", "history", "Show what was changed in a VM, and by whom."),
    "start": Lazy("vms", "start", "Start stopped or failed VMs."),
    "stop": Lazy("vms", "stop", "Stop VMs in order."),
    "restart": Lazy("vms", "restart", "Stop and start VMs; their disks stay."),
    "pause": Lazy("vms_hold", "pause", "Pause VMs' processors."),
    "unpause": Lazy("vms_hold", "unpause", "Continue paused VMs."),
    "suspend": Lazy("vms_hold", "suspend", "Put VMs' memory on the disk and end their processes."),
    "resume": Lazy("vms_hold", "resume", "Resume suspended VMs where they were."),
    "restore": Lazy("vms_restore", "restore", "Return a VM to a snapshot."),
    "kill": Lazy("vms", "kill", "Power VMs off at once."),
    "delete": Lazy("vms", "delete", "Delete VMs with their disks."),
    "wait": Lazy("vms", "wait", "Wait until a VM is healthy, running or stopped."),
    "logs": Lazy("vms_logs", "logs", "Show what a VM's processes wrote, or its console."),
    "stats": Lazy("vms_stats", "stats", "Show what VMs use."),
    "ssh": Lazy("vms_guest", "ssh", "Log in to a VM, or run a command in it."),
    "ssh-config": Lazy("ssh_config", "ssh_config", "Print OpenSSH configuration for VMs."),
    "exec": Lazy("vms_guest", "execute", "Run one program in a VM."),
    "cp": Lazy("vms_guest", "cp", "Copy files to or from a VM."),
    "port-forward": Lazy("vms_guest", "port_forward", "Make a TCP port of a VM reachable here."),
    "attach": Lazy("vms_attach", "attach", "Join this terminal to what a VM's workload reads and writes."),
    "console": Lazy("vms_guest", "console", "Attach this terminal to a VM's serial console."),
}


@click.group(cls=Commands, lazy=COMMANDS, aliases=VM_ALIASES, answers=VM_ANSWERS)
def vms() -> None:
    """Create, inspect, enter and delete VMs."""


no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Return at once instead of when the workload is healthy."
)
timeout_option = click.option(
    "--timeout", type=float, default=300.0, show_default=True, help="Seconds to wait for health."
)


@click.command()
@vms_argument
@click.option("--cold", is_flag=True, help="Boot them even if there is a template to wake from.")
@no_wait_option
@timeout_option
@click.pass_context
def start(context: click.Context, names: tuple[str, ...], cold: bool, no_wait: bool, timeout: float) -> None:
    """Start stopped or failed VMs."""
    body = {"cold": True} if cold else None
    _begin(context, names, "start", "started", body, wait=not no_wait, timeout=timeout)


@click.command()
@vms_argument
@no_wait_option
@timeout_option
@click.pass_context
def restart(context: click.Context, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Stop and start VMs; their disks stay."""
    _begin(context, names, "restart", "restarted", wait=not no_wait, timeout=timeout)


def _begin(
    context: click.Context, names: tuple[str, ...], verb: str, done: str, body: dict[str, bool] | None = None,
    *, wait: bool, timeout: float,
) -> None:  # fmt: skip
    client = make_client(context)

    def begin(name: str) -> str:
        client.post(f"/vms/{quoted(name)}/{verb}", body, timeout_seconds=180)
        if wait:
            from volant.volar.boot_watch import wait_for_workload

            # One line of progress is all that a terminal has.
            wait_for_workload(client, name, timeout, quiet=len(names) > 1)
        return f"{done} {name}"

    do_each(context, names, begin)


@click.command()
@vms_argument
@click.option(
    "-t", "--timeout", "--time", type=float, default=30.0, show_default=True,
    help="Seconds until it is switched off.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Switch it off at once.")
@click.pass_context
def stop(context: click.Context, names: tuple[str, ...], timeout: float, force: bool) -> None:
    """Stop VMs in order: the workload ends, file systems are unmounted."""
    _end(context, names, timeout, force=force)


@click.command()
@vms_argument
@click.pass_context
def kill(context: click.Context, names: tuple[str, ...]) -> None:
    """Power VMs off at once, as if unplugged; `volar vms stop` shuts them down in order."""
    _end(context, names, 0.0, force=True)


def _end(context: click.Context, names: tuple[str, ...], timeout: float, *, force: bool) -> None:
    client = make_client(context)

    def end(name: str) -> str:
        body = {"timeout_seconds": timeout, "force": force}
        client.post(f"/vms/{quoted(name)}/stop", body, timeout_seconds=timeout + 60)
        return f"stopped {name}"

    do_each(context, names, end)


@click.command()
@vms_argument
@click.option(
    "-f", "--force", is_flag=True, help="Switch a running VM off first instead of stopping it in order."
)
@click.option(
    "-v",
    "--volumes",
    is_flag=True,
    help="Delete the volumes that were made with them, too: their plugin's disks.",
)
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...], force: bool, volumes: bool) -> None:
    """Delete VMs with their disks; running ones are stopped first. Volumes stay."""
    client = make_client(context)

    def remove(name: str) -> str:
        client.delete_vm(name, force=force, volumes=volumes)
        return f"deleted {name}"

    do_each(context, names, remove)


@click.command()
@vm_argument
@click.option("--for", "condition", type=click.Choice(["healthy", "running", "stopped"]), default="healthy")
@click.option("--timeout", type=float, default=300.0, show_default=True)
@click.pass_context
def wait(context: click.Context, name: str, condition: str, timeout: float) -> None:
    """Wait until a VM is healthy, running or stopped."""
    from volant.volar.boot_watch import wait_for_state, wait_for_workload

    client = make_client(context)
    if condition == "healthy":
        vm = wait_for_workload(client, name, timeout, quiet=True)
    else:
        vm = wait_for_state(client, name, condition, timeout)
    if condition == "stopped" and vm["exit_code"]:
        raise GuestFailed(f"{name} ended with exit code {vm['exit_code']}")
