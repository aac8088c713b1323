# SPDX-License-Identifier: Apache-2.0
"""The variables of a pod's container, and what the downward API tells of the pod."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping

from lightkube.models.core_v1 import Container, EnvVar
from lightkube.resources.core_v1 import Pod
from lightkube.utils.quantity import parse_quantity

from volant.kubernetes.references import Found, Missing, Reference, Refused, find_values, get_spec
from volant.kubernetes.service_variables import make_service_variables

DEFAULT_MEMORY_MIB = 256
# Debian's kernel with less of it does not come to its init: it panics for lack of memory.
LEAST_MEMORY_MIB = 128
MIB = 1 << 20


def find_resources(container: Container) -> tuple[int, int]:
    """Virtual CPUs and MiB: the limits, or what is requested where there are none."""
    resources = container.resources
    limits = (resources.limits if resources is not None else None) or {}
    requests = (resources.requests if resources is not None else None) or {}
    cpu = parse_quantity(limits.get("cpu") or requests.get("cpu"))
    memory = parse_quantity(limits.get("memory") or requests.get("memory"))
    vcpu = max(1, math.ceil(cpu)) if cpu is not None else 1
    mib = max(LEAST_MEMORY_MIB, math.ceil(memory / MIB)) if memory is not None else DEFAULT_MEMORY_MIB
    return vcpu, mib


def make_environment(container: Container, fields: Fields, found: Found) -> dict[str, str]:
    """The container's variables, in the order that gives later ones the last word. Raises Missing."""
    environment = make_service_variables(found.services)
    for whole in container.envFrom or []:
        for kind, reference in (("ConfigMap", whole.configMapRef), ("Secret", whole.secretRef)):
            if reference is None:
                continue
            values = find_values(
                found,
                Reference("ConfigMap" if kind == "ConfigMap" else "Secret", reference.name or ""),
                reference.optional,
            )
            environment |= {
                f"{whole.prefix or ''}{key}": value.decode("utf-8", "replace")
                for key, value in values.items()
            }
    for variable in container.env or []:
        value = _find_value(variable, container, fields, found)
        if value is not None:
            environment[variable.name] = Expander(environment)(value)
    return environment


def _find_value(variable: EnvVar, container: Container, fields: Fields, found: Found) -> str | None:
    source = variable.valueFrom
    if source is None:
        return variable.value or ""
    if source.fieldRef is not None:
        return fields.read(source.fieldRef.fieldPath)
    if source.resourceFieldRef is not None:
        return read_resource(container, source.resourceFieldRef.resource, source.resourceFieldRef.divisor)
    if source.configMapKeyRef is not None:
        reference, key, optional = (
            Reference("ConfigMap", source.configMapKeyRef.name or ""),
            source.configMapKeyRef.key,
            source.configMapKeyRef.optional,
        )
    elif source.secretKeyRef is not None:
        reference, key, optional = (
            Reference("Secret", source.secretKeyRef.name or ""),
            source.secretKeyRef.key,
            source.secretKeyRef.optional,
        )
    else:
        raise Refused("UnsupportedEnv", f"variable {variable.name} has a source that VMs are not given")
    content = find_values(found, reference, optional).get(key)
    if content is None:
        if optional:
            return None
        raise Missing(f"{reference.kind} {reference.name} has no key {key}")
    return content.decode("utf-8", "replace")


def read_resource(container: Container, resource: str, divisor: str | None) -> str:
    """As the downward API counts: limits.cpu in whole processors, memory in bytes, by a divisor, rounded up."""
    kind, _, name = resource.partition(".")
    resources = container.resources
    table = (getattr(resources, kind, None) if resources is not None else None) or {}
    amount = parse_quantity(table.get(name))
    if amount is None:
        vcpu, mib = find_resources(container)
        amount = parse_quantity(str(vcpu if name == "cpu" else mib * MIB))
    by = parse_quantity(divisor) if divisor and divisor != "0" else None
    assert amount is not None
    return str(math.ceil(amount / by) if by else math.ceil(amount))


class Expander:
    """$(NAME) of variables that are known; $$ is a dollar sign, and what is unknown stays (Kubernetes' rule)."""

    _PATTERN: re.Pattern[str] = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, text: str) -> str:
        def replace(found: re.Match[str]) -> str:
            whole, name = found.group(0), found.group(1)
            return "$" if whole == "$$" else self._environment.get(name, whole)

        return self._PATTERN.sub(replace, text)


class Fields:
    """What the downward API tells of a pod."""

    def __init__(self, pod: Pod, node: str, pod_ip: str, host_ip: str) -> None:
        metadata, spec = pod.metadata, get_spec(pod)
        assert metadata is not None
        self._labels, self._annotations = metadata.labels or {}, metadata.annotations or {}
        self._known = {
            "metadata.name": metadata.name or "",
            "metadata.namespace": metadata.namespace or "",
            "metadata.uid": metadata.uid or "",
            "spec.nodeName": node,
            "spec.serviceAccountName": spec.serviceAccountName or "default",
            "status.podIP": pod_ip,
            "status.podIPs": pod_ip,
            "status.hostIP": host_ip,
            "status.hostIPs": host_ip,
        }

    def read(self, path: str) -> str:
        one = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if one:
            kind, key = one.groups()
            return str((self._labels if kind == "labels" else self._annotations).get(key, ""))
        if path in ("metadata.labels", "metadata.annotations"):
            table = self._labels if path.endswith("labels") else self._annotations
            return "".join(f"{key}={json.dumps(value)}\n" for key, value in sorted(table.items()))
        if path not in self._known:
            raise Refused("UnsupportedEnv", f"the field {path} is not known here")
        return self._known[path]
