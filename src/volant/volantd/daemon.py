# SPDX-License-Identifier: Apache-2.0
"""One daemon's life: take the state folder, adopt the VMs, serve until told to end, let the VMs run on."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import grp
import logging
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from volant.contract.paths import make_private_folder, make_state_folder
from volant.errors import Conflict, InvalidInput, VolantError
from volant.volantd.api.connections import (
    choose_limit,
    limit_repeats,
    make_protocol,
    raise_descriptor_limit,
)
from volant.volantd.api.front import make_front
from volant.volantd.audit import AuditLog
from volant.volantd.backup import taking
from volant.volantd.backup.restoring import put_in_place
from volant.volantd.database import Database
from volant.volantd.hypervisors.base import SOCKET_PATH_LIMIT, Hypervisor
from volant.volantd.network.bridge import GATEWAY, find_net, install_bridge
from volant.volantd.network.bridge_networks import BridgeNetworks
from volant.volantd.network.dhcp import DhcpServer
from volant.volantd.network.egress.guard import EgressGuard
from volant.volantd.network.names import Addresses, NameServer
from volant.volantd.network.packet_filter import run_nft
from volant.volantd.network.shared.namespace import SOCKET_NAME as HOLDER_SOCKET
from volant.volantd.network.shared.network import SharedNetwork
from volant.volantd.networks.store import NetworkStore
from volant.volantd.node_agent import keep_node_agent
from volant.volantd.notify import notify_ready
from volant.volantd.plugins.store import PluginStore
from volant.volantd.request_context import outside_of_requests
from volant.volantd.reserve import Reserve
from volant.volantd.resources import RESOURCES
from volant.volantd.secrets.store import SecretStore
from volant.volantd.settings import Settings
from volant.volantd.tasks import end_tasks
from volant.volantd.templates.store import TemplateStore
from volant.volantd.templates.supply import TemplateSupply
from volant.volantd.tokens.store import TokenStore
from volant.volantd.usage import Usage
from volant.volantd.vms.boot_record import BootRecords
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.events import EventLog
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.history import ChangeHistory
from volant.volantd.vms.networking import find_default_mode
from volant.volantd.vms.recovery import refuse_fresh_database
from volant.volantd.vms.registry import VmRegistry
from volant.volantd.volumes.store import VolumeStore
from volant.whole_file import write_whole_file

logger = logging.getLogger(__name__)

SURROUNDINGS_SECONDS = 2.0
CLOSING_SECONDS = 2
SPARE_SECONDS = 5.0
M_ARENA_MAX, M_TRIM_THRESHOLD = -8, -1


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: two of them run side by side, and the daemon ends both."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


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


async def restore_bridge(settings: Settings) -> None:
    """Where a person has set up the bridge: made again after a reboot of the host, and its rules as they are now."""
    if settings.bridge_mark.exists():
        try:
            await asyncio.to_thread(install_bridge, is_host_open=settings.host_loopback == "open")
        except VolantError as error:
            logger.warning("bridged VMs cannot start: %s", error)


def make_names(fleet: Fleet) -> NameServer:
    """Of VMs on root's bridge, by who asks."""
    networks = fleet.domain.bridge_networks

    def find_names(asker: str) -> Addresses:
        visible = networks.find_names(asker)
        return fleet.find_names() if visible is None else visible

    return NameServer(
        find_names, may_ask_further=networks.leads_out, find_held=fleet.domain.bridge_egress.find_names
    )


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


def make_domain(
    settings: Settings,
    hypervisor: Hypervisor,
    stack: contextlib.ExitStack,
    others: Sequence[Hypervisor] = (),
) -> Domain:
    database = Database(settings.database, Reserve(settings.reserve))
    stack.callback(database.close)
    database.bring_up_to_date({resource.name: resource.migrations for resource in RESOURCES})
    usage = Usage()
    registry = VmRegistry(database)
    domain = Domain(
        settings=settings,
        database=database,
        registry=registry,
        plugins=PluginStore(database, settings.state_dir / "plugins", usage),
        secrets=SecretStore(database, settings.state_dir / "secrets.key", usage),
        volumes=VolumeStore(settings.state_dir, usage),
        networks=NetworkStore(database, usage),
        tokens=TokenStore(database),
        audit=make_audit(settings, stack),
        events=EventLog(database),
        history=ChangeHistory(database),
        boots=BootRecords(database),
        hypervisor=hypervisor,
        others=tuple(others),
        templates=TemplateSupply(
            TemplateStore(settings.cache_dir / "templates"),
            hypervisor,
            settings.runtime_dir,
            settings.warm_start == "on" and hypervisor.capabilities.templates,
        ),
        shared_network=make_shared_network(settings, registry),
        bridge_egress=EgressGuard(run_nft, find_net, registry.list_held_guests),
        bridge_networks=BridgeNetworks(run_nft, find_net, registry.list_bridged_guests),
    )
    domain.plugins.on_removed = domain.templates.store.remove_orphans
    for resource in RESOURCES:
        if resource.find_users is not None:
            usage.ask(resource.noun, resource.name, resource.find_users(domain))
    return domain


