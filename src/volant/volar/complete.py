# SPDX-License-Identifier: Apache-2.0
"""Shell completion of names that the daemon knows. A daemon that does not run is not started for a Tab."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from volant.errors import VolantError
from volant.volar.target import make_client


def _complete(context: click.Context, path: str, incomplete: str) -> list[CompletionItem]:
    client = make_client(context, autostart=False)
    try:
        rows = client.get(path)
    except VolantError:
        return []
    names = sorted({row["name"] for row in rows})
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_vms(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return _complete(context, "/vms", incomplete)


def complete_plugins(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return _complete(context, "/plugins", incomplete)


def complete_secrets(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    return _complete(context, "/secrets", incomplete)
