# SPDX-License-Identifier: Apache-2.0
"""A plugin's file on its way to the daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from volant.client.client import Client
from volant.contract.plugin_evidence import find_bundle, write_line
from volant.errors import NotFound

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin
    from volant.plugin_sources.workplace import Workplace


def upload_plugin(client: Client, path: Path, workplace: Workplace | None = None) -> Plugin:
    """Send a file and the signature beside it, with a bar on a terminal where no other workplace is named.

    Conflict where the same name and version has other bytes.
    """
    from volant.plugin_sources.workplace import Terminal

    try:
        stream = path.open("rb")
    except OSError as error:
        raise NotFound(
            f"cannot install {path}: {error.strerror}",
            resolution="build one with 'fledge build', then name its file",
        ) from error
    with stream:
        length = os.fstat(stream.fileno()).st_size
        bundle = find_bundle(path)
        evidence = write_line(bundles=[bundle]) if bundle else b""
        return client.upload_plugin((workplace or Terminal()).read(stream, length), length, evidence)
