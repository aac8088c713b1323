# SPDX-License-Identifier: Apache-2.0
"""How one version of a deployment makes room for the next, as options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from volant.volar.options import Period, collect

if TYPE_CHECKING:
    from volant.contract.api_types import UpdatePolicyRequest

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class PolicyOptions:
    max_unavailable: int | None
    max_surge: int | None
    healthy_within: int | None
    drain: int | None

    def make_request(self) -> UpdatePolicyRequest:
        return {
            "max_unavailable": self.max_unavailable,
            "max_surge": self.max_surge,
            "healthy_seconds": self.healthy_within,
            "drain_seconds": self.drain,
        }


def policy_options(command: Command) -> Command:
    """Decorator: these options, given to the command as one argument `policy`."""
    chosen = (
        click.option(
            "--max-unavailable", type=click.IntRange(0), help="During an update: how many ready VMs may be missing."
        ),
        click.option(
            "--max-surge", type=click.IntRange(0), help="During an update: how many more VMs may run (default: 1)."
        ),
        click.option(
            "--healthy-within", type=Period(), metavar="TIME",
            help="How long a new VM may take; then the update is undone (default: 120s).",
        ),
        click.option(
            "--drain", type=Period(), metavar="TIME",
            help="How long connections may take to end before their VM is stopped (default: 30s).",
        ),
    )  # fmt: skip
    return collect(PolicyOptions, "policy", chosen)(command)
