# SPDX-License-Identifier: Apache-2.0
"""`fledge build`: finds the image and begins with its digests, and only then loads what makes a plugin of it.

Loading takes a tenth of a second of one core. The digests have the other meanwhile, so little is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from volant.fledge.image import OciImage
from volant.fledge.known_digests import KnownDigests, find_cache_folder
from volant.fledge.order import ArchiveSource, BuildOrder, DockerfileSource, ReferenceSource
from volant.fledge.sources.archive import open_docker_archive, open_oci_archive, open_oci_layout
from volant.output_file import find_output
from volant.progress import Monitor

if TYPE_CHECKING:
    from volant.fledge.pipeline import BuiltPlugin


@dataclass(frozen=True)
class FoundImage:
    """An image that is there, by an identity that names its content. `open` gives None where there is no image."""

    identity: str
    open: Callable[[], OciImage | None]


def build_plugin(order: BuildOrder, monitor: Monitor) -> BuiltPlugin:
    """Make the plugin that was ordered; see pipeline.py for the steps."""
    with ExitStack() as stack:
        for note in order.notes:
            monitor.say(note)
        find_output(choose_target(order, order.name or "plugin"), order.inputs)
        known = open_known_digests(order, stack)
        found = find_image(order, known, stack, monitor)
        from volant.fledge.pipeline import make_plugin

        return make_plugin(order, found, known, stack, monitor)


def choose_target(order: BuildOrder, name: str) -> Path:
    return order.output or Path(f"{name}.tar.gz")


def open_known_digests(order: BuildOrder, stack: ExitStack) -> KnownDigests | None:
    """The notes of the cache, where it may be used."""
    if not order.use_cache:
        return None
    return stack.enter_context(KnownDigests(find_cache_folder()))


def find_image(
    order: BuildOrder, known: KnownDigests | None, stack: ExitStack, monitor: Monitor
) -> FoundImage:
    """Build, open or fetch the ordered image. One that was built is taken out of the builder only by `open`."""
    source = order.source
    image: OciImage | None = None

    def open_checked(image: OciImage) -> OciImage:
        image.begin_checks(known)
        return image

    match source:
        case DockerfileSource():
            # Builders and the web server for the agent are not loaded where an image is there already.
            from volant.fledge.sources.dockerfile import build_dockerfile

            built = build_dockerfile(source, stack, monitor)
            return FoundImage(
                built.image_id, lambda: open_checked(open_docker_archive(built.export(), stack))
            )
        case ArchiveSource(kind="docker-archive"):
            image = open_docker_archive(source.path, stack, platform=source.platform)
        case ArchiveSource(kind="oci-archive"):
            image = open_oci_archive(source.path, stack, platform=source.platform)
        case ArchiveSource():
            image = open_oci_layout(source.path, stack, platform=source.platform)
        case ReferenceSource():
            from volant.fledge.sources.reference import fetch_reference

            image = fetch_reference(source.reference, stack, monitor, platform=source.platform)
    if image is None:
        return FoundImage("", lambda: None)
    image.begin_checks(known)
    # The tag decides the plugin's name where no recipe does.
    return FoundImage(image.identity, lambda: image)
