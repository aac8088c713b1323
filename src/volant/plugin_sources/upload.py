# SPDX-License-Identifier: Apache-2.0
"""A plugin's file on its way to the daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from volant.client.client import Client
from volant.contract.plugin_evidence import find_bundle, write_line
from volant.errors import NotFound

if TYPE_CHECKING:
    from volant.contract.api_types import Plugin


def upload_plugin(client: Client, path: Path) -> Plugin:
    """Send a file and the signature beside it, with a bar on a terminal.

    Conflict where the same name and version has other bytes.
    """
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
        return client.upload_plugin(_show_upload(stream, length), length, evidence)


def _show_upload(stream: IO[bytes], length: int) -> Iterator[bytes]:
    sent, shown = 0, -1
    on_terminal = sys.stderr.isatty()
    while chunk := stream.read(1 << 20):
        yield chunk
        sent += len(chunk)
        if on_terminal and (percent := 100 * sent // max(length, 1)) != shown:
            shown = percent
            click.echo(f"\ruploading {percent} %", nl=percent == 100, err=True)
