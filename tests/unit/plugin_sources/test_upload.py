# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.in_process_daemon import InProcessDaemon
from support.plugin_files import make_initramfs, make_plugin
from volant.errors import Conflict, NotFound
from volant.plugin_sources.upload import upload_plugin


def test_a_file_is_sent_and_one_with_other_bytes_is_a_conflict(
    daemon: InProcessDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "sent.tar.gz"
    path.write_bytes(make_plugin("sent"))
    assert upload_plugin(daemon.client, path)["name"] == "sent"
    assert upload_plugin(daemon.client, path)["version"] == "1.0.0", "the same bytes are no conflict"
    path.write_bytes(make_plugin("sent", payload=make_initramfs(b"other")))
    with pytest.raises(Conflict):
        upload_plugin(daemon.client, path)
    with pytest.raises(NotFound, match="cannot install"):
        upload_plugin(daemon.client, tmp_path / "none")
