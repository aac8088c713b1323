# SPDX-License-Identifier: Apache-2.0
"""/plugins, and /system/policy: which of them are taken."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, BinaryIO

from fastapi import Query, Request, Response

from volant.contract.api import Plugin
from volant.contract.plugin_evidence import CONTENT_TYPE, find_bundle
from volant.contract.request_values import RequestModel
from volant.contract.system_api import TrustRule
from volant.errors import UsageError
from volant.volantd.api.replies import TarStream
from volant.volantd.api.router import Router
from volant.volantd.api.uploads import open_body
from volant.volantd.plugins import trust
from volant.volantd.plugins.evidence import Evidence, read_evidence
from volant.volantd.plugins.exporting import export_plugin
from volant.volantd.plugins.sources import fetch_bundle, open_path, open_url
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

    def find_evidence(self) -> Evidence:
        """The signature beside the archive."""
        bundle = fetch_bundle(self.url) if self.url is not None else find_bundle(Path(self.path or ""))
        return Evidence(bundles_base64=[base64.b64encode(bundle).decode()] if bundle else [])


def make_router(plugins: PluginStore) -> Router:
    router = Router("/plugins", tags=["plugins"])

    @router.post("", status_code=201)
    async def install(request: Request, response: Response) -> Plugin:
        """Install from the body (the archive itself) or, with a JSON body, from a path of the host or a URL.

        As `application/vnd.volant.plugin-with-evidence` the body begins with a line of JSON: where the archive comes
        from, and signatures.
        """
        kind = request.headers.get("content-type", "")
        evidence = Evidence()
        if kind.startswith("application/json"):
            source = PluginSource.model_validate_json(await request.body())
            name = source.url or source.path or ""
            stream = await asyncio.to_thread(source.open)
            if plugins.policy.list_all():
                evidence = await asyncio.to_thread(source.find_evidence)
        else:
            name = "the uploaded plugin"
            stream = open_body(request.stream())
            if kind == CONTENT_TYPE:
                evidence = await asyncio.to_thread(read_evidence, stream)
                name = evidence.reference or name
        with contextlib.closing(stream):
            plugin, is_new = await plugins.install(stream, source=name, evidence=evidence)
        note_target(f"{plugin.name}:{plugin.version}")
        response.status_code = 201 if is_new else 200
        return describe(plugin)

    @router.get("")
    async def list_plugins() -> list[Plugin]:
        """List the installed plugins."""
        return [describe(plugin) for plugin in plugins.list_all()]

    @router.get("/{name}")
    async def get(name: str, version: str = "") -> Plugin:
        """Show one plugin."""
        return describe(plugins.get(make_reference(name, version)))

    @router.get("/{name}/archive", response_class=TarStream)
    async def export(name: str, version: str = "") -> TarStream:
        """Read the plugin as an archive that can be installed elsewhere."""
        exported = export_plugin(plugins.load(make_reference(name, version)))
        return TarStream(exported.chunks(), headers={"Content-Length": str(exported.size_bytes)})

    @router.post("/{name}/enable")
    async def enable(name: str, version: str = "") -> Plugin:
        """Allow new VMs of a plugin again."""
        return describe(plugins.enable(make_reference(name, version), True))

    @router.post("/{name}/disable")
    async def disable(name: str, version: str = "") -> Plugin:
        """Refuse new VMs of a plugin; existing ones are kept."""
        return describe(plugins.enable(make_reference(name, version), False))

    @router.delete("/{name}", status_code=204)
    async def remove(name: str, version: str = "") -> None:
        """Remove a plugin; 409 if a VM uses it."""
        await plugins.remove(make_reference(name, version))

    return router


def make_policy_router(policy: trust.TrustPolicy) -> Router:
    router = Router("/system/policy", tags=["system"])

    def list_rules() -> list[TrustRule]:
        return [
            TrustRule(scope=rule.scope, verdict=rule.verdict, keys=list(rule.keys))
            for rule in policy.list_all()
        ]

    @router.get("")
    async def policy_show() -> list[TrustRule]:
        """List the policy's rules by scope. Without any rule, every plugin is accepted."""
        return list_rules()

    @router.put("")
    async def policy_set(request: TrustRule) -> list[TrustRule]:
        """Set a rule, in place of the one for the same scope. Installed plugins are kept."""
        note_target(request.scope)
        policy.set(trust.TrustRule(request.scope, request.verdict, tuple(request.keys)))
        return list_rules()

    @router.delete("", status_code=204)
    async def policy_remove(scope: Annotated[str, Query(max_length=512)]) -> None:
        """Remove the rule for a scope."""
        note_target(scope)
        policy.remove(scope)

    return router


def describe(plugin: InstalledPlugin) -> Plugin:
    return Plugin(**{field.name: getattr(plugin, field.name) for field in fields(plugin)})


def make_reference(name: str, version: str) -> str:
    return f"{name}:{version}" if version else name
