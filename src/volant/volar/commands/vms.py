# SPDX-License-Identifier: Apache-2.0
"""volar vms: the life of VMs. What enters a guest (ssh, cp, …) is in vms_guest.py."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click

from volant.errors import GuestFailed, NotFound, UsageError
from volant.volar.client import Client, quoted
from volant.volar.commands import vms_guest
from volant.volar.complete import complete_plugins, complete_vms
from volant.volar.output import (
    Format,
    defuse,
    format_age,
    format_size,
    output_option,
    show_object,
    show_rows,
)
from volant.volar.target import make_client

COLUMNS = {
    "NAME": lambda vm: vm["name"],
    "STATUS": lambda vm: vm["status"],
    "HEALTH": lambda vm: vm["health"] if vm["status"] == "running" else "",
    "PLUGIN": lambda vm: f"{vm['plugin']['name']}:{vm['plugin']['version']}",
    "IP": lambda vm: vm["ip"],
    "URL": lambda vm: vm["url"],
    "AGE": lambda vm: format_age(vm["created_at"]),
}
WIDE = {
    "NETWORK": lambda vm: vm["network"],
    "VCPU": lambda vm: vm["resources"]["vcpu"],
    "MEMORY": lambda vm: f"{vm['resources']['memory_mb']} MiB",
    "AGENT": lambda vm: vm["agent"]["version"] if vm["agent"]["connected"] else "",
    "REASON": lambda vm: vm["status_reason"] or vm["health_reason"],
}

vm_argument = click.argument("name", shell_complete=complete_vms)
vms_argument = click.argument("names", nargs=-1, required=True, shell_complete=complete_vms)


@click.group()
def vms() -> None:
    """Create, inspect, enter and delete VMs."""


for command in vms_guest.COMMANDS:
    vms.add_command(command)


def parse_publish(text: str) -> dict[str, Any]:
    """[[HOST_IP:]HOST_PORT:]GUEST_PORT[/udp] as the API wants it."""
    plain, _, protocol = text.partition("/")
    parts = plain.rsplit(":", 2)
    try:
        ports = [int(part) for part in parts[-2:]] if len(parts) > 1 else [int(parts[0])]
    except ValueError:
        raise UsageError(
            f"cannot publish {text!r}: not a port",
            resolution="--publish [[HOST_IP:]HOST_PORT:]GUEST_PORT[/udp]",
        ) from None
    return {
        "host_ip": parts[0].strip("[]") if len(parts) == 3 else None,
        "host_port": ports[0] if len(ports) == 2 else None,
        "guest_port": ports[-1],
        "protocol": protocol or "tcp",
    }


def parse_secret(text: str) -> dict[str, Any]:
    """NAME[:PORT[,uid=UID]] as the API wants it."""
    plain, _, option = text.partition(",")
    name, _, port = plain.partition(":")
    key, _, uid = option.partition("=")
    if (port and not port.isdigit()) or (option and (key != "uid" or not uid.isdigit() or not port)):
        raise UsageError(
            f"cannot attach the secret {text!r}", resolution="--secret NAME, NAME:PORT or NAME:PORT,uid=UID"
        )
    return {"name": name, "port": int(port) if port else None, "uid": int(uid) if uid else None}


def parse_assignments(given: tuple[str, ...], option: str) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise UsageError(f"cannot use {option} {text!r}: not NAME=VALUE")
    return dict(text.split("=", 1) for text in given)


@vms.command()
@click.argument("name")
@click.option("-p", "--plugin", required=True, shell_complete=complete_plugins, help="NAME or NAME:VERSION.")
@click.option("--cpus", type=click.IntRange(1), help="vCPUs; the plugin's own number otherwise.")
@click.option("--memory", type=click.IntRange(32), metavar="MIB", help="Memory in MiB.")
@click.option("--disk-size", metavar="SIZE", help="Grow the root disk, e.g. 20G.")
@click.option("--network", type=click.Choice(["bridged", "user", "vsock", "dhcp"]), help="Network mode.")
@click.option(
    "--publish", multiple=True, metavar="[[IP:]PORT:]GUEST_PORT", help="Publish a port of the guest."
)
@click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Environment of the workload.")
@click.option("--cloud-init", type=click.File("rb"), help="A user-data file.")
@click.option(
    "--ssh-key", multiple=True, type=click.File(), help="A public key that may log in over the network."
)
@click.option("--secret", multiple=True, metavar="NAME[:PORT[,uid=UID]]", help="Attach a secret.")
@click.option("--label", multiple=True, metavar="NAME=VALUE")
@click.option(
    "--restart", type=click.Choice(["always", "no"]), default="always", help="After a reboot of the host."
)
@click.option("--no-start", is_flag=True, help="Only create it.")
@click.option("--no-wait", is_flag=True, help="Return at once instead of when the workload is healthy.")
@click.option("--timeout", type=float, default=300.0, show_default=True, help="Seconds to wait for health.")
@output_option
@click.pass_context
def create(
    context: click.Context, name: str, plugin: str, cpus: int | None, memory: int | None, disk_size: str | None,
    network: str | None, publish: tuple[str, ...], env: tuple[str, ...], cloud_init: Any, ssh_key: tuple[Any, ...],
    secret: tuple[str, ...], label: tuple[str, ...], restart: str, no_start: bool, no_wait: bool, timeout: float,
    output_format: Format,
) -> None:  # fmt: skip
    """Create a VM of a plugin and start it; returns when its workload is healthy.

    \b
    volar vms create my-nginx --plugin nginx
    volar vms create db --plugin postgres --memory 1024 --secret db-password
    volar vms create app --plugin my-app --cloud-init user-data.yaml --publish 8080:80
    """
    import base64

    client = make_client(context)
    body: dict[str, Any] = {
        "name": name,
        "plugin": plugin,
        "network": network,
        "publish": [parse_publish(text) for text in publish],
        "env": parse_assignments(env, "--env"),
        "user_data_base64": base64.b64encode(cloud_init.read()).decode() if cloud_init else None,
        "ssh_keys": [stream.read().strip() for stream in ssh_key],
        "secrets": [parse_secret(text) for text in secret],
        "labels": parse_assignments(label, "--label"),
        "disk_size": disk_size,
        "restart": restart,
        "start": not no_start,
    }
    if cpus or memory:
        body["resources"] = _complete_resources(client, plugin, cpus, memory)
    began = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    try:
        vm = client.post("/vms", body, timeout_seconds=120)
        if not no_start and not no_wait:
            from volant.volar.boot_watch import wait_for_workload

            vm = wait_for_workload(client, name, timeout, quiet=output_format != "table")
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted: deleting {name}, which has not come up yet", err=True)
        _delete_own(client, name, began)
        raise
    if output_format == "table":
        click.echo(
            f"{name} is {vm['status']}" + (f" at {vm['url'] or vm['ip']}" if vm["url"] or vm["ip"] else "")
        )
    else:
        show_rows([vm], output_format, kind="vm", columns=COLUMNS, wide=WIDE)


def _delete_own(client: Client, name: str, began: str) -> None:
    """Delete the VM that this command was making; one that had the name before is left alone.

    The interrupt may have come while the daemon was still reading the request: give it a moment to appear.
    """
    for _ in range(10):
        try:
            if client.get(f"/vms/{quoted(name)}")["created_at"] >= began:
                client.delete(f"/vms/{quoted(name)}", force=True)
            return
        except NotFound:
            time.sleep(0.1)


def _complete_resources(client: Client, plugin: str, cpus: int | None, memory: int | None) -> dict[str, Any]:
    """What was not said stays as the plugin has it."""
    plain, _, version = plugin.partition(":")
    resources: dict[str, Any] = client.get(f"/plugins/{quoted(plain)}", version=version)["manifest"][
        "resources"
    ]
    return {"vcpu": cpus or resources["vcpu"], "memory_mb": memory or resources["memory_mb"]}


@vms.command("list")
@click.option("--status", help="Only VMs in this state.")
@click.option("--plugin", shell_complete=complete_plugins, help="Only VMs of this plugin.")
@output_option
@click.pass_context
def list_vms(context: click.Context, status: str | None, plugin: str | None, output_format: Format) -> None:
    """List the VMs."""
    rows = make_client(context).get("/vms", status=status, plugin=plugin)
    show_rows(rows, output_format, kind="vm", columns=COLUMNS, wide=WIDE)


@vms.command()
@vm_argument
@output_option
@click.pass_context
def get(context: click.Context, name: str, output_format: Format) -> None:
    """Show one VM: state, health, checks, processes, address, and what went wrong."""
    vm = make_client(context).get(f"/vms/{quoted(name)}")
    if output_format in ("name", "wide"):
        show_rows([vm], output_format, kind="vm", columns=COLUMNS, wide=WIDE)
    else:
        show_object(vm, output_format, lambda: describe(vm))


def describe(vm: dict[str, Any]) -> list[tuple[str, Any]]:
    """A VM as facts for people."""
    hypervisor, agent, cloud_init = vm["hypervisor"] or {}, vm["agent"], vm["cloud_init"]
    return [
        ("name", vm["name"]),
        ("status", _with_reason(vm["status"], vm["status_reason"])),
        ("health", _with_reason(vm["health"], vm["health_reason"])),
        ("checks", "\n".join(_with_reason(f"{c['name']} {c['state']}", c["reason"]) for c in vm["checks"])),
        ("processes", "\n".join(_describe_process(process) for process in vm["processes"])),
        ("warnings", "\n".join(vm["warnings"])),
        ("plugin", f"{vm['plugin']['name']} {vm['plugin']['version']}"),
        ("resources", f"{vm['resources']['vcpu']} vCPU, {vm['resources']['memory_mb']} MiB"),
        ("network", vm["network"]),
        ("ip", vm["ip"]),
        ("url", vm["url"]),
        (
            "ports",
            "\n".join(
                f"{p['host_ip']}:{p['host_port']} → {p['guest_port']}/{p['protocol']}" for p in vm["ports"]
            ),
        ),
        ("agent", _describe_agent(agent)),
        ("cloud-init", _describe_cloud_init(cloud_init)),
        ("secrets", ", ".join(vm["secrets"])),
        (
            "hypervisor",
            " ".join(str(hypervisor[key]) for key in ("kind", "accelerator") if hypervisor.get(key)),
        ),
        ("pid", hypervisor.get("pid")),
        ("exit code", vm["exit_code"]),
        ("created", vm["created_at"]),
        ("started", vm["started_at"]),
        ("last console lines", "\n".join(vm["last_console_lines"])),
    ]


def _with_reason(text: str, reason: str) -> str:
    return f"{text} ({reason})" if reason else text


def _describe_process(process: dict[str, Any]) -> str:
    facts = [process["name"], process["state"]]
    if process["pid"]:
        facts.append(f"pid {process['pid']}")
    if process["exit_code"] is not None:
        facts.append(f"exit code {process['exit_code']}")
    if process["signal"]:
        facts.append(process["signal"])
    if process["restarts"]:
        facts.append(f"{process['restarts']} restarts")
    return _with_reason(", ".join(facts), process["reason"])


def _describe_agent(agent: dict[str, Any]) -> str | None:
    if not agent["connected"]:
        return "not connected"
    missing = f", lacks {', '.join(agent['missing'])}" if agent["missing"] else ""
    return f"kestrel {agent['version']}{missing}"


def _describe_cloud_init(state: dict[str, Any]) -> str | None:
    if state["status"] == "none":
        return None
    lines = [f"{state['status']}" + (f" (by {state['by']})" if state["by"] else "")]
    lines += state["errors"]
    lines += [f"unknown module: {module}" for module in state["unknown_modules"]]
    return "\n".join(lines)


@vms.command()
@vms_argument
@click.option("--no-wait", is_flag=True, help="Return at once instead of when the workload is healthy.")
@click.option("--timeout", type=float, default=300.0, show_default=True)
@click.pass_context
def start(context: click.Context, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Start stopped or failed VMs."""
    _act(context, names, "start", "started", wait=not no_wait, timeout=timeout)


