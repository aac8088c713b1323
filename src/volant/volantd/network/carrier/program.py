# SPDX-License-Identifier: Apache-2.0
"""The program that carries connections to published ports, while daemons come and go.

Runs as a fork of the fork server (arguments: see `main`), with the standard library and what of our own needs no more.
What it carries where, a daemon tells it (`service`).
"""

from __future__ import annotations

import resource
import signal
import socket
import sys


def main(listener: str, packages: str, holder: str) -> None:
    """`listener`: the descriptor of the socket on which it is told; `packages`: the folder that our own lies in;
    `holder`: where the VMs' shared network is asked for sockets."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.path.append(packages)
    # Not above: they are loaded here, and not in the fork server.
    import asyncio

    from volant.volantd.network.carrier.service import serve

    with socket.socket(fileno=int(listener)) as listening:
        asyncio.run(serve(listening, holder))
