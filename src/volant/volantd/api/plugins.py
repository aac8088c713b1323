# SPDX-License-Identifier: Apache-2.0
"""/plugins"""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO

from fastapi import APIRouter, Request, Response

from volant.contract.api import ApiModel, Plugin
from volant.errors import InvalidInput, NotFound, Unreachable, UsageError
from volant.volantd.api.uploads import open_body
from volant.volantd.plugins.store import PluginStore

DOWNLOAD_TIMEOUT_SECONDS = 60


class PluginSource(ApiModel):
    """Where the daemon shall take the archive from: exactly one of both."""

    url: str | None = None
    path: str | None = None


def make_router(plugins: PluginStore) -> APIRouter:
    router = APIRouter(prefix="/plugins", tags=["plugins"])

    @router.post("", status_code=201)
    async def install(request: Request, response: Response) -> Plugin:
        """Install from the body (the archive itself) or, with a JSON body, from a path of the host or a URL."""
        if request.headers.get("content-type", "").startswith("application/json"):
            source = PluginSource.model_validate_json(await request.body())
            name = source.url or source.path or ""
            stream = await asyncio.to_thread(open_source, source)
        else:
            name = "the uploaded plugin"
            stream = open_body(request.stream())
        with contextlib.closing(stream):
            plugin, is_new = await plugins.install(stream, source=name)
        response.status_code = 201 if is_new else 200
        return plugin

    @router.get("")
    async def list_plugins() -> list[Plugin]:
        return plugins.list_all()

    @router.get("/{name}")
    async def get(name: str, version: str = "") -> Plugin:
        return plugins.get(make_reference(name, version))

    @router.post("/{name}/enable")
    async def enable(name: str, version: str = "") -> Plugin:
        return plugins.enable(make_reference(name, version), True)

    @router.post("/{name}/disable")
    async def disable(name: str, version: str = "") -> Plugin:
        return plugins.enable(make_reference(name, version), False)

    @router.delete("/{name}", status_code=204)
    async def remove(name: str, version: str = "") -> None:
        await plugins.remove(make_reference(name, version))

    return router


def make_reference(name: str, version: str) -> str:
    return f"{name}:{version}" if version else name


def open_source(source: PluginSource) -> BinaryIO:
    """Open what the host itself can reach; blocking."""
    if (source.url is None) == (source.path is None):
        raise UsageError("cannot install: give exactly one of url and path")
    if source.path is not None:
        try:
            return Path(source.path).open("rb")
        except OSError as error:
            raise NotFound(f"cannot install {source.path}: {error.strerror}") from error
    assert source.url is not None
    if not source.url.startswith(("http://", "https://")):
        raise InvalidInput(f"cannot install {source.url}: only http and https addresses are fetched")
    try:
        reply: BinaryIO = urllib.request.urlopen(source.url, timeout=DOWNLOAD_TIMEOUT_SECONDS)  # noqa: S310  # checked above
    except urllib.error.HTTPError as error:
        raise NotFound(f"cannot fetch {source.url}: HTTP {error.code} {error.reason}") from error
    except OSError as error:
        raise Unreachable(f"cannot fetch {source.url}: {error}") from error
    return reply
