# SPDX-License-Identifier: Apache-2.0
"""One daemon's life: take the state folder, adopt the VMs, serve until told to end, let the VMs run on."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import shutil
import signal
import socket
from collections.abc import Sequence

from volant.contract.paths import make_private_folder, make_state_folder
from volant.volantd.api.connections import (
    choose_limit,
    limit_repeats,
    raise_descriptor_limit,
)
from volant.volantd.api.front import make_front
from volant.volantd.backup import taking
from volant.volantd.backup.restoring import put_in_place
from volant.volantd.database import Database
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.listeners import CLOSING_SECONDS, make_server, open_listeners
from volant.volantd.node_agent import keep_node_agent
from volant.volantd.notify import notify_ready
from volant.volantd.opened_state import hold_lock, make_domain
from volant.volantd.request_context import outside_of_requests
from volant.volantd.resources import RESOURCES
from volant.volantd.settings import Settings
from volant.volantd.surroundings import restore_bridge, watch_surroundings
from volant.volantd.tasks import end_tasks
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.recovery import refuse_fresh_database

logger = logging.getLogger(__name__)

SPARE_SECONDS = 5.0
M_ARENA_MAX, M_TRIM_THRESHOLD = -8, -1


async def run_daemon(settings: Settings, hypervisor: Hypervisor, others: Sequence[Hypervisor] = ()) -> None:
    """Serve until SIGTERM or SIGINT, or until the socket's place is taken away. VMs run on. `hypervisor`: the usual."""
    share_heap()
    make_state_folder(settings.state_dir)
    make_private_folder(settings.runtime_dir)
    with hold_lock(settings):
        while await serve_state(settings, hypervisor, others):
            logger.info("starting again with what was restored")


async def serve_state(settings: Settings, hypervisor: Hypervisor, others: Sequence[Hypervisor] = ()) -> bool:
    """From reading the state to letting go of it; whether to begin again, since another one takes its place."""
    # What imports have made is not looked through, here or later: half a megabyte in circles, for a tenth of the start.
    gc.freeze()
    with contextlib.ExitStack() as stack:
        put_in_place(settings.state_dir)
        refuse_fresh_database(settings)
        domain = make_domain(settings, hypervisor, stack, others)
        fleet = Fleet(domain)
        listeners = open_listeners(settings, stack)
        ended, begins_anew = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        await restore_bridge(settings)
        await sweep_all(fleet)
        front = make_front(domain, fleet, begins_anew.set)
        descriptors = raise_descriptor_limit()
        limit_repeats()
        servers = [
            make_server(
                front.make_listener(token), settings, choose_limit(descriptors, is_tcp=token is not None)
            )
            for _, token in listeners
        ]
        tasks = [
            asyncio.create_task(server.serve(sockets=[listener]))
            for server, (listener, _) in zip(servers, listeners, strict=True)
        ]

        def serve_page(listener: socket.socket) -> None:
            """From the first link on: one more server, which ends as the others do."""
            stack.callback(listener.close)
            server = make_server(front.make_page_listener(), settings, choose_limit(descriptors, is_tcp=True))
            servers.append(server)
            tasks.append(outside_of_requests(asyncio.create_task, server.serve(sockets=[listener])))

        front.page.serve = serve_page
        beside = [
            asyncio.create_task(watch_surroundings(settings, fleet, ended)),
            asyncio.create_task(keep_spare(domain.database)),
            asyncio.create_task(keep_node_agent(settings)),
            *(
                asyncio.create_task(resource.tend(fleet))
                for resource in RESOURCES
                if resource.tend is not None
            ),
        ]
        settle_memory()
        logger.info("volantd answers at %s", settings.socket)
        notify_ready()
        ends = [asyncio.create_task(event.wait()) for event in (ended, begins_anew)]
        await asyncio.wait([*ends, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        await end_tasks((*ends, *beside), CLOSING_SECONDS)
        await asyncio.gather(*tasks, return_exceptions=True)
        await fleet.release_all()
        return begins_anew.is_set() and not ended.is_set()


def share_heap() -> None:
    """One heap for all threads, and what is free at its end goes back: 12 MiB of a daemon with 20 VMs (mallopt(3))."""
    with contextlib.suppress(OSError, AttributeError):  # another libc
        library = ctypes.CDLL(None)
        library.mallopt(M_ARENA_MAX, 1)
        library.mallopt(M_TRIM_THRESHOLD, 1 << 16)


def settle_memory() -> None:
    """What is there now stays: the collector has only what comes to look through, and never stops us for long.

    Before that, what is of no use goes: 2 MiB that making the API left in circles, and what imports have let go of,
    also between what stays (malloc_trim(3)).
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


async def keep_spare(database: Database) -> None:
    while True:
        database.keep_spare()
        await asyncio.sleep(SPARE_SECONDS)


async def sweep_all(fleet: Fleet) -> None:
    """What was cut off is finished or undone, and what belongs to nothing set aside."""
    shutil.rmtree(taking.find_folder(fleet.domain.settings.state_dir), ignore_errors=True)
    for resource in RESOURCES:
        if resource.sweep is not None:
            await resource.sweep(fleet)