@vms.command()
@vms_argument
@click.option(
    "--timeout", type=float, default=30.0, show_default=True, help="Seconds until it is switched off."
)
@click.option("--force", is_flag=True, help="Switch it off at once.")
@click.pass_context
def stop(context: click.Context, names: tuple[str, ...], timeout: float, force: bool) -> None:
    """Stop VMs in order: the workload ends, file systems are unmounted."""
    client = make_client(context)
    for name in names:
        body = {"timeout_seconds": timeout, "force": force}
        client.post(f"/vms/{quoted(name)}/stop", body, timeout_seconds=timeout + 60)
        click.echo(f"stopped {name}")


@vms.command()
@vms_argument
@click.option("--no-wait", is_flag=True, help="Return at once instead of when the workload is healthy.")
@click.option("--timeout", type=float, default=300.0, show_default=True)
@click.pass_context
def restart(context: click.Context, names: tuple[str, ...], no_wait: bool, timeout: float) -> None:
    """Stop and start VMs; their disks stay."""
    _act(context, names, "restart", "restarted", wait=not no_wait, timeout=timeout)


def _act(
    context: click.Context, names: tuple[str, ...], verb: str, done: str, *, wait: bool, timeout: float
) -> None:
    client = make_client(context)
    for name in names:
        client.post(f"/vms/{quoted(name)}/{verb}", timeout_seconds=180)
        if wait:
            from volant.volar.boot_watch import wait_for_workload

            wait_for_workload(client, name, timeout)
        click.echo(f"{done} {name}")


