# SPDX-License-Identifier: Apache-2.0
"""The product in one function: an image → a plugin. Read `make_plugin` first; every call in it is a step."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from volant.contract.agents import Architecture, find_agent
from volant.contract.image_config import ImageConfig
from volant.contract.manifest import Manifest
from volant.errors import InvalidInput
from volant.filesystems import plan
from volant.filesystems.filetree import FileTree
from volant.fledge.build import FoundImage, choose_target
from volant.fledge.cache import PluginCache
from volant.fledge.cache_key import make_cache_key
from volant.fledge.epoch import read_epoch
from volant.fledge.guest import check_guest, install_guest
from volant.fledge.image import OciImage
from volant.fledge.initramfs import make_initramfs, read_folder, run_build_script
from volant.fledge.known_digests import KnownDigests
from volant.fledge.layers import merge_layers, verify_stored
from volant.fledge.order import ArchiveSource, BuildOrder, ScriptSource
from volant.fledge.plugin_archive import (
    DiskOptions,
    WrittenPlugin,
    write_disk_plugin,
    write_initramfs_plugin,
)
from volant.fledge.plugin_manifest import make_manifest
from volant.fledge.reuse import Reuse
from volant.output_file import find_output
from volant.progress import Monitor
from volant.whole_file import WholeFile


@dataclass(frozen=True)
class BuiltPlugin:
    """What a build leaves behind."""

    path: Path
    name: str
    version: str
    size_bytes: int
    from_cache: bool = False


def make_plugin(
    order: BuildOrder, found: FoundImage, known: KnownDigests | None, stack: ExitStack, monitor: Monitor
) -> BuiltPlugin:
    """Make the plugin that was ordered. It appears under its name whole or not at all; nothing else stays."""
    key = make_cache_key(order, found.identity, known)
    kept = fetch_from_cache(order, key, found, stack, monitor)
    if kept is not None:
        return kept
    image = found.open()
    manifest = make_manifest(order, image, monitor)
    target = choose_target(order, manifest.name)
    file = stack.enter_context(WholeFile(find_output(target, order.inputs)))
    tree, prefix = make_tree(order, image, manifest, stack, monitor)
    reuse = Reuse(PluginCache().open_earlier(manifest.name, stack)) if key else None
    written = write_plugin(order, tree, prefix, manifest, file.descriptor, reuse, stack, monitor)
    if image is not None:
        image.verify()
    file.publish()
    if reuse is not None:
        facts = {"name": manifest.name, "version": manifest.version}
        PluginCache().store(key, file.target, facts, reuse.index.encode(), written.summed)
    return BuiltPlugin(target, manifest.name, manifest.version, written.size_bytes)


# -- the steps -------------------------------------------------------------------------------------------


def fetch_from_cache(
    order: BuildOrder, key: str, found: FoundImage, stack: ExitStack, monitor: Monitor
) -> BuiltPlugin | None:
    """The same plugin from an earlier build, published; None where there is none.

    An image that somebody gives is read all the same: a damaged one is an error whatever is in the cache.
    """
    cache = PluginCache()
    note = cache.read(key) if key else None
    if note is None:
        return None
    if isinstance(order.source, ArchiveSource):
        image = found.open()
        if image is not None and not verify_stored(image, monitor):
            return None
    target = choose_target(order, note["name"])
    file = stack.enter_context(WholeFile(find_output(target, order.inputs)))
    if not cache.fetch(key, file.descriptor):
        return None
    file.publish()
    monitor.say("nothing has changed: the plugin comes from the cache (--no-cache converts again)")
    return BuiltPlugin(target, note["name"], note["version"], note["size_bytes"], from_cache=True)


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
    order: BuildOrder, tree: FileTree, prefix: Path | None, manifest: Manifest, output: int,
    reuse: Reuse | None, stack: ExitStack, monitor: Monitor,
) -> WrittenPlugin:  # fmt: skip
    """Disk or initramfs into plugin.tar.gz."""
    if order.kind == "initramfs":
        descriptor = make_initramfs(tree, stack, monitor, prefix)
        return write_initramfs_plugin(output, descriptor, manifest, monitor)
    image = plan(
        tree, size_bytes=order.disk_size_bytes, timestamp=read_epoch() or 0, label=manifest.name[:16]
    )
    monitor.step("write disk", image.used_bytes)
    options = DiskOptions(format=order.format, compression=order.compression)
    return write_disk_plugin(output, image, manifest, options, monitor, reuse)


# -- what the image decides ------------------------------------------------------------------------------


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
