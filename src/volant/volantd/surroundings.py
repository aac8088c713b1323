# SPDX-License-Identifier: Apache-2.0
"""What may come and go around a running daemon: the bridge, names and addresses on it, the socket's own folder."""

from __future__ import annotations

import asyncio
import logging

from volant.errors import VolantError
from volant.volantd.network.bridge import GATEWAY, install_bridge
from volant.volantd.network.dhcp import DhcpServer
from volant.volantd.network.names import Addresses, NameServer
from volant.volantd.settings import Settings
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.networking import find_default_mode

logger = logging.getLogger(__name__)

SURROUNDINGS_SECONDS = 2.0


async def restore_bridge(settings: Settings) -> None:
    """Where a person has set up the bridge: made again after a reboot of the host, and its rules as they are now."""
    if settings.bridge_mark.exists():
        try:
            await asyncio.to_thread(install_bridge, is_host_open=settings.host_loopback == "open")
        except VolantError as error:
            logger.warning("bridged VMs cannot start: %s", error)


async def watch_surroundings(settings: Settings, fleet: Fleet, ended: asyncio.Event) -> None:
    """Answer for names and addresses once there is a bridge, and end when the socket is gone.

    At log-out a user's runtime folder is removed: the next volar shall start a fresh daemon, which adopts the VMs,
    rather than never find this one.
    """
    names: NameServer | None = None
    dhcp = await asyncio.to_thread(DhcpServer, settings.state_dir)
    try:
        while settings.socket.exists():
            names = names or await open_names(settings, fleet)
            if names is not None:
                leases = fleet.domain.registry.list_leases()
                await asyncio.to_thread(dhcp.refresh, leases)
            await fleet.domain.shared_network.tend()
            await fleet.egress.refresh()
            await asyncio.sleep(SURROUNDINGS_SECONDS)
    finally:
        if names is not None:
            await names.close()
        await asyncio.to_thread(dhcp.close)
    logger.warning("%s is gone: ending; VMs run on", settings.socket)
    ended.set()


async def open_names(settings: Settings, fleet: Fleet) -> NameServer | None:
    """Answer for VMs' names on the bridge; None where there is none, or another daemon does."""
    if find_default_mode(settings) != "bridged":
        return None
    names = make_names(fleet)
    try:
        await names.start(str(GATEWAY))
    except OSError as error:
        logger.debug("cannot answer for VM names at %s: %s", GATEWAY, error)
        return None
    return names


def make_names(fleet: Fleet) -> NameServer:
    """Of VMs on root's bridge, by who asks."""
    networks = fleet.domain.bridge_networks

    def find_names(asker: str) -> Addresses:
        visible = networks.find_names(asker)
        return fleet.find_names() if visible is None else visible

    return NameServer(
        find_names, may_ask_further=networks.leads_out, find_held=fleet.domain.bridge_egress.find_names
    )
