# SPDX-License-Identifier: Apache-2.0
"""What people name to `volar run`: a folder, a Dockerfile, a recipe, an archive, a plugin's file or an image."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from pathlib import Path
from typing import NamedTuple

from volant.client.client import Client
from volant.errors import InvalidInput, NotFound

DEFAULT_REGISTRY = "docker.io"
# Where an image's tag is no version of its own, the tag follows this one: 0.1.0+latest.
BASE_VERSION = "0.1.0"
SEMANTIC = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?\Z")
TRANSPORT = re.compile(r"(docker|docker-daemon|containers-storage|docker-archive|oci-archive|oci):")
# github.com/distribution/reference, grammar of a reference.
_IMAGE = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?/)?"
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[a-z0-9]+:[0-9a-f]{32,})?"
)


# An image of Docker's library whose name and tag a plugin's name says without loss.
_SPOKEN_WHOLE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}(:[0-9A-Za-z.-]+)?")


class PluginFile(NamedTuple):
    """A plugin.tar.gz that is there already."""

    path: Path


class Installed(NamedTuple):
    """A plugin that the daemon has, by NAME or NAME:VERSION."""

    reference: str


class Build(NamedTuple):
    """Something for fledge: its arguments after `fledge build`."""

    arguments: tuple[str, ...]


class Image(NamedTuple):
    """An image by its reference; `tag` is the NAME:VERSION that a plugin of it has here."""

    reference: str
    tag: str


Source = PluginFile | Installed | Build | Image


def find_source(text: str, client: Client) -> Source:
    """What `text` means. Paths that look like paths come first, then plugins, other paths, and images at last."""
    path = Path(text).expanduser()
    if text.startswith((".", "/", "~")) or text.endswith((".tar", ".tar.gz", ".tgz", ".toml")):
        return read_path(path)
    if text in ("Dockerfile", "Containerfile"):
        return read_path(path)
    if TRANSPORT.match(text):
        return Image(text, name_image(TRANSPORT.sub("", text, count=1).lstrip("/")))
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*(:[^/]+)?", text) and has_plugin(client, text):
        return Installed(text)
    if path.exists():
        return read_path(path)
    return Image(text, name_image(text))


def find_image(text: str, client: Client) -> Installed | Image:
    """What `text` means where somebody else says it: a plugin or an image by name, and never a path of this machine.

    A plugin's name has less room than an image's. Where two images would have one, a digest of the whole name tells
    them apart: who says it must not get, or leave, what somebody else calls by another name. Raises InvalidInput.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_-]*(:[^/]+)?", text) and has_plugin(client, text):
        return Installed(text)
    plain = text.removeprefix("docker://")
    # In whole, so that no part of it is taken for a transport of skopeo's, of which most are paths.
    whole = _complete(plain)
    if not _IMAGE.fullmatch(plain) or TRANSPORT.match(whole):
        raise InvalidInput(
            f"cannot understand the image reference {text!r}",
            resolution="name an installed plugin (web:1.2.0), or an image or a plugin in a registry"
            " (registry.example.com/team/web:1.2.0)",
        )
    tag = name_image(plain)
    if not _SPOKEN_WHOLE.fullmatch(plain):
        digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
        tag = f"{tag}{'.' if '+' in tag else '+'}{digest}"
    return Image(whole, tag)


def has_plugin(client: Client, reference: str) -> bool:
    try:
        client.get_plugin(reference)
    except (NotFound, InvalidInput):
        return False
    return True


def read_path(path: Path) -> Source:
    """What is in a file or a folder."""
    if path.is_dir():
        if (path / "oci-layout").is_file():
            return Build(("--oci-layout", str(path)))
        return Build((str(path),))
    if not path.exists():
        raise NotFound(
            f"cannot run {path}: it is not there",
            resolution="volar run FOLDER, Dockerfile, plugin.tar.gz, or an image such as nginx:1.27",
        )
    if path.suffix == ".toml":
        return Build(("--config", str(path)))
    if path.suffix in (".tar", ".gz", ".tgz"):
        return read_archive(path)
    return Build((str(path),))


def read_archive(path: Path) -> Source:
    """A plugin has a manifest that is an object, `docker save` writes one that is a list, OCI has its own marker."""
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name == "manifest.json" and (stream := archive.extractfile(member)):
                    is_plugin = isinstance(json.load(stream), dict)
                    return PluginFile(path) if is_plugin else Build(("--docker-archive", str(path)))
                if member.name in ("oci-layout", "./oci-layout"):
                    return Build(("--oci-archive", str(path)))
    except (tarfile.TarError, ValueError, EOFError, OSError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from error
    raise InvalidInput(
        f"cannot run {path}: it is neither a plugin nor an image",
        resolution="a plugin comes from fledge build, an image archive from docker save or podman save",
    )


def complete_reference(reference: str) -> str:
    """An image's whole name, as Docker completes it: nginx is docker.io/library/nginx."""
    return reference if TRANSPORT.match(reference) else _complete(reference)


def _complete(reference: str) -> str:
    host, slash, _ = reference.partition("/")
    if slash and (host == "localhost" or "." in host or ":" in host):
        return reference
    return f"{DEFAULT_REGISTRY}/{'' if slash else 'library/'}{reference}"


def name_image(reference: str) -> str:
    """NAME:VERSION of an image's plugin: Docker's library by its bare name, all others with where they are from."""
    plain, _, digest = reference.partition("@")
    path, _, last = plain.rpartition("/")
    last, _, tag = last.partition(":")
    path = re.sub(r"^docker\.io(/library)?(/|$)", "", f"{path}/").rstrip("/")
    words = [*path.split("/"), last] if path else [last]
    name = re.sub(r"[^a-z0-9_-]+", "-", "-".join(words).lower()).strip("-_")[:63].rstrip("-_")
    if not name:
        raise InvalidInput(f"cannot understand the image reference {reference!r}")
    label = digest[:19] if digest else tag or "latest"
    if SEMANTIC.match(label):
        return f"{name}:{label}"
    return f"{name}:{BASE_VERSION}+{re.sub('[^0-9A-Za-z.-]+', '-', label).strip('-.') or 'latest'}"