@vms.command()
@vms_argument
@click.option("--force", is_flag=True, help="Switch a running VM off first instead of stopping it in order.")
@click.pass_context
def delete(context: click.Context, names: tuple[str, ...], force: bool) -> None:
    """Delete VMs with their disks; running ones are stopped first."""
    client = make_client(context)
    for name in names:
        client.delete(f"/vms/{quoted(name)}", force=force)
        click.echo(f"deleted {name}")


@vms.command()
@vm_argument
@click.option("--console", is_flag=True, help="The serial console instead of the processes' output.")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("--since", help="Only lines after this time (RFC 3339) or age (10m, 2h).")
@click.option("-n", "--tail", type=click.IntRange(0), help="Only the last lines.")
@click.option("--process", help="Only this process; kestrel is the agent.")
@click.option("--timestamps", is_flag=True, help="Show when each line was written.")
@click.option("-o", "--output", "output_format", type=click.Choice(["table", "json"]), default="table")
@click.pass_context
def logs(
    context: click.Context, name: str, console: bool, follow: bool, since: str | None, tail: int | None,
    process: str | None, timestamps: bool, output_format: str,
) -> None:  # fmt: skip
    """Show what a VM's processes wrote; works for stopped and failed VMs too.

    \b
    volar vms logs my-nginx -f
    volar vms logs my-nginx --console
    """
    client = make_client(context)
    path = f"/vms/{quoted(name)}/" + ("console/log" if console else "logs")
    query = {"follow": follow, "tail": tail, "since": since, "process": process}
    for_person = sys.stdout.isatty()
    with client.open("GET", path, query=query, timeout_seconds=None) as reply:
        if console and for_person:
            for raw in reply:
                click.echo(defuse(raw.decode(errors="replace").rstrip("\r\n")))
            return
        if console:
            while chunk := reply.read1(1 << 16):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
            return
        for raw in reply:
            if output_format == "json":
                click.echo(raw.decode(), nl=False)
                continue
            entry = json.loads(raw)
            stamp = f"{entry['time']} " if timestamps else ""
            line = f"{stamp}[{entry['process']}] {entry['line']}"
            click.echo(defuse(line) if for_person else line)


