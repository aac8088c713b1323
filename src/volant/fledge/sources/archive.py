# SPDX-License-Identifier: Apache-2.0
"""Step 2 of the line: images that lie in files.

`docker save` and `podman save` archives, OCI layouts as folders and as tars. Nothing is unpacked: a layer is a byte
range of the archive. An archive that was compressed as a whole is inflated into a spool first.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from volant.errors import InvalidInput, NotFound
from volant.fledge.digests import parse_digest
from volant.fledge.image import OciImage
from volant.fledge.sources.manifest import (
    MAX_DOCUMENT_BYTES,
    Blob,
    choose_manifest,
    choose_reference,
    make_image,
    matches_tag,
    no_such_tag,
    open_image,
    parse_json,
    read_document,
    several_images,
)  # fmt: skip
from volant.fledge.spool import Limits, SpoolBudget, find_compression, inflate, open_spool
from volant.fledge.tar import HARD_LINK, REGULAR, SYMLINK, TarError, read_entries

_MAX_MEMBERS = 20_000
_MAX_MEMBER_NAME_BYTES = 4096
_MAX_LINKS = 16


class ArchiveMembers:
    """The regular files of an archive by name, links between them followed (`docker save` shares layers so)."""

    def __init__(self, path: Path, stack: ExitStack, limits: Limits) -> None:
        self.name = str(path)
        descriptor, length = open_file(path, stack)
        compression = find_compression(descriptor, 0, length, self.name)
        if compression != "plain":
            spool = open_spool(stack)
            budget = SpoolBudget(limits.spool_bytes)
            length = inflate(
                self.name, compression, descriptor, 0, length, diff_id=None, spool=spool, budget=budget
            )
            descriptor = spool
        self._files: dict[str, Blob] = {}
        self._links: dict[str, str] = {}
        try:
            for entry in read_entries(descriptor, 0, length):
                if max(len(entry.name), len(entry.link)) > _MAX_MEMBER_NAME_BYTES:
                    raise TarError("its name is too long", entry.name, entry.header_offset)
                name = posixpath.normpath("/" + os.fsdecode(entry.name)).lstrip("/")
                if entry.kind == REGULAR and entry.sparse is None:
                    self._files[name] = Blob(descriptor, entry.offset, entry.size)
                elif entry.kind in (SYMLINK, HARD_LINK):
                    folder = posixpath.dirname(name) if entry.kind == SYMLINK else ""
                    self._links[name] = posixpath.normpath(
                        posixpath.join("/", folder, os.fsdecode(entry.link))
                    ).lstrip("/")
                if len(self._files) + len(self._links) > _MAX_MEMBERS:
                    raise TarError(
                        "it has too many entries for an image archive", entry.name, entry.header_offset
                    )
        except TarError as error:
            raise InvalidInput(
                f"cannot read the image archive {path}: {error}", resolution="save the image again"
            ) from error

    def find(self, name: str) -> Blob | None:
        name = posixpath.normpath("/" + name).lstrip("/")
        for _ in range(_MAX_LINKS):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None

    def find_blob(self, digest: str) -> Blob | None:
        algorithm, value = parse_digest(digest)
        return self.find(f"blobs/{algorithm}/{value}")


class LayoutFolder:
    """The blobs of an OCI layout folder; each is opened when it is asked for and closed by the stack."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.name = str(folder)
        self._folder = folder
        self._stack = stack
        self._opened: dict[str, Blob] = {}

    def find_blob(self, digest: str) -> Blob | None:
        if digest not in self._opened:
            algorithm, value = parse_digest(digest)
            path = self._folder / "blobs" / algorithm / value
            if not path.is_file():
                return None
            descriptor, length = open_file(path, self._stack)
            self._opened[digest] = Blob(descriptor, 0, length)
        return self._opened[digest]


def open_file(path: Path, stack: ExitStack) -> tuple[int, int]:
    """A regular file's descriptor, closed by the stack, and its length. Raises NotFound, InvalidInput."""
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(f"cannot open {path}: no such file") from error
    except OSError as error:
        raise InvalidInput(f"cannot open {path}: {error.strerror}") from error
    stack.callback(os.close, descriptor)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(
            f"cannot read {path}: it is not a regular file", resolution="write the archive to a file first"
        )
    return descriptor, status.st_size


