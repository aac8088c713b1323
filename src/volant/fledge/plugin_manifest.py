# SPDX-License-Identifier: Apache-2.0
"""The manifest as far as it is known before the disk is written; the image fills what the recipe leaves open."""

from __future__ import annotations

from typing import Any

from volant.contract.manifest import Manifest, RuntimeHalf
from volant.errors import InvalidInput
from volant.fledge.image import OciImage
from volant.fledge.naming import DEFAULT_VERSION, HTTP_PORTS, choose_port, clean_name, split_reference
from volant.fledge.order import ArchiveSource, BuildOrder
from volant.progress import Monitor

# What a builder writes about itself: it would make plugins differ between machines.
BUILDER_LABELS = frozenset({"io.buildah.version"})


def make_manifest(order: BuildOrder, image: OciImage | None, monitor: Monitor) -> Manifest:
    """Raises InvalidInput where nothing names the plugin."""
    name, version = _name_and_version(order, image, monitor)
    runtime = order.runtime or RuntimeHalf()
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
