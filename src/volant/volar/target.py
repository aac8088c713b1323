# SPDX-License-Identifier: Apache-2.0
"""Which daemon a command speaks to.

--api, else --context, else VOLANT_API_BASE, else VOLANT_CONTEXT, else what `volar context use` chose, else this user's
own daemon, which is started if need be. VOLANT_TOKEN takes the place of a context's token.
"""

from __future__ import annotations

import os
from typing import Any

import click

from volant.client.connection import make_connector
from volant.contract.paths import find_contexts_file, find_runtime_dir, find_socket, make_private_folder
from volant.volar import early_request
from volant.volar.client import Client
from volant.volar.contexts import Daemon, read_contexts


def make_client(context: click.Context, *, autostart: bool = True) -> Client:
    """The client for this command. Whoever calls volar from Python may give a Client of their own as `obj`."""
    root = context.find_root()
    if isinstance(root.obj, Client):
        return root.obj
    token = os.environ.get("VOLANT_TOKEN")
    if (daemon := choose_daemon(root.params)) is not None:
        return Client(daemon.address.rstrip("/"), token or daemon.token)
    make_private_folder(find_runtime_dir())  # in one of somebody else's making, anybody might answer
    socket = str(find_socket())
    start = start_own_daemon if autostart and "VOLANT_NO_AUTOSTART" not in os.environ else None
    connect = make_connector(socket, start)
    if (begun := early_request.take()) is None:
        return Client(socket, token, connect=connect)
    from volant.volar.begun_connection import make_begun_connector

    client = Client(socket, token, connect=make_begun_connector(begun, socket, connect))
    client.next_key = begun.key
    return client


def choose_daemon(options: dict[str, Any]) -> Daemon | None:
    """The daemon that was named; None for this user's own."""
    if address := options.get("api"):
        return Daemon(address)
    name = options.get("context_name")
    if not name and (address := os.environ.get("VOLANT_API_BASE")):
        return Daemon(address)
    contexts = read_contexts(find_contexts_file())
    return contexts.find(name or os.environ.get("VOLANT_CONTEXT") or contexts.current)


def start_own_daemon() -> None:
    from volant.volar.daemon_start import start_daemon

    start_daemon()
