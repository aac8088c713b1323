# SPDX-License-Identifier: Apache-2.0
"""DHCP on the bridge: dnsmasq with exactly the leases that the database knows, so nothing has to be learned or kept.

It runs while the daemon does. A changed table is a new dnsmasq: it keeps no state, and takes milliseconds. One that a
killed daemon left behind is ended by the next.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from volant.process import find_tool, read_command, start_detached
from volant.volantd.network.bridge import BRIDGE, GATEWAY, SUBNET

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    mac: str
    address: str
    name: str


def make_configuration(leases: Sequence[Lease]) -> str:
    """dnsmasq's (dnsmasq(8)): no DNS, no lease file, and no address for anybody else."""
    lines = [
        "port=0",
        f"interface={BRIDGE}",
        "except-interface=lo",
        "bind-interfaces",
        f"dhcp-range={SUBNET.network_address},static,{SUBNET.netmask}",
        f"dhcp-option=option:router,{GATEWAY}",
        f"dhcp-option=option:dns-server,{GATEWAY}",
        "dhcp-authoritative",
        "leasefile-ro",
        "no-ping",
        *(f"dhcp-host={lease.mac},{lease.address},{lease.name}" for lease in leases),
    ]
    return "\n".join(lines) + "\n"


class DhcpServer:
    """`refresh` as often as leases may have changed, then `close`. Both block for a moment."""

    def __init__(self, folder: Path) -> None:
        self._configuration = folder / "dhcp.conf"
        self._pid_file = folder / "dhcp.pid"
        self._log = folder / "dhcp.log"
        self._serving: Sequence[Lease] = ()
        self._pid: int | None = None
        self._end_orphan()

    def refresh(self, leases: Sequence[Lease]) -> None:
        program = find_tool("dnsmasq")
        if program is None or leases == self._serving:
            return
        self._end()
        self._serving = leases
        if not leases:
            return
        self._configuration.write_text(make_configuration(leases))
        self._log.unlink(missing_ok=True)
        # No pid file of its own: it would empty ours for a moment once it serves.
        files = [f"--conf-file={self._configuration}", "--pid-file=", "--log-facility=-"]
        self._pid = start_detached([program, "--keep-in-foreground", *files], self._log)
        self._pid_file.write_text(f"{self._pid}\n")
        logger.debug("dnsmasq %d answers DHCP for %d VMs", self._pid, len(leases))

    def close(self) -> None:
        self._end()
        for path in (self._configuration, self._pid_file):
            path.unlink(missing_ok=True)

    def _end(self) -> None:
        pid, self._pid = self._pid, None
        if pid is not None:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)

    def _end_orphan(self) -> None:
        """Only what really is a dnsmasq with our configuration: the number may be somebody else's by now."""
        with suppress(OSError, ValueError):
            pid = int(self._pid_file.read_text())
            if os.fsencode(self._configuration) in read_command(pid):
                os.kill(pid, signal.SIGKILL)