@vms.command()
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


@vms.command()
@vm_argument
@output_option
@click.pass_context
def stats(context: click.Context, name: str, output_format: Format) -> None:
    """Show what a VM uses, seen from the guest and from the host."""
    found = make_client(context).get(f"/vms/{quoted(name)}/stats")
    show_object(found, output_format, lambda: describe_stats(found))


def describe_stats(found: dict[str, Any]) -> list[tuple[str, Any]]:
    guest = found["guest"] or {}
    return [
        ("uptime", f"{guest['uptime_seconds']:.0f} s" if guest else None),
        ("cpu used", f"{guest['cpu_microseconds'] / 1e6:.2f} s" if guest else None),
        ("memory", _of(guest, "memory")),
        ("disk", _of(guest, "disk")),
        ("received", format_size(guest.get("network_received_bytes")) if guest else None),
        ("sent", format_size(guest.get("network_sent_bytes")) if guest else None),
        ("agent memory", format_size(guest.get("agent_memory_bytes")) if guest else None),
        ("host memory", format_size(found["host_memory_bytes"])),
        ("host cpu", f"{found['host_cpu_seconds']:.1f} s"),
    ]


def _of(guest: dict[str, Any], what: str) -> str | None:
    if not guest:
        return None
    return f"{format_size(guest[f'{what}_used_bytes'])} of {format_size(guest[f'{what}_total_bytes'])}"
