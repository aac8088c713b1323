# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import tarfile
from pathlib import Path

from support.memory_fleet import open_fleet
from volant.volantd.plugins.exporting import export_plugin


async def test_what_is_exported_is_installed_as_it_was(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as fleet:
        plugins = fleet.domain.plugins
        exported = export_plugin(plugins.load("web"))
        content = b"".join(exported.chunks())
        assert len(content) == exported.size_bytes
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            assert archive.getnames()[0] == "manifest.json"
        before = plugins.get("web")
        await plugins.remove("web")
        after, is_new = await plugins.install(io.BytesIO(content), source="exported")
        assert is_new
        assert (after.checksum, after.manifest) == (before.checksum, before.manifest)
