# SPDX-License-Identifier: Apache-2.0
"""Which daemon a command speaks to: --api, else VOLANT_API_BASE, else this user's own, started if need be."""

from __future__ import annotations

import os

import click

from volant.contract.paths import find_runtime_dir, find_socket, make_private_folder
from volant.volar.client import Client
from volant.volar.connection import make_connector


def make_client(context: click.Context, *, autostart: bool = True) -> Client:
    """The client for this command. Whoever calls volar from Python may give a Client of their own as `obj`."""
    chosen = context.find_root().obj
    if isinstance(chosen, Client):
        return chosen
    token = os.environ.get("VOLANT_TOKEN")
    if address := chosen or os.environ.get("VOLANT_API_BASE"):
        return Client(address.rstrip("/"), token)
    make_private_folder(find_runtime_dir())  # in one of somebody else's making, anybody might answer
    socket = str(find_socket())
    start = start_own_daemon if autostart and "VOLANT_NO_AUTOSTART" not in os.environ else None
    return Client(socket, token, connect=make_connector(socket, start))


def start_own_daemon() -> None:
    from volant.volar.daemon_start import start_daemon

    start_daemon()