def open_docker_archive(
    path: Path,
    stack: ExitStack,
    *,
    tag: str | None = None,
    platform: str | None = None,
    limits: Limits | None = None,
) -> OciImage:
    """Open what `docker save`, `podman save` or `skopeo copy … docker-archive:` wrote (also gzipped).

    `tag` chooses among several images. Newer Docker puts an OCI layout into the same tar; either half is read. The
    stack closes what is opened. Raises NotFound, InvalidInput.
    """
    members = ArchiveMembers(path, stack, limits or Limits())
    listing = members.find("manifest.json")
    if listing is None:
        if members.find("index.json") is not None:
            return _open_layout(members, members.find("index.json"), stack, tag=tag, platform=platform)
        raise InvalidInput(
            f"cannot read {path}: it has neither manifest.json nor index.json, so it is no image archive",
            resolution="make one with docker save, podman save or skopeo copy",
        )
    images = _parse_listing(listing, members.name)
    image, reference = _choose_saved(images, members.name, tag)
    config_name, layer_names = image.get("Config"), image.get("Layers")
    if not isinstance(config_name, str) or not isinstance(layer_names, list):
        raise InvalidInput(f"cannot read {path}: its manifest.json names no config or no layers")
    config_blob = members.find(config_name)
    if config_blob is None:
        raise InvalidInput(f"cannot read {path}: {config_name[:100]} is missing")
    digest = _digest_in_name(config_name)
    config = read_document(config_blob, f"the config of {path}", digest)
    if digest is None:
        content = os.pread(config_blob.descriptor, config_blob.length, config_blob.offset)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
    blobs: list[tuple[Blob, str, str]] = []
    for name in layer_names:
        blob = members.find(str(name))
        if blob is None:
            raise InvalidInput(f"cannot read {path}: the layer {str(name)[:100]} is missing")
        folder, _, value = str(name).rpartition("/")
        layer_digest = f"sha256:{value}" if folder == "blobs/sha256" else ""
        if layer_digest:
            parse_digest(layer_digest)
        blobs.append((blob, layer_digest, ""))
    return make_image(
        config, digest, blobs, stack, where=members.name, platform=platform, reference=reference
    )


def _digest_in_name(name: str) -> str | None:
    """What a config's name promises: `<hex>.json` (Docker, podman), `blobs/sha256/<hex>` (Docker from version 25),
    `sha256:<hex>` (kaniko), or nothing (`config.json` of jib)."""
    value = posixpath.basename(name).removesuffix(".json").removeprefix("sha256:")
    is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
    return f"sha256:{value}" if is_digest else None


def _parse_listing(listing: Blob, where: str) -> list[dict[str, Any]]:
    if listing.length > MAX_DOCUMENT_BYTES:
        raise InvalidInput(f"cannot read {where}: its manifest.json is too long")
    try:
        images = parse_json(os.pread(listing.descriptor, listing.length, listing.offset))
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"cannot read {where}: its manifest.json is not JSON", details=str(error)
        ) from error
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise InvalidInput(f"cannot read {where}: its manifest.json is no list of images")
    return images


def _choose_saved(images: list[dict[str, Any]], where: str, tag: str | None) -> tuple[dict[str, Any], str]:
    tags = [[str(name) for name in _list_of(image.get("RepoTags"))] for image in images]
    if tag is not None:
        for image, names in zip(images, tags, strict=True):
            for name in names:
                if matches_tag(name, tag):
                    return image, name
        raise no_such_tag(where, tag, [name for names in tags for name in names])
    if len(images) == 1:
        return images[0], tags[0][0] if tags[0] else ""
    raise several_images(where, [names[0] if names else "" for names in tags], "docker-archive:")


def _list_of(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _open_layout(
    store: ArchiveMembers | LayoutFolder, index: Blob | None, stack: ExitStack, *, tag: str | None,
    platform: str | None,
) -> OciImage:  # fmt: skip
    if index is None:
        raise InvalidInput(
            f"cannot read {store.name}: it has no index.json, so it is no OCI layout",
            resolution="make one with skopeo copy … oci:FOLDER or oci-archive:FILE",
        )
    document = read_document(index, f"index.json of {store.name}", None)
    transport = "oci:" if isinstance(store, LayoutFolder) else "oci-archive:"
    entry, reference = choose_reference(document, store.name, tag, transport)
    if "digest" not in entry:
        entry = choose_manifest(entry, store.name, platform)
    return open_image(store, entry, stack, platform=platform, reference=reference)


def open_oci_archive(
    path: Path,
    stack: ExitStack,
    *,
    platform: str | None = None,
    tag: str | None = None,
    limits: Limits | None = None,
) -> OciImage:
    """Open a tar of an OCI layout (`podman save --format oci-archive`, `buildx --output type=oci`), also compressed.

    `platform` chooses from a multi-platform index (default: Linux on this machine), `tag` among several images.
    Raises NotFound, InvalidInput.
    """
    members = ArchiveMembers(path, stack, limits or Limits())
    index = members.find("index.json")
    if index is None and members.find("manifest.json") is not None:
        raise InvalidInput(
            f"cannot read {path}: it is a docker archive, no OCI archive", resolution="use --docker-archive"
        )
    return _open_layout(members, index, stack, tag=tag, platform=platform)


def open_oci_layout(
    folder: Path, stack: ExitStack, *, platform: str | None = None, tag: str | None = None
) -> OciImage:
    """Open an OCI layout folder. Parameters and errors as of `open_oci_archive`."""
    if not folder.is_dir():
        raise NotFound(f"cannot open the OCI layout {folder}: no such folder")
    path = folder / "index.json"
    index: Blob | None = None
    if path.is_file():
        descriptor, length = open_file(path, stack)
        index = Blob(descriptor, 0, length)
    return _open_layout(LayoutFolder(folder, stack), index, stack, tag=tag, platform=platform)
