# SPDX-License-Identifier: Apache-2.0
"""KubeVirt's own definition of a VirtualMachine, from its sources as the Go module proxy has them.

Its operator installs these schemas in a cluster; they are constants of one of its files, which Go's module cache keeps.
"""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import tempfile
import zipfile
from typing import Any

import pytest
from ruamel.yaml import YAML

MODULE, VERSION = "kubevirt.io/kubevirt", "v1.9.0"
# What go.sum would say.
SUM = "h1:eauQfI39dRALNciMIQtR7UsbTUjUft5V6IBO57Icl/k="
SCHEMAS = "pkg/virt-operator/resource/generate/components/validations_generated.go"
FETCH_SECONDS = 600


@functools.cache
def make_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of VirtualMachine, as its operator makes it; fetched once."""
    schema = read_schema("virtualmachine")
    version = {
        "name": "v1", "served": True, "storage": True, "schema": schema, "subresources": {"status": {}}
    }  # fmt: skip
    names = {"plural": "virtualmachines", "singular": "virtualmachine", "kind": "VirtualMachine"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "virtualmachines.kubevirt.io"},
        "spec": {"group": "kubevirt.io", "scope": "Namespaced", "names": names, "versions": [version]},
    }


def read_schema(name: str) -> Any:
    """{"openAPIV3Schema": …} of a kind, by its name in lower case."""
    with zipfile.ZipFile(io.BytesIO(_fetch())) as archive:
        source = archive.read(f"{MODULE}@{VERSION}/{SCHEMAS}").decode()
    text = source.partition(f'"{name}": `')[2].partition("`,")[0]
    return YAML(typ="safe", pure=False).load(text)


def _fetch() -> bytes:
    with tempfile.TemporaryDirectory() as folder:  # no module's: nothing is taken from a go.mod
        done = subprocess.run(
            ["go", "mod", "download", "-json", f"{MODULE}@{VERSION}"], cwd=folder, capture_output=True, text=True,
            timeout=FETCH_SECONDS, stdin=subprocess.DEVNULL, env={**os.environ, "GOTOOLCHAIN": "local"},
        )  # fmt: skip
    if done.returncode:
        pytest.fail(f"cannot fetch {MODULE} {VERSION}: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout)
    assert found["Sum"] == SUM, "the module is another one than it was"
    with open(found["Zip"], "rb") as stream:
        return stream.read()
