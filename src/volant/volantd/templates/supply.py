# SPDX-License-Identifier: Apache-2.0
"""The templates of this daemon: which one serves a VM, and that there is one for the next VM of its shape."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from volant.errors import Unreachable, VolantError
from volant.volantd.hypervisors.base import Hypervisor
from volant.volantd.templates.making import make_template
from volant.volantd.templates.shape import Shape
from volant.volantd.templates.store import Template, TemplateStore

logger = logging.getLogger(__name__)

MOST_TRIES = 3


@dataclass
class TemplateSupply:
    """`is_on` False: nothing is made and nothing wakes."""

    store: TemplateStore
    hypervisor: Hypervisor
    runtime_dir: Path
    is_on: bool
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)
    _given_up: set[str] = field(default_factory=set)
    """Shapes of which a template could not be made: not again before the next daemon."""

    def find(self, shape: Shape) -> Template | None:
        return self.store.find(shape.key) if self.is_on else None

    def forget(self, template: Template) -> None:
        """It did not do."""
        self.store.remove(template.key)
        self._given_up.add(template.key)

    async def clear(self) -> None:
        """Remove all; what could not be made is tried again."""
        async with self._making:
            self._given_up.clear()
            for template in await asyncio.to_thread(self.store.list_all):
                await asyncio.to_thread(self.store.remove, template.key)

    async def provide(self, shape: Shape) -> Template | None:
        """Make the template of a shape where there is none; one at a time."""
        async with self._making:
            if not self.is_on or shape.key in self._given_up or self.store.find(shape.key) is not None:
                return None
            try:
                template = await self._make(shape)
            except (VolantError, OSError) as error:
                self._given_up.add(shape.key)
                logger.warning("no template is made: %s", error)
                return None
        logger.info(
            "a template of %d MiB was made in %.1f s", template.size_bytes >> 20, template.took_seconds
        )
        return template

    async def _make(self, shape: Shape) -> Template:
        """Again where the guest goes away, as one does whose boot went wrong by chance."""
        for _ in range(MOST_TRIES - 1):
            with suppress(Unreachable):
                return await make_template(shape, self.hypervisor, self.store, self.runtime_dir)
        return await make_template(shape, self.hypervisor, self.store, self.runtime_dir)
