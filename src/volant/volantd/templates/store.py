# SPDX-License-Identifier: Apache-2.0
"""Templates on disk: a folder each, under the key of its shape, with `template.json` and the memory's two files.

One is made under a hidden name and renamed when it is whole. They can be made again at any time: how many there are and
how large is bounded, what was used longest ago goes first, and all of an exchanged kernel, agent or hypervisor go.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from volant.volantd.hypervisors.base import Accelerator, MemoryImage
from volant.whole_file import write_whole_file

logger = logging.getLogger(__name__)

FILE = "template.json"
MOST_TEMPLATES = 8
MOST_BYTES = 2 << 30


class Template(BaseModel):
    """`image` is the memory that VMs of the shape `key` wake from, the rest what people want to know of it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key: str
    versions: str
    image: MemoryImage
    vcpu: int
    memory_mb: int
    accelerator: Accelerator
    kernel: str
    has_network: bool
    size_bytes: int
    took_seconds: float
    created_at: str


class TemplateStore:
    """Blocking, and quick but for removing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Template | None:
        """The template of a shape, which counts as used now."""
        place = self.folder / key
        try:
            template = Template.model_validate_json((place / FILE).read_bytes())
            os.utime(place / FILE)
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("the template in %s cannot be read: %s", place, error)
            self.remove(key)
            return None
        return template

    def list_all(self) -> list[Template]:
        """Used last first."""
        found = []
        for place in self.folder.glob("[!.]*") if self.folder.is_dir() else ():
            try:
                used = (place / FILE).stat().st_mtime
                found.append((used, Template.model_validate_json((place / FILE).read_bytes())))
            except (OSError, ValidationError) as error:
                logger.warning("the template in %s cannot be read: %s", place, error)
        return [template for _, template in sorted(found, key=lambda pair: pair[0], reverse=True)]

    @contextmanager
    def draft(self, key: str) -> Iterator[Path]:
        """The hidden folder of a template to be; gone when it is left unless `publish` came first."""
        hidden = self.folder / f".{key}"
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir(parents=True, mode=0o700)
        try:
            yield hidden
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    def publish(self, template: Template, hidden: Path) -> None:
        write_whole_file(hidden / FILE, template.model_dump_json().encode(), mode=0o600)
        hidden.rename(self.folder / template.key)
        self._bound(template)

    def _bound(self, newest: Template) -> None:
        kept_bytes = 0
        for count, template in enumerate(self.list_all(), start=1):
            kept_bytes += template.size_bytes
            is_old = template.versions != newest.versions
            if is_old or count > MOST_TEMPLATES or kept_bytes > MOST_BYTES:
                self.remove(template.key)

    def remove(self, key: str) -> None:
        """VMs that woke from it have copies."""
        hidden = self.folder / f".removed-{key}"
        shutil.rmtree(hidden, ignore_errors=True)
        try:
            (self.folder / key).rename(hidden)
        except FileNotFoundError:
            return
        shutil.rmtree(hidden, ignore_errors=True)

    def list_hidden(self) -> list[Path]:
        """What a daemon that was killed has left."""
        return list(self.folder.glob(".*")) if self.folder.is_dir() else []
