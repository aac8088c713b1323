# SPDX-License-Identifier: Apache-2.0
"""What we write for clusters, by the newest schemas of Kubernetes that there are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from volant.kubernetes import joining

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "kubernetes"
VERSION = kubernetes_validate.latest_version()
OWN_SCHEMA = "kustomization.yaml"  # kustomize's, which is none of the API's


def read_documents() -> list[Any]:
    paths = [path for path in sorted(EXAMPLES.glob("*.yaml")) if path.name != OWN_SCHEMA]
    return [document for path in paths for document in YAML(typ="safe", pure=True).load_all(path.read_text())]


@pytest.mark.parametrize("document", read_documents(), ids=lambda document: document["kind"])
def test_an_example_is_valid(document: Any) -> None:
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_base_has_every_example() -> None:
    base = YAML(typ="safe", pure=True).load((EXAMPLES / OWN_SCHEMA).read_text())
    assert sorted([*base["resources"], OWN_SCHEMA]) == sorted(path.name for path in EXAMPLES.glob("*.yaml"))


def test_the_runtime_class_is_valid() -> None:
    made: list[Any] = []
    cluster: Any = SimpleNamespace(create=made.append)
    joining._make_runtime_class(cluster)
    (runtime_class,) = made
    document = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", **runtime_class.to_dict()}
    kubernetes_validate.validate(document, VERSION, strict=True)
    assert document["metadata"]["name"] == "volant"


def test_a_wrong_key_is_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {"apiVersion": "v1", "kind": "Service", "spec": {"portz": []}, "metadata": {"name": "shop"}},
            VERSION,
            strict=True,
        )
