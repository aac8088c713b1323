# SPDX-License-Identifier: Apache-2.0
"""volar vms stats and volar top: what VMs use, seen from the guest and from the host."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from volant.errors import NotFound
from volant.volar.client import Client
from volant.volar.names import VM
from volant.volar.output import (
    Format,
    format_size,
    output_option,
    show_document,
    show_object,
)
from volant.volar.tables import format_duration, make_table
from volant.volar.target import make_client

if TYPE_CHECKING:
    from volant.contract.api_types import AgentStats, Vm, VmStats

HEADINGS = ("NAME", "STATUS", "CPU", "MEMORY", "DISK", "RECEIVED", "SENT", "HOST MEMORY", "UPTIME")
# Between the two looks at the CPU time that one table needs.
FIRST_SECONDS = 0.5
ASKED_AT_ONCE = 8


class Sample(NamedTuple):
    """What one VM had used at one moment; `stats` is None where it does not run."""

    vm: Vm
    stats: VmStats | None
    moment: float


@click.command()
@click.argument("names", nargs=-1, type=VM)
@click.option("-w", "--watch", is_flag=True, help="Go on until interrupted.")
@click.option(
    "--interval", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds, with --watch."
)
@click.option("--no-stream", is_flag=True, hidden=True)  # docker's; without --watch nothing streams
@output_option
@click.pass_context
def stats(
    context: click.Context,
    names: tuple[str, ...],
    watch: bool,
    interval: float,
    no_stream: bool,
    output_format: Format,
) -> None:
    """Show what VMs use: those named, or all that run.

    \b
    volar vms stats             a table of all that run
    volar vms stats my-nginx    everything about one
    volar top                   the table, again and again
    """
    client = make_client(context)
    if output_format in ("json", "yaml"):
        show_document(_read_documents(client, names), output_format)
    elif len(names) == 1 and not watch:
        found = client.get_vm_stats(names[0])
        show_object(found, output_format, lambda: describe(found))
    else:
        show_table(client, names, interval if watch and not no_stream else None)


@click.command()
@click.argument("names", nargs=-1, type=VM)
@click.option("--interval", type=click.FloatRange(0.2), default=2.0, show_default=True, help="Seconds.")
@click.pass_context
def top(context: click.Context, names: tuple[str, ...], interval: float) -> None:
    """Show what VMs use, live, until interrupted."""
    show_table(make_client(context), names, interval)


def _read_documents(client: Client, names: Sequence[str]) -> Any:
    """One VM's numbers as the API has them; of several, each with its name."""
    if len(names) == 1:
        return client.get_vm_stats(names[0])
    return [
        {"name": sample.vm["name"], **sample.stats} for sample in take_samples(client, names) if sample.stats
    ]


def show_table(client: Client, names: Sequence[str], interval_seconds: float | None) -> None:
    """The table once, or again every so many seconds until interrupted."""
    before = take_samples(client, names)
    time.sleep(min(FIRST_SECONDS, interval_seconds or FIRST_SECONDS))
    on_screen = interval_seconds is not None and sys.stdout.isatty()
    while True:
        now = take_samples(client, names)
        lines = make_table(HEADINGS, make_rows(before, now))
        if on_screen:
            # Home, each line with what is left of it cleared, and the rest of the screen: no flicker.
            height = shutil.get_terminal_size().lines - 1
            click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines[:height]) + "\x1b[J", nl=False)
        else:
            click.echo("\n".join(lines))
        if interval_seconds is None:
            return
        before = now
        time.sleep(interval_seconds)


def take_samples(client: Client, names: Sequence[str]) -> list[Sample]:
    """A sample of each VM named, or of all that run; asked side by side, since a guest may take a second to answer."""
    from concurrent.futures import ThreadPoolExecutor

    vms = [client.get_vm(name) for name in names] or client.list_vms(status="running")

    def take(vm: Vm) -> Sample:
        try:
            found = client.get_vm_stats(vm["name"]) if vm["status"] == "running" else None
        except NotFound:
            found = None
        return Sample(vm, found, time.monotonic())

    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return list(pool.map(take, vms))


def make_rows(before: Sequence[Sample], now: Sequence[Sample]) -> list[list[str]]:
    earlier = {sample.vm["id"]: sample for sample in before}
    return [make_row(earlier.get(sample.vm["id"]), sample) for sample in now]


def make_row(before: Sample | None, now: Sample) -> list[str]:
    name, status = now.vm["name"], now.vm["status"]
    if now.stats is None:
        return [name, status, *["-"] * (len(HEADINGS) - 2)]
    guest = now.stats["guest"]
    return [
        name,
        status,
        _measure_cpu(before, now),
        _of(guest, "memory") or "-",
        _of(guest, "disk") or "-",
        format_size(guest["network_received_bytes"] if guest else None),
        format_size(guest["network_sent_bytes"] if guest else None),
        format_size(now.stats["host_memory_bytes"]),
        format_duration(guest["uptime_seconds"]) if guest else "-",
    ]


def _measure_cpu(before: Sample | None, now: Sample) -> str:
    """How much of one host CPU the VM's process used between two samples."""
    if before is None or before.stats is None or now.stats is None or now.moment <= before.moment:
        return "-"
    used = now.stats["host_cpu_seconds"] - before.stats["host_cpu_seconds"]
    return f"{100 * max(used, 0) / (now.moment - before.moment):.0f} %"


def describe(found: VmStats) -> list[tuple[str, Any]]:
    """One VM's numbers as facts for people."""
    guest = found["guest"]
    return [
        ("uptime", f"{guest['uptime_seconds']:.0f} s" if guest else None),
        ("cpu used", f"{guest['cpu_microseconds'] / 1e6:.2f} s" if guest else None),
        ("memory", _of(guest, "memory")),
        ("disk", _of(guest, "disk")),
        ("received", format_size(guest["network_received_bytes"]) if guest else None),
        ("sent", format_size(guest["network_sent_bytes"]) if guest else None),
        ("agent memory", format_size(guest["agent_memory_bytes"]) if guest else None),
        ("host memory", format_size(found["host_memory_bytes"])),
        ("host cpu", f"{found['host_cpu_seconds']:.1f} s"),
    ]


def _of(guest: AgentStats | None, what: str) -> str | None:
    if guest is None:
        return None
    used, total = (
        (guest["memory_used_bytes"], guest["memory_total_bytes"])
        if what == "memory"
        else (guest["disk_used_bytes"], guest["disk_total_bytes"])
    )
    return f"{format_size(used)} of {format_size(total)}"
