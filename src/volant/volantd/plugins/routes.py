# SPDX-License-Identifier: Apache-2.0
"""/plugins"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import fields
from typing import BinaryIO

from fastapi import APIRouter, Request, Response

from volant.contract.api import Plugin
from volant.contract.request_values import RequestModel
from volant.errors import UsageError
from volant.volantd.api.replies import TarStream
from volant.volantd.api.uploads import open_body
from volant.volantd.plugins.exporting import export_plugin
from volant.volantd.plugins.sources import open_path, open_url
from volant.volantd.plugins.store import InstalledPlugin, PluginStore
from volant.volantd.request_context import note_target


class PluginSource(RequestModel):
    """Where the daemon shall take the archive from: exactly one of both."""

    url: str | None = None
    path: str | None = None

    def open(self) -> BinaryIO:
        if (self.url is None) == (self.path is None):
            raise UsageError("cannot install: give exactly one of url and path")
        return open_url(self.url) if self.url is not None else open_path(self.path or "")


def make_router(plugins: PluginStore) -> APIRouter:
    router = APIRouter(prefix="/plugins", tags=["plugins"])

    @router.post("", status_code=201)
    async def install(request: Request, response: Response) -> Plugin:
        """Install from the body (the archive itself) or, with a JSON body, from a path of the host or a URL."""
        if request.headers.get("content-type", "").startswith("application/json"):
            source = PluginSource.model_validate_json(await request.body())
            name = source.url or source.path or ""
            stream = await asyncio.to_thread(source.open)
        else:
            name = "the uploaded plugin"
            stream = open_body(request.stream())
        with contextlib.closing(stream):
            plugin, is_new = await plugins.install(stream, source=name)
        note_target(f"{plugin.name}:{plugin.version}")
        response.status_code = 201 if is_new else 200
        return describe(plugin)

    @router.get("")
    async def list_plugins() -> list[Plugin]:
        return [describe(plugin) for plugin in plugins.list_all()]

    @router.get("/{name}")
    async def get(name: str, version: str = "") -> Plugin:
        return describe(plugins.get(make_reference(name, version)))

    @router.get("/{name}/archive", response_class=TarStream)
    async def export(name: str, version: str = "") -> TarStream:
        """The plugin as an archive that can be installed elsewhere."""
        exported = export_plugin(plugins.load(make_reference(name, version)))
        return TarStream(exported.chunks(), headers={"Content-Length": str(exported.size_bytes)})

    @router.post("/{name}/enable")
    async def enable(name: str, version: str = "") -> Plugin:
        return describe(plugins.enable(make_reference(name, version), True))

    @router.post("/{name}/disable")
    async def disable(name: str, version: str = "") -> Plugin:
        return describe(plugins.enable(make_reference(name, version), False))

    @router.delete("/{name}", status_code=204)
    async def remove(name: str, version: str = "") -> None:
        await plugins.remove(make_reference(name, version))

    return router


def describe(plugin: InstalledPlugin) -> Plugin:
    return Plugin(**{field.name: getattr(plugin, field.name) for field in fields(plugin)})


def make_reference(name: str, version: str) -> str:
    return f"{name}:{version}" if version else name
