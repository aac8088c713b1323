# SPDX-License-Identifier: Apache-2.0
"""Tell systemd that the daemon serves (sd_notify(3)): what is ordered after it starts then, and not before."""

from __future__ import annotations

import os
import socket


def notify_ready() -> None:
    """Harmless where nobody asked for it, or nobody listens any more."""
    address = os.environ.pop("NOTIFY_SOCKET", "")
    if not address:
        return
    # A leading @ stands for the abstract namespace.
    address = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(b"READY=1", address)
        except OSError:
            return
