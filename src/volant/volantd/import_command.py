# SPDX-License-Identifier: Apache-2.0
"""volantd import-vms: VMs and their plugins back into the database, from what their folders say."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import click

from volant.contract.paths import make_state_folder
from volant.errors import Conflict
from volant.volantd.backup.restoring import put_in_place
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.opened_state import hold_lock, make_domain
from volant.volantd.settings import Settings
from volant.volantd.vms.recovery import import_vms


def run_import(settings: Settings, hypervisor: Hypervisor, others: Sequence[Hypervisor] = ()) -> None:
    make_state_folder(settings.state_dir)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(settings))
        except Conflict as error:
            raise Conflict(
                f"cannot import VMs: a daemon works with {settings.state_dir}",
                resolution="volar daemon stop, then try again; VMs run on meanwhile",
            ) from error
        put_in_place(settings.state_dir)
        results = import_vms(make_domain(settings, hypervisor, stack, others))
    for result in results:
        if not result.problem:
            click.echo(f"imported {result.name}")
    if not results:
        click.echo("there is nothing to import")
    failed = [result for result in results if result.problem]
    if failed:
        raise Conflict(
            f"cannot import {len(failed)} of {len(results)} VMs",
            details=[f"{result.folder}: {result.problem}" for result in failed],
        )
