# SPDX-License-Identifier: Apache-2.0
"""The shared network's way out: one pasta, which makes connections of the host's of what leaves the namespace.

What leads to the host's loopback is closed twice: pasta has no address that stands for it (`--no-map-gw`) and forwards
no port of it, and no frame for 127.0.0.0/8 comes this far (`rules`, and the namespace's own kernel).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

from volant.process import find_tool, read_command, start_detached
from volant.volantd.network.shared.namespace import Inside
from volant.volantd.network.user_mode import has_default_route, has_ipv6_default_route

logger = logging.getLogger(__name__)

LINK = "outward"
# As in user mode by passt, but that no guest ever sees them.
ADDRESS, NETMASK, GATEWAY = "10.0.2.15", "24", "10.0.2.2"
ADDRESS6, GATEWAY6 = "fd76:6f6c:616e:7::15", "fd76:6f6c:616e:7::2"
POLL_SECONDS, POLLS = 0.01, 1000


def find_obstacle() -> str | None:
    """Why the shared network has no way out on this host now, or None."""
    if find_tool("pasta") is None:
        return "passt is not installed"
    if not has_default_route():
        return "this host has no default route"
    return None


def make_arguments(pid: int) -> list[str]:
    """pasta's command; `pid`: of the process that holds the namespaces."""
    program = find_tool("pasta") or "pasta"
    arguments = [
        program, "--foreground", "--quiet", "--config-net", "--no-map-gw", "--no-ra", "--no-dhcp", "--no-dhcpv6",
        "--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
        "--address", ADDRESS, "--netmask", NETMASK, "--gateway", GATEWAY, "--ns-ifname", LINK,
        "--userns", f"/proc/{pid}/ns/user", "--netns", f"/proc/{pid}/ns/net",
    ]  # fmt: skip
    if has_ipv6_default_route():
        arguments += ["--address", ADDRESS6, "--gateway", GATEWAY6]
    else:
        arguments.append("--ipv4-only")
    if os.geteuid() == 0:
        # Nobody else may enter a namespace of root's; pasta gives up what root may do on the host all the same.
        arguments += ["--runas", "0:0"]
    return arguments


def leads_out(pid: int) -> bool:
    """Whether the namespace of a process has a way out now: pasta's device goes with pasta."""
    return has_default_route(Path(f"/proc/{pid}/net/route"))


def find_outward(pid_file: Path) -> int | None:
    """What a daemon before this one started; only what really is ours, whatever has the number now."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        if f"--ns-ifname\0{LINK}".encode() in read_command(pid):
            return pid
    return None


async def start_outward(inside: Inside, log: Path, pid_file: Path) -> int:
    """Start pasta, and return its number once it serves; TimeoutError where it does not."""
    pid = await asyncio.to_thread(_launch, inside, log, pid_file)
    pidfd = os.pidfd_open(pid)
    loop = asyncio.get_running_loop()

    def reap() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)

    loop.add_reader(pidfd, reap)
    for _ in range(POLLS):
        if leads_out(inside.pid):
            return pid
        await asyncio.sleep(POLL_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    raise TimeoutError(f"no route after {POLLS * POLL_SECONDS:g} s")


def _launch(inside: Inside, log: Path, pid_file: Path) -> int:
    log.unlink(missing_ok=True)
    pid = start_detached(make_arguments(inside.pid), log)
    pid_file.write_text(f"{pid}\n")
    return pid
