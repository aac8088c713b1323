# SPDX-License-Identifier: Apache-2.0
"""The product in one function: an image → a plugin. Read `build_plugin` first; every call in it is a step."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volant.contract.agents import Architecture, find_agent
from volant.contract.image_config import ImageConfig
from volant.contract.manifest import Manifest
from volant.errors import InvalidInput, NotPermitted, UsageError
from volant.fledge.cache import PluginCache, make_key
from volant.fledge.epoch import read_epoch
from volant.fledge.ext4 import plan_ext4
from volant.fledge.filetree import FileTree
from volant.fledge.guest import check_guest, digest_agents, install_guest
from volant.fledge.image import OciImage
from volant.fledge.initramfs import make_initramfs, read_folder, run_build_script
from volant.fledge.layers import merge_layers
from volant.fledge.local_files import digest_local
from volant.fledge.naming import DEFAULT_VERSION, HTTP_PORTS, choose_port, clean_name, split_reference
from volant.fledge.order import ArchiveSource, BuildOrder, DockerfileSource, ReferenceSource, ScriptSource
from volant.fledge.plugin_archive import (
    DiskOptions,
    WrittenPlugin,
    write_disk_plugin,
    write_initramfs_plugin,
)
from volant.fledge.problems import show_path
from volant.fledge.sources.archive import open_docker_archive, open_oci_archive, open_oci_layout
from volant.fledge.sources.reference import fetch_reference
from volant.progress import Monitor

# What a builder writes about itself: it would make plugins differ between machines.
BUILDER_LABELS = frozenset({"io.buildah.version"})


@dataclass(frozen=True)
class BuiltPlugin:
    """What a build leaves behind."""

    path: Path
    name: str
    version: str
    size_bytes: int
    from_cache: bool = False


def build_plugin(order: BuildOrder, monitor: Monitor) -> BuiltPlugin:
    """Make the plugin that was ordered. It appears under its name whole or not at all; nothing else stays."""
    with ExitStack() as stack:
        for note in order.notes:
            monitor.say(note)
        check_target(choose_target(order, order.name or "plugin"))
        found = find_image(order, stack, monitor)
        key = make_cache_key(order, found.identity)
        kept = fetch_from_cache(order, key, stack, monitor)
        if kept is not None:
            return kept
        image = found.open()
        manifest = make_manifest(order, image, monitor)
        partial = stack.enter_context(PartialFile(choose_target(order, manifest.name)))
        tree, prefix = make_tree(order, image, manifest, stack, monitor)
        written = write_plugin(order, tree, prefix, manifest, partial.path, stack, monitor)
        if image is not None:
            image.verify()
        partial.publish()
        if key:
            PluginCache().store(key, partial.target, {"name": manifest.name, "version": manifest.version})
        return BuiltPlugin(partial.target, manifest.name, manifest.version, written.size_bytes)


# -- the steps -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundImage:
    """An image that is there, by an identity that names its content. `open` gives None where there is no image."""

    identity: str
    open: Callable[[], OciImage | None]


def find_image(order: BuildOrder, stack: ExitStack, monitor: Monitor) -> FoundImage:
    """Build, open or fetch the ordered image. One that was built is taken out of the builder only by `open`."""
    source = order.source
    if isinstance(source, DockerfileSource):
        # Builders and the web server for the agent are not loaded where an image is there already.
        from volant.fledge.sources.dockerfile import build_dockerfile

        built = build_dockerfile(source, stack, monitor)
        return FoundImage(built.image_id, lambda: open_docker_archive(built.export(), stack))
    image: OciImage | None = None
    match source:
        case ArchiveSource(kind="docker-archive"):
            image = open_docker_archive(source.path, stack, platform=source.platform)
        case ArchiveSource(kind="oci-archive"):
            image = open_oci_archive(source.path, stack, platform=source.platform)
        case ArchiveSource():
            image = open_oci_layout(source.path, stack, platform=source.platform)
        case ReferenceSource():
            image = fetch_reference(source.reference, stack, monitor, platform=source.platform)
    # The tag decides the plugin's name where no recipe does.
    return FoundImage(f"{image.reference}@{image.digest}" if image else "", lambda: image)


def choose_target(order: BuildOrder, name: str) -> Path:
    return order.output or Path(f"{name}.tar.gz")


def make_manifest(order: BuildOrder, image: OciImage | None, monitor: Monitor) -> Manifest:
    """The manifest as far as it is known before the disk is written; the image fills what the recipe leaves open."""
    name, version = _name_and_version(order, image, monitor)
    runtime = order.runtime
    of_image = (
        {name: value for name, value in image.labels.items() if name not in BUILDER_LABELS} if image else {}
    )
    labels = {**of_image, **runtime.labels}
    workload = runtime.workload
    port = choose_port(image.config.exposed_ports) if image and order.want_port_from_image else None
    if port is not None:
        changes: dict[str, Any] = {"port": port}
        if "type" not in workload.model_fields_set:
            changes["type"] = "http" if port in HTTP_PORTS else "tcp"
            monitor.say(f"workload: {changes['type']} on port {port}, from the image's EXPOSE")
        workload = workload.model_copy(update=changes)
    description = order.description or labels.get("org.opencontainers.image.description", "")
    given = {field: getattr(runtime, field) for field in runtime.model_fields_set}
    return Manifest(
        name=name,
        version=version,
        description=description,
        **{**given, "labels": labels, "workload": workload},
    )


def make_cache_key(order: BuildOrder, identity: str) -> str:
    """Digest of all inputs; empty where they cannot be known without running something, or nobody asks."""
    if isinstance(order.source, ScriptSource) or not order.use_cache:
        return ""
    return make_key(
        {
            "image": identity,
            "plugin": [order.kind, order.name, order.version, order.description, order.want_port_from_image],
            "runtime": order.runtime.model_dump(mode="json", exclude_unset=True),
            "disk": [order.format, order.compression, order.disk_size_bytes],
            "file": order.source.path.name if isinstance(order.source, ArchiveSource) else "",
            "mappings": [[guest, local.is_dir(), digest_local(local)] for local, guest in order.mappings],
            "agents": digest_agents(),
            "epoch": read_epoch(),
        }
    )


def fetch_from_cache(order: BuildOrder, key: str, stack: ExitStack, monitor: Monitor) -> BuiltPlugin | None:
    """The same plugin from an earlier build, published; None where there is none."""
    cache = PluginCache()
    note = cache.read(key) if key else None
    if note is None:
        return None
    partial = stack.enter_context(PartialFile(choose_target(order, note["name"])))
    if not cache.fetch(key, partial.path):
        return None
    partial.publish()
    monitor.say("nothing has changed: the plugin comes from the cache (--no-cache converts again)")
    return BuiltPlugin(partial.target, note["name"], note["version"], note["size_bytes"], from_cache=True)


def make_tree(
    order: BuildOrder, image: OciImage | None, manifest: Manifest, stack: ExitStack, monitor: Monitor
) -> tuple[FileTree, Path | None]:
    """The bootable tree, and an archive that a build script made to go before it."""
    prefix: Path | None = None
    if image is not None:
        tree = merge_layers(image, stack, monitor)
    elif isinstance(order.source, ScriptSource):
        rootfs, prefix = run_build_script(order.source.script, monitor)
        tree = read_folder(rootfs, stack, _stamp(None)) if rootfs else FileTree()
    else:
        tree = FileTree()
    config = (
        image.config if image else ImageConfig.model_validate({"architecture": _architecture(order, None)})
    )
    agent = find_agent(_architecture(order, image))
    install_guest(tree, config, agent, order.mappings, _stamp(tree), stack, monitor)
    check_guest(tree, config, manifest.workload.entrypoint, monitor)
    return tree, prefix


def write_plugin(
    order: BuildOrder, tree: FileTree, prefix: Path | None, manifest: Manifest, path: Path, stack: ExitStack,
    monitor: Monitor,
) -> WrittenPlugin:  # fmt: skip
    """Disk or initramfs into plugin.tar.gz."""
    if order.kind == "initramfs":
        descriptor = make_initramfs(tree, stack, monitor, prefix)
        return write_initramfs_plugin(path, descriptor, manifest, monitor)
    image = plan_ext4(
        tree, size_bytes=order.disk_size_bytes, timestamp=read_epoch() or 0, label=manifest.name[:16]
    )
    monitor.step("write disk", image.used_bytes)
    options = DiskOptions(format=order.format, compression=order.compression)
    return write_disk_plugin(path, image, manifest, options, monitor)


def check_target(target: Path) -> None:
    """Refuse a place that cannot be written, before minutes are spent on what should go there."""
    shown, folder = show_path(target), target.parent
    if target.is_dir():
        raise UsageError(f"cannot write {shown}: it is a folder", resolution="name a file")
    if not folder.is_dir():
        raise UsageError(f"cannot write {shown}: no such folder", resolution=f"mkdir -p {show_path(folder)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise NotPermitted(
            f"cannot write {shown}: no permission in {show_path(folder)}",
            resolution="choose another --output",
        )


class PartialFile:
    """A file beside `target` that becomes it when published, and is gone otherwise."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}.{os.getpid()}.partial")

    def publish(self) -> None:
        os.replace(self.path, self.target)

    def __enter__(self) -> PartialFile:
        check_target(self.target)
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)


