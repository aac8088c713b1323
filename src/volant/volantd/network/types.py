# SPDX-License-Identifier: Apache-2.0
"""How a VM is on the network and which of its ports the host publishes: values that are stored with a VM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # as people ask for it
NetworkMode = Literal["bridged", "user", "vsock", "dhcp"]
PortProtocol = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class PublishedPort:
    host_ip: str
    host_port: int
    guest_port: int
    protocol: PortProtocol = "tcp"

    def covers(self, other: PublishedPort) -> bool:
        """Whether who listens here listens there, too."""
        is_same = (self.host_port, self.protocol) == (other.host_port, other.protocol)
        everywhere = self.host_ip in EVERYWHERE and (":" in self.host_ip) == (":" in other.host_ip)
        return is_same and (everywhere or self.host_ip == other.host_ip)

    def collides_with(self, other: PublishedPort) -> bool:
        """Whether only one of both can be listened on."""
        return self.covers(other) or other.covers(self)


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A port to be published; None or 0 leaves the choice to the host."""

    guest_port: int
    host_port: int | None = None
    host_ip: str | None = None
    protocol: PortProtocol = "tcp"
