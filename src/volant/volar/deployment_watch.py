# SPDX-License-Identifier: Apache-2.0
"""Waiting for a deployment: how far it is, and whether it became what was asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from volant.errors import GuestFailed
from volant.volar.client import Client
from volant.volar.printable import make_printable_line

if TYPE_CHECKING:
    from volant.contract.api_types import Deployment

POLL_SECONDS = 0.2


def wait_for_deployment(
    client: Client, name: str, timeout_seconds: float, *, quiet: bool = False
) -> Deployment:
    """The deployment once its VMs are ready. GuestFailed where they do not become so, or not in time, or where an
    update was undone; what was begun goes on."""
    deadline = time.monotonic() + timeout_seconds
    told = ""
    while True:
        deployment = client.get_deployment(name)
        if deployment["status"] == "ready":
            return deployment
        line = describe_progress(deployment)
        if line != told and not quiet:
            click.echo(make_printable_line(f"{name}: {line}"), err=True)
        told = line
        if deployment["status"] in ("degraded", "rolled-back"):
            raise GuestFailed(find_problem(deployment), resolution=suggest(deployment))
        if time.monotonic() > deadline:
            raise GuestFailed(
                f"{name} is not ready after {timeout_seconds:g} s: {line}", resolution=suggest(deployment)
            )
        time.sleep(POLL_SECONDS)


def describe_progress(deployment: Deployment) -> str:
    """Where it is, in a line."""
    ready, replicas = deployment["ready"], deployment["replicas"]
    old = [vm for vm in deployment["vms"] if not vm["is_current"]]
    parts = [f"{ready} of {replicas} ready"]
    if old:
        parts.append(f"{deployment['updated']} of revision {deployment['revision']}, {len(old)} to go")
    if deployment["reason"]:
        parts.append(deployment["reason"])
    return "; ".join(parts)


def find_problem(deployment: Deployment) -> str:
    name, reason = deployment["name"], deployment["reason"] or "no reason known"
    if deployment["status"] == "rolled-back":
        return f"the update of {name} was undone: {reason}"
    return f"{name} has {deployment['ready']} of {deployment['replicas']} VMs ready: {reason}"


def suggest(deployment: Deployment) -> str:
    late = next((vm["name"] for vm in deployment["vms"] if not vm["ready"]), None)
    return f"volar deployments get {deployment['name']}" + (f"; volar vms logs {late}" if late else "")
