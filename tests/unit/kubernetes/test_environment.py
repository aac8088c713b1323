# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest
from lightkube.models.core_v1 import Container

from support.fake_cluster import make_pod
from volant.kubernetes.environment import Expander, Fields, find_resources, read_resource
from volant.kubernetes.references import Refused


def read_container(document: dict[str, Any]) -> Container:
    return cast("Container", Container.from_dict(document))


@pytest.mark.parametrize(
    ("resources", "vcpu", "mib"),
    [
        ({}, 1, 256),
        ({"requests": {"cpu": "100m", "memory": "1Mi"}}, 1, 128),
        ({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2500m", "memory": "1500M"}}, 3, 1431),
    ],
)
def test_resources_are_whole_processors_and_mebibytes(
    resources: dict[str, dict[str, str]], vcpu: int, mib: int
) -> None:
    container = read_container({"name": "c", "resources": resources})
    assert find_resources(container) == (vcpu, mib)


def test_resource_fields_are_counted_in_their_divisor_and_rounded_up() -> None:
    container = read_container({"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}}})
    assert read_resource(container, "limits.cpu", None) == "2"
    assert read_resource(container, "limits.cpu", "1m") == "1500"
    assert read_resource(container, "limits.memory", "1Mi") == "1024"
    assert read_resource(container, "requests.memory", "0") == str(1 << 30)


def test_references_in_values_are_expanded_as_kubernetes_does() -> None:
    expand = Expander({"A": "1", "B.C": "2"})
    assert expand("$(A) $(B.C) $(D) $$(A) $A $(") == "1 2 $(D) $(A) $A $("


def test_fields_of_the_pod() -> None:
    fields = Fields(make_pod(metadata={"annotations": {"k": 'a "b"'}}), "host-1", "10.1.0.2", "192.0.2.1")
    assert fields.read("spec.nodeName") == "host-1"
    assert fields.read("metadata.labels['app']") == "web"
    assert fields.read("metadata.labels['none']") == ""
    assert fields.read("metadata.annotations") == 'k="a \\"b\\""\n'
    with pytest.raises(Refused):
        fields.read("status.nominatedNodeName")
