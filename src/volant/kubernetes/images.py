# SPDX-License-Identifier: Apache-2.0
"""A container's image as a plugin of the daemon: there already, pulled as a plugin, or converted once and kept."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

from volant.client import Client
from volant.errors import InvalidInput, VolantError
from volant.plugin_sources.making import BuildOptions, make_plugin
from volant.plugin_sources.source import find_image
from volant.plugin_sources.transfer import pull_and_install
from volant.registries.references import is_reference


class Images:
    """One conversion at a time, since it takes all cores; whoever wants the same image waits for it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = asyncio.Lock()

    async def provide(self, image: str, policy: str | None) -> str:
        """NAME:VERSION of the image's plugin. `policy`: imagePullPolicy. Raises VolantError."""
        async with self._lock:
            return await asyncio.to_thread(self._provide, image, policy or "IfNotPresent")

    def _provide(self, image: str, policy: str) -> str:
        if policy == "Never" or not is_reference(image):
            return self._make(image, "never" if policy == "Never" else "missing")
        with suppress(VolantError):
            if policy != "Always":
                return self._make(image, "never")
        try:
            plugin = pull_and_install(self._client, image)
        except InvalidInput:
            # It is an image, and no plugin.
            return self._make(image, "always")
        return f"{plugin['name']}:{plugin['version']}"

    def _make(self, image: str, pull: Literal["missing", "always", "never"]) -> str:
        """Who makes pods is not who owns this host: no path of it is an image."""
        return make_plugin(self._client, image, BuildOptions(pull=pull), find_image)
