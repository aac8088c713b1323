# SPDX-License-Identifier: Apache-2.0
"""A terminal joined to a VM's serial console."""

from __future__ import annotations

import os
import sys
import termios
import threading
import tty
from contextlib import suppress

import click
from websockets.exceptions import ConnectionClosed

from volant.client.streams import open_stream
from volant.volar.client import Client

LEAVE = b"\x1d"  # Ctrl-], as telnet and virsh have it


def attach(client: Client, path: str) -> None:
    """Keys go to the console, its output comes here, until Ctrl-] or the VM's end."""
    descriptor = sys.stdin.fileno()
    on_terminal = sys.stdin.isatty()
    with open_stream(client, path) as stream:
        click.echo("attached; Ctrl-] leaves", err=True)
        saved = termios.tcgetattr(descriptor) if on_terminal else None

        def send() -> None:
            with suppress(ConnectionClosed, OSError):
                while keys := os.read(descriptor, 4096):
                    before, found, _ = keys.partition(LEAVE)
                    if before:
                        stream.send(before)
                    if found:
                        break
                stream.close()

        try:
            if on_terminal:
                tty.setraw(descriptor)
            threading.Thread(target=send, daemon=True).start()
            with suppress(ConnectionClosed):
                for message in stream:
                    if isinstance(message, bytes):
                        sys.stdout.buffer.write(message)
                        sys.stdout.buffer.flush()
        finally:
            if saved is not None:
                termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)