def make_shared_network(settings: Settings, registry: VmRegistry) -> SharedNetwork:
    """Its holder listens in the state folder, which is there for as long as VMs are, unless its path is too long."""
    fits = len(os.fsencode(settings.state_dir / HOLDER_SOCKET)) <= SOCKET_PATH_LIMIT
    return SharedNetwork(
        settings.state_dir if fits else settings.runtime_dir,
        settings.state_dir,
        is_on=settings.shared_network != "off" and settings.host_loopback == "closed",
        find_guests=registry.list_shared_guests,
    )


def make_audit(settings: Settings, stack: contextlib.ExitStack) -> AuditLog:
    audit = AuditLog(settings.audit)
    stack.callback(audit.close)
    return audit


def make_server(application: ASGIApp, settings: Settings, most_connections: int) -> Server:
    return Server(
        uvicorn.Config(
            application,
            http=make_protocol(most_connections),
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level=settings.log_level,
            ws="websockets-sansio",
            ws_max_size=1 << 24,
            ws_ping_interval=None,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=CLOSING_SECONDS,
            server_header=False,
            date_header=False,
        )
    )


@contextmanager
def hold_lock(settings: Settings) -> Iterator[None]:
    """One daemon per state folder; the kernel lets go of the lock however we end."""
    descriptor = os.open(settings.state_dir / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"cannot start volantd: another one works with {settings.state_dir}",
                resolution="use that one (volar daemon status), or set VOLANT_HOME to run a second one",
            ) from None
        yield
    finally:
        os.close(descriptor)


def open_listeners(settings: Settings, stack: contextlib.ExitStack) -> list[tuple[socket.socket, str | None]]:
    """The UNIX socket, and loopback TCP with its token where asked."""
    listeners: list[tuple[socket.socket, str | None]] = [(open_unix_socket(settings, stack), None)]
    if settings.listen is not None:
        token = settings.token or read_token(settings.state_dir / "token")
        host, _, port = settings.listen.rpartition(":")
        try:
            listener = socket.create_server((host.strip("[]"), int(port)), family=_family(host))
        except OSError as error:
            raise Conflict(f"cannot listen on {settings.listen}: {error.strerror or error}") from error
        stack.callback(listener.close)
        listeners.append((listener, token))
    return listeners


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def open_unix_socket(settings: Settings, stack: contextlib.ExitStack) -> socket.socket:
    path = settings.socket
    path.unlink(missing_ok=True)  # we hold the lock: whoever bound it is gone
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stack.callback(listener.close)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    if settings.socket_group is not None:
        try:
            group = grp.getgrnam(settings.socket_group).gr_gid
        except KeyError:
            raise InvalidInput(
                f"cannot give the socket to group {settings.socket_group}: no such group"
            ) from None
        os.chown(path, -1, group)
        path.chmod(0o660)
        settings.runtime_dir.chmod(0o711)
    listener.listen(128)
    inode = path.stat().st_ino

    def remove() -> None:
        with contextlib.suppress(OSError):
            if path.stat().st_ino == inode:
                path.unlink()

    stack.callback(remove)
    return listener


def read_token(path: Path) -> str:
    """The token that TCP clients show; made at first use, readable by this user alone.

    An empty file, as a host that lost its power may leave, is none: it would let in whoever shows nothing.
    """
    if path.exists() and (token := path.read_text().strip()):
        return token
    token = secrets.token_urlsafe(32)
    write_whole_file(path, f"{token}\n".encode(), mode=0o600)
    return token


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
