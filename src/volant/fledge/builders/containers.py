# SPDX-License-Identifier: Apache-2.0
"""podman and buildah: programs without a daemon over one store of images, with the same build code inside."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from volant.fledge.builders.base import (
    Builder,
    BuilderName,
    BuildRequest,
    Isolation,
    common_arguments,
)
from volant.fledge.epoch import read_epoch
from volant.fledge.known_digests import find_cache_folder


class _ContainersBuilder(Builder):
    """What the two have in common."""

    isolations: ClassVar[tuple[Isolation, ...]] = ("configured", "chroot")
    relies_on: ClassVar[tuple[str, ...]] = (
        "crun", "runc", "newuidmap", "newgidmap", "fuse-overlayfs", "slirp4netns", "pasta", "netavark",
        "/etc/subuid", "/etc/subgid", "/etc/containers/containers.conf", "/etc/containers/storage.conf",
        "~/.config/containers/containers.conf", "~/.config/containers/storage.conf",
    )  # fmt: skip
    verb: ClassVar[str]

    def find_absence(self) -> str:
        return ""  # without a daemon, a program that is there answers

    def build_arguments(self, request: BuildRequest, folder: Path) -> list[str]:
        # Docker's format keeps HEALTHCHECK, which the OCI format has no place for.
        arguments = [self.program, self.verb, "--format", "docker", *common_arguments(request, folder)]
        arguments += ["--layers"] if request.use_cache else ["--layers=false"]
        if self.isolation == "chroot":
            arguments += ["--isolation", "chroot"]
        if request.ignore_file is not None:
            arguments += ["--ignorefile", str(request.ignore_file)]
        if (epoch := read_epoch()) is not None:
            arguments += ["--timestamp", str(epoch)]
        return [*arguments, str(request.context)]

    def remove_arguments(self, image_id: str) -> list[str]:
        return [self.program, "rmi", "--force", image_id.removeprefix("sha256:")]

    def environment(self) -> dict[str, str]:
        """A runtime folder that lasts: without one both take a place below TMPDIR, which is our scratch folder.

        podman would keep a process for each such place, and `su` and `sudo -u` hand on another user's folder.
        """
        if os.geteuid() == 0 or is_own_folder(os.environ.get("XDG_RUNTIME_DIR", "")):
            return {}
        return {"XDG_RUNTIME_DIR": find_runtime_folder()}


def find_runtime_folder() -> str:
    """Where podman itself goes when nobody says: the session's folder, else one of its name for temporary files."""
    user = os.geteuid()
    places = (f"/run/user/{user}", f"{os.environ.get('TMPDIR') or '/tmp'}/podman-run-{user}")  # noqa: S108
    for place in (*places, str(find_cache_folder() / "run")):
        with suppress(OSError):
            os.makedirs(place, mode=0o700, exist_ok=True)
        if is_own_folder(place):
            return place
    return ""


def is_own_folder(place: str) -> bool:
    """Whether a place is a folder that belongs to this user, and not a link that somebody else has laid."""
    try:
        status = os.lstat(place)
    except OSError:
        return False
    return (
        stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and os.access(place, os.W_OK | os.X_OK)
    )


class Podman(_ContainersBuilder):
    name: ClassVar[BuilderName] = "podman"
    verb: ClassVar[str] = "build"

    def driver_arguments(self) -> list[str]:
        return [self.program, "info", "--format", "{{.Store.GraphDriverName}}"]

    def export_arguments(self, image_id: str, target: Path) -> list[str]:
        reference = image_id.removeprefix("sha256:")
        return [
            self.program, "save", "--quiet", "--format", "docker-archive", "--output", str(target), reference,
        ]  # fmt: skip


class Buildah(_ContainersBuilder):
    name: ClassVar[BuilderName] = "buildah"
    verb: ClassVar[str] = "bud"

    def driver_arguments(self) -> list[str]:
        return [self.program, "info", "--format", "{{.store.GraphDriverName}}"]

    def export_arguments(self, image_id: str, target: Path) -> list[str]:
        reference = image_id.removeprefix("sha256:")
        return [self.program, "push", "--quiet", reference, f"docker-archive:{target}"]
