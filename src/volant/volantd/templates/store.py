# SPDX-License-Identifier: Apache-2.0
"""Templates on disk: a folder each, under the key of its shape, with `template.json` and the memory's two files.

They can be made again at any time: how many there are and how large is bounded, what was used longest ago goes first,
and all of an exchanged kernel, agent or hypervisor go.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from volant.volantd.folder_store import FolderStore
from volant.volantd.hypervisors.base import Accelerator, MemoryImage

MOST_TEMPLATES = 8
MOST_BYTES = 2 << 30


class Template(BaseModel):
    """`image` is the memory that VMs of the shape `key` wake from, the rest what people want to know of it.

    With `plugin` its workload is up in it: the memory knows the `disk` beside it, which stands on `payload`.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    key: str
    versions: str
    image: MemoryImage
    plugin: str = ""
    payload: Path | None = None
    vcpu: int
    memory_mb: int
    accelerator: Accelerator
    kernel: str
    kernel_file: Path | None = None
    has_network: bool
    size_bytes: int
    took_seconds: float
    created_at: str

    @property
    def disk(self) -> Path:
        return self.image.folder / "disk"


class TemplateStore(FolderStore[Template]):
    """Blocking, and quick but for removing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Template, "template")

    def find(self, key: str) -> Template | None:
        """The template of a shape, which counts as used now."""
        template = self.read(key)
        if template is None:
            self.remove(key)
        else:
            os.utime(self.find_record(key))
        return template

    def list_all(self) -> list[Template]:
        """Used last first."""
        return self.read_all(lambda template: -self.find_record(template.key).stat().st_mtime)

    def publish(self, template: Template, hidden: Path) -> None:
        self.put(template.key, template, hidden)
        self._bound(template)

    def remove_orphans(self) -> None:
        """Those of plugins that are gone."""
        for template in self.list_all():
            if template.payload is not None and not template.payload.exists():
                self.remove(template.key)

    def _bound(self, newest: Template) -> None:
        kept_bytes = 0
        for count, template in enumerate(self.list_all(), start=1):
            kept_bytes += template.size_bytes
            if _is_old(template, newest) or count > MOST_TEMPLATES or kept_bytes > MOST_BYTES:
                self.remove(template.key)

    def remove(self, key: str) -> None:
        """VMs that woke from it have copies."""
        self.take_away(key)


def _is_old(template: Template, newest: Template) -> bool:
    """Nothing of its shape starts any more. VMs of two kernels have templates beside each other."""
    if any(file is not None and not file.exists() for file in (template.kernel_file, template.payload)):
        return True
    return template.kernel_file == newest.kernel_file and template.versions != newest.versions
