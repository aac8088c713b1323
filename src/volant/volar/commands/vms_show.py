# SPDX-License-Identifier: Apache-2.0
"""volar vms list, get and inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from volant.errors import NotFound
from volant.sizes import show_size
from volant.volar.client import Client, quoted
from volant.volar.labels import format_labels, parse_labels
from volant.volar.names import PLUGIN, vm_argument, vms_argument
from volant.volar.output import Format, output_option, show_document, show_object, show_rows
from volant.volar.target import make_client
from volant.volar.vm_columns import COLUMNS

if TYPE_CHECKING:
    from volant.contract.api_types import (
        AgentInfo,
        CloudInitState,
        Crash,
        MountAttachment,
        ProcessState,
        Vm,
        VolumeAttachment,
    )

WIDE = {
    "NETWORK": lambda vm: vm["network"],
    "VCPU": lambda vm: vm["resources"]["vcpu"],
    "MEMORY": lambda vm: f"{vm['resources']['memory_mb']} MiB",
    "AGENT": lambda vm: vm["agent"]["version"] if vm["agent"]["connected"] else "",
    "LABELS": lambda vm: format_labels(vm.get("labels", {})),
    "REASON": lambda vm: vm["status_reason"] or vm["health_reason"],
}


def show_vms(vms: list[Vm], output_format: Format) -> None:
    show_rows(vms, output_format, kind="vm", columns=COLUMNS, wide=WIDE)


@click.command("list")
@click.option("--status", help="Only VMs in this state.")
@click.option("--plugin", type=PLUGIN, help="Only VMs of this plugin.")
@click.option(
    "-l", "--label", "--selector", "labels", multiple=True, metavar="NAME=VALUE",
    help="Only VMs with this label; with several, all must match.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print names only.")
@click.option("-a", "--all", "everything", is_flag=True, hidden=True)  # stopped ones are shown anyway
@output_option
@click.pass_context
def list_vms(
    context: click.Context, status: str | None, plugin: str | None, labels: tuple[str, ...], quiet: bool,
    everything: bool, output_format: Format,
) -> None:  # fmt: skip
    """List the VMs, running or not."""
    parse_labels(labels)  # a mistake is told here, and not by an empty list
    found = make_client(context).list_vms(status=status, plugin=plugin, label=labels)
    if quiet:
        for vm in found:
            click.echo(vm["name"])
    else:
        show_vms(found, output_format)


@click.command()
@vm_argument
@output_option
@click.pass_context
def get(context: click.Context, name: str, output_format: Format) -> None:
    """Show one VM: state, health, checks, processes, address, and what went wrong."""
    client = make_client(context)
    vm = client.get_vm(name)
    if output_format in ("name", "wide"):
        show_vms([vm], output_format)
    else:
        show_object(vm, output_format, lambda: describe(vm, read_boot(client, vm)))


def read_boot(client: Client, vm: Vm) -> str:
    from volant.volar.timeline import describe_boot

    if vm["status"] not in ("starting", "running"):
        return ""
    try:
        return describe_boot(client.get(f"/vms/{quoted(vm['name'])}/boot"))
    except NotFound:
        return ""  # deleted meanwhile, or by an older daemon


@click.command()
@vms_argument
@click.pass_context
def inspect(context: click.Context, names: tuple[str, ...]) -> None:
    """Print everything known about VMs, as a JSON array."""
    client = make_client(context)
    show_document([client.get_vm(name) for name in names], "json")


def describe(vm: Vm, boot: str = "") -> list[tuple[str, Any]]:
    """A VM as facts for people."""
    hypervisor = vm["hypervisor"]
    kinds = (hypervisor["kind"], hypervisor["accelerator"]) if hypervisor else ()
    emulated = hypervisor.get("emulates") if hypervisor else None
    resources = vm["resources"]
    nested = ", runs VMs" if resources.get("nested") else ""
    return [
        ("name", vm["name"]),
        ("status", _with_reason(vm["status"], vm["status_reason"])),
        ("health", _with_reason(vm["health"], vm["health_reason"])),
        ("checks", "\n".join(_with_reason(f"{c['name']} {c['state']}", c["reason"]) for c in vm["checks"])),
        ("processes", "\n".join(_describe_process(process) for process in vm["processes"])),
        ("warnings", "\n".join(vm["warnings"])),
        ("plugin", f"{vm['plugin']['name']} {vm['plugin']['version']}"),
        ("labels", "\n".join(f"{name}={value}" for name, value in vm.get("labels", {}).items())),
        ("resources", f"{resources['vcpu']} vCPU, {resources['memory_mb']} MiB{nested}"),
        ("disks", f"at most {show_size(bound)}/s" if (bound := vm.get("disk_bytes_per_second", 0)) else ""),
        ("kernel", vm["kernel"]),
        ("kernel arguments", vm["kernel_arguments"]),
        ("network", vm["network"]),
        ("networks", ", ".join(vm.get("networks", []))),
        ("aliases", ", ".join(vm.get("aliases", []))),
        ("egress", _describe_egress(vm)),
        ("ip", vm["ip"]),
        ("ip6", vm.get("ip6")),
        ("url", vm["url"]),
        ("ports", "\n".join(describe_ports(vm))),
        ("agent", _describe_agent(vm["agent"])),
        ("cloud-init", _describe_cloud_init(vm["cloud_init"])),
        ("secrets", ", ".join(vm["secrets"])),
        ("volumes", "\n".join(_describe_volume(volume) for volume in vm.get("volumes", []))),
        ("mounts", "\n".join(_describe_mount(mount) for mount in vm.get("mounts", []))),
        (
            "when idle",
            f"suspended after {seconds} s" if (seconds := vm.get("suspend_when_idle_seconds", 0)) else "",
        ),
        ("restart", vm["restart"] + (f", {count} in a row" if (count := vm.get("restarts", 0)) else "")),
        ("hypervisor", " ".join(kinds) + (f", {emulated} emulated" if emulated else "")),
        ("pid", hypervisor["pid"] if hypervisor else None),
        ("exit code", vm["exit_code"]),
        ("created", vm["created_at"]),
        ("started", vm["started_at"]),
        ("boot", boot),
        ("crash", _describe_crash(vm["crash"])),
        ("last console lines", "\n".join(vm["last_console_lines"])),
    ]


def describe_ports(vm: Vm) -> list[str]:
    return [f"{p['host_ip']}:{p['host_port']} → {p['guest_port']}/{p['protocol']}" for p in vm["ports"]]


def has_own_system(client: Client, vm: Vm) -> bool:
    """Its disk boots by firmware into a whole system, in which no agent answers."""
    if vm["agent"]["connected"]:
        return False
    plugin = vm["plugin"]
    return client.get_plugin(f"{plugin['name']}:{plugin['version']}")["boot"] == "firmware"


def _with_reason(text: str, reason: str) -> str:
    return f"{text} ({reason})" if reason else text


def _describe_egress(vm: Vm) -> str:
    """Nothing where it reaches everything, as VMs do; its list, what came of it, and what was refused last."""
    egress = vm.get("egress", {"policy": "open"})
    if egress["policy"] == "open":
        return ""
    allowed, denied = egress.get("allowed"), egress.get("denied")
    counts = "" if allowed is None else f"{allowed} connections allowed, {denied} packets and names denied"
    return "\n".join([_with_reason(egress["policy"], counts), *egress.get("recently_denied", [])])


def _describe_crash(crash: Crash | None) -> str:
    if crash is None:
        return ""
    code = f"exit code {crash['exit_code']}" if crash["exit_code"] else ""
    facts = [crash["kind"], crash["signal"] or code]
    return _with_reason(" by ".join(fact for fact in facts if fact), crash["line"])


def _describe_process(process: ProcessState) -> str:
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


def _describe_volume(volume: VolumeAttachment) -> str:
    return f"{volume['name']} at {volume['target']}" + (", read only" if volume["read_only"] else "")


def _describe_mount(mount: MountAttachment) -> str:
    return f"{mount['source']} at {mount['target']}" + (", read only" if mount["read_only"] else "")


def _describe_agent(agent: AgentInfo) -> str | None:
    if not agent["connected"]:
        return "not connected"
    missing = f", lacks {', '.join(agent['missing'])}" if agent["missing"] else ""
    return f"kestrel {agent['version']}{missing}"


def _describe_cloud_init(state: CloudInitState) -> str | None:
    if state["status"] == "none":
        return None
    lines = [f"{state['status']}" + (f" (by {state['by']})" if state["by"] else "")]
    lines += state["errors"]
    lines += [f"unknown module: {module}" for module in state["unknown_modules"]]
    return "\n".join(lines)
