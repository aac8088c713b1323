# SPDX-License-Identifier: Apache-2.0
"""How a VM is on the network and which of its ports the host publishes: values that are stored with a VM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NetworkMode = Literal["bridged", "user", "vsock", "dhcp"]
PortProtocol = Literal["tcp", "udp"]


@dataclass(frozen=True, slots=True)
class PublishedPort:
    host_ip: str
    host_port: int
    guest_port: int
    protocol: PortProtocol = "tcp"


@dataclass(frozen=True, slots=True)
class PortRequest:
    """A port to be published; None or 0 leaves the choice to the host."""

    guest_port: int
    host_port: int | None = None
    host_ip: str | None = None
    protocol: PortProtocol = "tcp"
