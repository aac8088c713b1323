# SPDX-License-Identifier: Apache-2.0
"""Folders of this host in VMs: whether the daemon may be asked for them, and those that are made for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from volant.errors import InvalidInput
from volant.volar.client import Client
from volant.volar.compose.host_paths import find_obstacle
from volant.volar.compose.requests import ServiceRequest


def check_folders(client: Client, requests: Iterable[ServiceRequest]) -> None:
    """InvalidInput where a service has some, and the daemon is one that reads no files of this user."""
    is_own = client.token is None and not client.address.startswith("http://")
    for request in requests:
        if request.body.get("mounts") and not is_own:
            raise InvalidInput(
                f"cannot give services.{request.name} folders of this host: the daemon is elsewhere, or asked by a"
                " token",
                resolution="put the files into the image or into a volume (volar cp), or mount single files",
            )


def make_folders(requests: Iterable[ServiceRequest]) -> list[str]:
    """Those that are missing, unless the file says `create_host_path: false`; what was made."""
    made = []
    for request in requests:
        for number, volume in enumerate(request.service.volumes):
            path = Path(volume.source or "")
            is_wanted = (volume.bind or {}).get("create_host_path", True)
            if (
                volume.type != "bind"
                or not volume.source
                or not is_wanted
                or path.exists()
                or find_obstacle(path)
            ):
                continue
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidInput(
                    f"cannot use services.{request.name}.volumes[{number}]: cannot make {path}: {error.strerror}"
                ) from error
            made.append(str(path))
    return made
