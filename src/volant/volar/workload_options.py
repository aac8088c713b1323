# SPDX-License-Identifier: Apache-2.0
"""What `run` says of the workload in place of its image, in docker's words, and as the API wants it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from volant.errors import UsageError
from volant.volar.options import Period, collect

if TYPE_CHECKING:
    from volant.contract.api_types import HealthCheckRequest, VmCreate

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class WorkloadOptions:
    """The options below, by their names."""

    entrypoint: str | None
    user: str | None
    workdir: str | None
    hostname: str | None
    add_host: tuple[str, ...]
    stop_signal: str | None
    stop_timeout: int | None
    health_cmd: str | None
    health_interval: int | None
    health_timeout: int | None
    health_start_period: int | None
    health_retries: int | None
    no_healthcheck: bool

    def complete(self, request: VmCreate) -> None:
        """Put into the request what was said."""
        if self.entrypoint is not None:
            request["entrypoint"] = shlex.split(self.entrypoint)
        if self.user:
            request["user"] = self.user
        if self.workdir:
            request["working_dir"] = self.workdir
        if self.hostname:
            request["hostname"] = self.hostname
        if self.add_host:
            request["extra_hosts"] = dict(map(parse_host, self.add_host))
        if self.stop_signal:
            request["stop_signal"] = self.stop_signal
        if self.stop_timeout is not None:
            request["stop_timeout_seconds"] = self.stop_timeout
        if check := self._make_health_check():
            request["health_check"] = check

    def _make_health_check(self) -> HealthCheckRequest | None:
        details = (self.health_interval, self.health_timeout, self.health_start_period, self.health_retries)
        if self.no_healthcheck:
            if self.health_cmd is not None or any(detail is not None for detail in details):
                raise UsageError("cannot use --no-healthcheck with other --health options")
            return {"test": ["NONE"]}
        if self.health_cmd is None:
            if any(detail is not None for detail in details):
                raise UsageError(
                    "cannot change the times of a health check without a health check",
                    resolution="give --health-cmd too",
                )
            return None
        interval, timeout, start_period, retries = details
        return {
            "test": ["CMD-SHELL", self.health_cmd],
            "interval_seconds": interval,
            "timeout_seconds": timeout,
            "start_period_seconds": start_period,
            "retries": retries,
        }


def parse_host(text: str) -> tuple[str, str]:
    """NAME:ADDRESS, or NAME=ADDRESS; the address may have colons of its own."""
    separator = "=" if "=" in text else ":"
    name, _, address = text.partition(separator)
    if not name or not address:
        raise UsageError(f"cannot add the host {text!r}", resolution="--add-host NAME:ADDRESS")
    return name, address.strip("[]")


def workload_options(command: Command) -> Command:
    """Decorator: these options, given to the command as one argument `workload`."""
    chosen = (
        click.option(
            "--entrypoint", metavar="COMMAND", help="Runs instead of the image's ENTRYPOINT and CMD."
        ),
        click.option("-u", "--user", metavar="USER[:GROUP]", help="User that it runs as; the image's USER otherwise."),
        click.option("-w", "--workdir", metavar="PATH", help="Folder that it runs in; the image's WORKDIR otherwise."),
        click.option("--hostname", metavar="NAME", help="The guest's host name; the VM's name otherwise."),
        click.option("--add-host", multiple=True, metavar="NAME:ADDRESS", help="A line of the guest's /etc/hosts."),
        click.option("--stop-signal", metavar="SIGNAL", help="Signal that ends it; the image's STOPSIGNAL otherwise."),
        click.option(
            "--stop-timeout", type=Period(), metavar="TIME", help="How long it may take to end (default: 10s)."
        ),
        click.option("--health-cmd", metavar="COMMAND", help="A shell command that checks its health."),
        click.option(
            "--health-interval", type=Period(), metavar="TIME", help="Time between two checks (default: 30s)."
        ),
        click.option(
            "--health-timeout", type=Period(), metavar="TIME", help="How long a check may take (default: 30s)."
        ),
        click.option(
            "--health-start-period", type=Period(), metavar="TIME",
            help="Failures in this time after the start do not count.",
        ),
        click.option(
            "--health-retries", type=click.IntRange(1), help="Failures until it is unhealthy (default: 3)."
        ),
        click.option("--no-healthcheck", is_flag=True, help="Do not use the image's health check."),
    )  # fmt: skip
    return collect(WorkloadOptions, "workload", chosen)(command)
