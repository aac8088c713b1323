# SPDX-License-Identifier: Apache-2.0
"""Step 2 of the line: images that are fetched, by skopeo, from a registry, a Docker daemon or podman's storage.

skopeo copies into a folder in its `dir:` form: blobs and config stay byte for byte as the source has them, so
nothing is compressed again and Docker's HEALTHCHECK survives, which the OCI config of an `oci:` copy cannot hold.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

from volant.errors import InvalidInput, ToolFailed, Unreachable
from volant.fledge.digests import parse_digest
from volant.fledge.image import OciImage
from volant.fledge.scratch_folder import make_scratch_folder
from volant.fledge.sources.archive import open_docker_archive, open_file, open_oci_archive, open_oci_layout
from volant.fledge.sources.manifest import Blob, open_manifest, parse_platform, read_document
from volant.process import find_tool, require_tool, run_tool
from volant.progress import Monitor
from volant.registries.references import is_on_loopback

_FETCHED = ("docker://", "docker-daemon:", "containers-storage:")
_LOCAL = ("docker-archive:", "oci-archive:", "oci:")
_NO_ANSWER = re.compile(
    r"no such host|connection refused|i/o timeout|network is unreachable|TLS handshake|cannot connect to the docker",
    re.IGNORECASE,
)


class _CopiedFolder:
    """What skopeo's `dir:` wrote: each blob under its bare hexadecimal digest."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self.name = name
        self._folder = folder
        self._stack = stack

    def find_blob(self, digest: str) -> Blob | None:
        path = self._folder / parse_digest(digest)[1]
        return Blob(*open_blob(path, self._stack)) if path.is_file() else None


def open_blob(path: Path, stack: ExitStack) -> tuple[int, int, int]:
    descriptor, length = open_file(path, stack)
    return descriptor, 0, length


def split_reference(reference: str) -> tuple[str, str]:
    """A reference as skopeo spells it, as (transport with its separator, rest); a bare name is a registry's."""
    for transport in (*_FETCHED, *_LOCAL):
        if reference.startswith(transport):
            return transport, reference[len(transport) :]
    if re.match(r"[a-z-]+:/|(dir|sif|ostree|tarball):", reference):
        raise InvalidInput(
            f"cannot use the reference {reference!r}: this transport is not supported",
            resolution=f"use one of {' '.join((*_FETCHED, *_LOCAL))}",
        )
    if not reference or reference.startswith("-") or any(character.isspace() for character in reference):
        raise InvalidInput(f"cannot understand the image reference {reference!r}")
    return "docker://", reference


def find_docker_host() -> str:
    """The address of the Docker daemon that the docker command speaks to; "" for skopeo's own default.

    skopeo knows neither DOCKER_HOST nor Docker's contexts, which rootless and desktop installations rely on.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return host
    docker = find_tool("docker")
    if docker is None:
        return ""
    command = [docker, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    found = run_tool(command, accepted_exit_codes=range(256), timeout_seconds=20)
    return found.stdout.strip() if found.returncode == 0 else ""


def fetch_reference(
    reference: str, stack: ExitStack, monitor: Monitor, platform: str | None = None
) -> OciImage:
    """Fetch an image into a temporary folder, or open a local archive or layout that the reference names.

    `docker://` may be left out; credentials are those of `skopeo login`, `podman login` or `docker login`. The
    stack removes what was fetched. Raises InvalidInput, ToolMissing, Unreachable, ToolFailed.
    """
    transport, rest = split_reference(reference)
    if transport in _LOCAL:
        return _open_local(transport, rest, stack, platform)
    skopeo = require_tool("skopeo")
    daemon: list[str] = []
    if transport == "docker-daemon:":
        if ":" not in rest and "@" not in rest:
            rest += ":latest"
        host = find_docker_host()
        daemon = ["--src-daemon-host", host] if host else []
    folder = make_scratch_folder(stack)
    operating_system, architecture, variant = parse_platform(platform)
    arguments = [
        skopeo, "--insecure-policy", "--tmpdir", str(folder),
        "--override-os", operating_system, "--override-arch", architecture,
        *(["--override-variant", variant] if variant else []),
        "copy", "--remove-signatures", "--retry-times", "2",
        *(["--src-tls-verify=false"] if transport == "docker://" and is_on_loopback(rest) else []),
        *daemon, transport + rest, f"dir:{folder / 'image'}",
    ]  # fmt: skip
    monitor.step(f"fetch {reference}")
    try:
        run_tool(arguments, what=f"fetch the image {reference}")
    except ToolFailed as error:
        if _NO_ANSWER.search(str(error)):
            raise Unreachable(
                f"cannot fetch the image {reference}: no answer",
                details=error.details,
                resolution="start Docker, or set DOCKER_HOST to where it listens"
                if transport == "docker-daemon:"
                else "check the name, the network and, for a private registry, skopeo login",
            ) from error
        error.resolution = (
            error.resolution or "check the name and tag, and log in with skopeo login if it is private"
        )
        raise
    image_folder = folder / "image"
    descriptor, length = open_file(image_folder / "manifest.json", stack)
    manifest = read_document(Blob(descriptor, 0, length), f"the manifest of {reference}", None)
    store = _CopiedFolder(image_folder, reference, stack)
    return open_manifest(store, manifest, stack, platform=platform, reference=rest.lstrip("/"))


def _open_local(transport: str, rest: str, stack: ExitStack, platform: str | None) -> OciImage:
    # A file whose own name holds a colon is a file all the same.
    path, _, tag = (rest, "", "") if os.path.exists(rest) else rest.partition(":")
    if transport == "docker-archive:":
        return open_docker_archive(Path(path), stack, tag=tag or None, platform=platform)
    if transport == "oci-archive:":
        return open_oci_archive(Path(path), stack, tag=tag or None, platform=platform)
    return open_oci_layout(Path(path), stack, tag=tag or None, platform=platform)