# -- what the image decides ------------------------------------------------------------------------------


def _name_and_version(order: BuildOrder, image: OciImage | None, monitor: Monitor) -> tuple[str, str]:
    name, version = order.name, order.version
    tag_name, tag_version = split_reference(image.reference) if image and image.reference else ("", None)
    if name is None:
        stem = order.source.path.name.split(".")[0] if isinstance(order.source, ArchiveSource) else ""
        name = tag_name or clean_name(stem)
        if not name:
            raise InvalidInput(
                "cannot name the plugin: the image has no tag",
                resolution="tag it (docker tag), or write a fledge.toml with [plugin] name",
            )
    if version is None:
        version = tag_version or DEFAULT_VERSION
        why = "" if tag_version else f" (nothing gives a semantic version, so {DEFAULT_VERSION})"
        monitor.say(f"plugin: {name} {version}{why}")
    return name, version


def _architecture(order: BuildOrder, image: OciImage | None) -> Architecture:
    wanted = image.config.architecture if image else (order.platform or "linux/amd64").partition("/")[2]
    if wanted == "amd64":
        return "amd64"
    if wanted == "arm64":
        return "arm64"
    raise InvalidInput(
        f"cannot use the image: it is for {wanted}",
        resolution="choose an amd64 or arm64 image, e.g. with --platform linux/amd64",
    )


def _stamp(tree: FileTree | None) -> int:
    """Modification time of what fledge adds: SOURCE_DATE_EPOCH, else that of the image's newest file.

    Never the clock's: the same image has to give the same plugin tomorrow.
    """
    epoch = read_epoch()
    if epoch is not None:
        return epoch
    return max(0, min(max(tree.mtime), 0x7FFFFFFF)) if tree is not None else 0
