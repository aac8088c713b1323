# SPDX-License-Identifier: Apache-2.0
"""A network of the tests' own, with addresses that several hosts of a cluster can have beside each other."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
DEVICE = "cluster0"


@contextmanager
def enter_private_network(*addresses: str) -> Iterator[None]:
    """This thread, and every process that it starts meanwhile, in a network namespace that has these addresses."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as before:
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot make a network namespace: run these tests as root")
        try:
            _run("ip", "link", "set", "lo", "up")
            _run("ip", "link", "add", DEVICE, "type", "bridge")
            _run("ip", "link", "set", DEVICE, "up")
            for address in addresses:
                _run("ip", "address", "add", f"{address}/24", "dev", DEVICE)
            _run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
            # What reaches guests wants to know where outside is; nothing answers there.
            _run("ip", "route", "add", "default", "dev", DEVICE)
            yield
        finally:
            if libc.setns(before.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
