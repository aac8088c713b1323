# SPDX-License-Identifier: Apache-2.0
"""/system/info, /events/vms, and outside /api/v1: /healthz, /metrics and the agent binaries."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import Header, Query
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import Field

from volant import __version__
from volant.contract.agents import find_agent
from volant.contract.system_api import AuditEntry, HostFinding, KernelInfo, SystemInfo
from volant.errors import VolantError
from volant.volantd.api.replies import EventStream, Metrics, Program
from volant.volantd.api.router import Router
from volant.volantd.boot.kernel import host_architecture
from volant.volantd.boot.named_kernels import list_all_kernels
from volant.volantd.doctor import list_probes
from volant.volantd.examination import Examination
from volant.volantd.lost_and_found import LostAndFound
from volant.volantd.settings import Settings
from volant.volantd.vms.domain import Domain
from volant.volantd.vms.events import GAP, Event
from volant.volantd.vms.fleet import Fleet
from volant.volantd.vms.lifecycle import find_guest_kernel
from volant.volantd.vms.networking import find_default_mode

HEARTBEAT_SECONDS = 15.0
EXAMINATION_SECONDS = 20.0
# What SQLite counts to.
EventNumber = Annotated[int, Field(ge=0, lt=1 << 63)]


def make_router(fleet: Fleet, domain: Domain) -> Router:
    """What lies under /api/v1."""
    router = Router()
    instance = secrets.token_hex(8)
    examination = Examination(list_probes(domain.settings))

    @router.get("/system/info", tags=["system"])
    async def info() -> SystemInfo:
        """Show hypervisor, accelerator, kernel and network of the daemon."""
        facts: dict[str, str] = {}
        try:
            kernel = await asyncio.to_thread(find_guest_kernel, domain.settings, host_architecture())
            facts["kernel"] = kernel.version
            support = await domain.hypervisor.find_support(host_architecture(), kernel=kernel.image)
            facts.update(
                hypervisor=f"{domain.hypervisor.kind} {support.version}",
                accelerator=support.accelerator,
                accelerator_reason=f"{support.reason} ({support.cure})" if support.cure else support.reason,
            )
        except VolantError as error:
            facts["accelerator_reason"] = error.what
        return SystemInfo(
            version=__version__,
            default_network=find_default_mode(domain.settings),
            state_dir=str(domain.settings.state_dir),
            instance=instance,
            vms=sum(domain.registry.count_states().values()),
            plugins=domain.plugins.count(),
            lost_and_found=[str(path) for path in LostAndFound(domain.settings.state_dir).list_all()],
            **facts,
        )

    @router.get("/system/audit", tags=["system"])
    async def audit(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
        target: Annotated[str, Query(description="only changes of what has this name")] = "",
    ) -> list[AuditEntry]:
        """List the newest changes that were asked for, oldest first."""
        entries = await asyncio.to_thread(domain.audit.read, limit, target)
        return [AuditEntry(**asdict(entry)) for entry in entries]

    @router.get("/system/kernels", tags=["system"])
    async def kernels() -> list[KernelInfo]:
        """List the kernels that guests can boot, each architecture's newest first."""
        return await asyncio.to_thread(list_kernels, domain.settings)

    @router.get("/system/doctor", tags=["system"])
    async def doctor() -> list[HostFinding]:
        """Show what the daemon's host can and cannot do, each finding with how to fix it. Takes seconds, at most 20."""
        findings = await asyncio.to_thread(examination.find_all, EXAMINATION_SECONDS)
        return [HostFinding(**asdict(finding)) for finding in findings]

    @router.get("/events/vms", tags=["events"], response_class=EventStream)
    async def events(
        vm: str = "",
        follow: bool = False,
        after: EventNumber | None = None,
        last_event_id: Annotated[EventNumber | None, Header()] = None,
    ) -> EventStream:
        """Server-sent events, oldest first: those kept (after a number), and with `follow` those that come.

        An event `gap` says that some are missing: they are kept no longer, or the database was lost.
        """
        start = last_event_id if last_event_id is not None else after

        async def stream() -> AsyncIterator[bytes]:
            # From where a client goes on whose connection breaks before the first event.
            here = domain.events.last_id if start is None else start
            if follow:
                yield f"retry: 1000\nid: {here}\n: connected\n\n".encode()
            found = domain.events.follow(start) if follow else domain.events.replay(start)
            async for event in found if not follow else with_pauses(found, HEARTBEAT_SECONDS):
                if event is None:
                    yield b": still here\n\n"
                elif vm in ("", event.vm) or event.kind == GAP:
                    yield format_event(event)

        return EventStream(stream(), headers={"Cache-Control": "no-store"})

    return router


def list_kernels(settings: Settings) -> list[KernelInfo]:
    found: list[KernelInfo] = []
    for architecture, name in list_all_kernels(settings.kernels_dir):
        has_other = settings.kernel is not None and architecture == host_architecture()
        is_first = all(kernel.architecture != architecture for kernel in found)
        found.append(KernelInfo(name=name, architecture=architecture, is_default=is_first and not has_other))
    return found


async def with_pauses(items: AsyncIterator[Event], seconds: float) -> AsyncIterator[Event | None]:
    """The items as they come, and None whenever none came for so long: who is gone is found out by writing."""
    coming = asyncio.ensure_future(anext(items))
    try:
        while True:
            await asyncio.wait({coming}, timeout=seconds)
            if not coming.done():
                yield None
                continue
            yield coming.result()
            coming = asyncio.ensure_future(anext(items))
    except StopAsyncIteration:
        return
    finally:
        coming.cancel()


def format_event(event: Event) -> bytes:
    """One event as the HTML standard spells it (section 9.2)."""
    data = json.dumps(asdict(event), separators=(",", ":"), ensure_ascii=False)
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n".encode("utf-8", "replace")


def make_root_router(registry: CollectorRegistry) -> Router:
    """What lies outside /api/v1."""
    router = Router(tags=["system"], base="")

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Answer 200 while the daemon serves."""
        return {"status": "ok", "version": __version__}

    @router.get("/metrics", response_class=Metrics)
    async def metrics() -> Metrics:
        """Prometheus' text format; docs/reference/metrics.md lists what there is."""
        return Metrics(generate_latest(registry))

    @router.get("/kestrel/latest/linux-{architecture}", response_class=Program)
    async def agent(architecture: Literal["amd64", "arm64"]) -> Program:
        """Read the guest agent of this installation."""
        return Program(find_agent(architecture), filename="kestrel")

    return router
