# SPDX-License-Identifier: Apache-2.0
"""/templates: what VMs wake from."""

from __future__ import annotations

import asyncio

from volant.contract.system_api import TemplateInfo
from volant.volantd.api.router import Router
from volant.volantd.templates.store import Template
from volant.volantd.vms.fleet import Fleet


def make_router(fleet: Fleet) -> Router:
    router = Router(tags=["templates"])
    supply = fleet.domain.templates

    @router.get("/templates")
    async def list_templates() -> list[TemplateInfo]:
        """List templates, the last used first."""
        return [describe(template) for template in await asyncio.to_thread(supply.store.list_all)]

    @router.delete("/templates", status_code=204)
    async def clear() -> None:
        """Delete all templates. VMs that woke from them keep running; new ones are made after the next boots."""
        await supply.clear()

    return router


def describe(template: Template) -> TemplateInfo:
    return TemplateInfo(
        key=template.key,
        plugin=template.plugin,
        vcpu=template.vcpu,
        memory_mb=template.memory_mb,
        accelerator=template.accelerator,
        kernel=template.kernel,
        network=template.has_network,
        size_bytes=template.size_bytes,
        took_seconds=round(template.took_seconds, 2),
        created_at=template.created_at,
    )
