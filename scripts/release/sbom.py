# SPDX-License-Identifier: Apache-2.0
"""The bill of materials, CycloneDX JSON: Python libraries as in the packages, Go modules as in the agent."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from python_tree import Tree


def write(tree: Tree, path: Path) -> None:
    bom = Bom()
    root = make_component(tree, "volant", ComponentType.APPLICATION)
    bom.metadata.component = root
    # The same sources give the same bytes: neither the clock nor chance has a say.
    bom.metadata.timestamp = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"volant/{tree.version}/{tree.architecture}")
    agent = tree.folder / "volant" / "agents" / f"kestrel-linux-{tree.architecture}"
    libraries = [make_component(tree, name, ComponentType.LIBRARY) for name in sorted(tree.distributions)]
    parts = [one for one in libraries if one.name != "volant"] + list(read_go_modules(agent))
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    path.write_text(text + "\n")


def make_component(tree: Tree, name: str, kind: ComponentType) -> Component:
    metadata = tree.distributions[name].metadata
    version = metadata["Version"]
    address = PackageURL("pypi" if kind is ComponentType.LIBRARY else "generic", name=name, version=version)
    expression = metadata.get("License-Expression")
    stated = metadata.get("License") or ""
    classified = [
        line.split(" :: ")[-1]
        for line in metadata.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    classified = [name for name in classified if name != "OSI Approved"]
    licence: LicenseExpression | DisjunctiveLicense | None = None
    if expression:
        licence = LicenseExpression(expression)
    elif short := next((text for text in (*classified, stated) if text and "\n" not in text), ""):
        licence = DisjunctiveLicense(name=short)
    return Component(
        name=name, version=version, type=kind, purl=address, bom_ref=str(address), licenses=[licence] if licence else []
    )  # fmt: skip


def read_go_modules(agent: Path) -> Iterator[Component]:
    """What the linker wrote into the binary: Go itself and every module with its version."""
    done = subprocess.run(["go", "version", "-m", str(agent)], capture_output=True, text=True, check=True)
    toolchain = re.search(r": go(\S+)", done.stdout)
    assert toolchain is not None
    modules = re.findall(r"^\tdep\t(\S+)\t(\S+)", done.stdout, re.MULTILINE)
    for name, version in [("std", toolchain[1]), *modules]:
        namespace, _, short = name.rpartition("/")
        address = PackageURL("golang", namespace=namespace or None, name=short, version=version)
        yield Component(
            name=name, version=version, type=ComponentType.LIBRARY, purl=address, bom_ref=str(address)
        )
