# SPDX-License-Identifier: Apache-2.0
"""Services as variables of a container, as the kubelet makes them: NAME_SERVICE_HOST and those of Docker's links."""

from __future__ import annotations

from collections.abc import Iterable

from lightkube.models.core_v1 import ServicePort
from lightkube.resources.core_v1 import Service

# In every pod, whatever its namespace: where the API server is.
MASTER_NAMESPACE, MASTER_SERVICE = "default", "kubernetes"


def make_service_variables(services: Iterable[Service]) -> dict[str, str]:
    """Of services that have an address and ports."""
    variables: dict[str, str] = {}
    for service in services:
        spec, metadata = service.spec, service.metadata
        if spec is None or metadata is None or spec.clusterIP in (None, "", "None") or not spec.ports:
            continue
        assert metadata.name and spec.clusterIP
        variables |= _make_variables(_spell(metadata.name), spec.clusterIP, spec.ports)
    return variables


def _make_variables(name: str, address: str, ports: list[ServicePort]) -> dict[str, str]:
    variables = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(ports[0].port)}
    host = f"[{address}]" if ":" in address else address
    for number, port in enumerate(ports):
        if port.name:
            variables[f"{name}_SERVICE_PORT_{_spell(port.name)}"] = str(port.port)
        protocol = (port.protocol or "TCP").lower()
        url, link = f"{protocol}://{host}:{port.port}", f"{name}_PORT_{port.port}_{protocol.upper()}"
        if number == 0:
            variables[f"{name}_PORT"] = url
        variables |= {
            link: url, f"{link}_PROTO": protocol, f"{link}_PORT": str(port.port), f"{link}_ADDR": address,
        }  # fmt: skip
    return variables


def _spell(name: str) -> str:
    return name.upper().replace("-", "_")
