# SPDX-License-Identifier: Apache-2.0
"""true is not 1: every model of a request, and what stands in it, by kind."""

from __future__ import annotations

import importlib
import pkgutil
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

import volant.contract
from volant.contract.api import VmCreate, VmUpdate
from volant.contract.deployments_api import DeploymentUpdate
from volant.contract.json_kinds import find_wrong_kinds
from volant.contract.request_values import RequestModel


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"resources": {"vcpu": True}}, "resources.vcpu: true is no number"),
        ({"resources": {"cpu_cores": True}}, "resources.cpu_cores: true is no number"),
        ({"resources": {"memory_mb": "512"}}, "resources.memory_mb: '512' is a text"),
        ({"resources": {"nested": 1}}, "resources.nested: 1 is neither true nor false"),
        ({"publish": [{"guest_port": 80}, {"guest_port": True}]}, "1.guest_port: true is no number"),
        ({"publish": [{"guest_port": 80, "host_port": False}]}, "host_port: false is no number"),
        ({"secrets": [{"name": "a", "uid": True}]}, "secrets.0.uid: true is no number"),
        ({"volumes": [{"name": "a", "target": "/a", "read_only": "yes"}]}, "'yes' is a text"),
        (
            {"health_check": {"test": ["NONE"], "interval_seconds": True}},
            "interval_seconds: true is no number",
        ),
        ({"suspend_when_idle_seconds": True}, "suspend_when_idle_seconds: true is no number"),
        ({"start": 1}, "start: 1 is neither true nor false"),
        ({"run_once": "true"}, "run_once: 'true' is a text"),
    ],
)
def test_one_kind_for_another_is_refused_with_its_place(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        VmCreate.model_validate({"name": "web", "plugin": "nginx", **values})
    assert place in str(caught.value)


def test_what_json_has_one_kind_for_passes() -> None:
    found = VmCreate.model_validate(
        {
            "name": "web",
            "plugin": "nginx",
            "resources": {"vcpu": 2.0, "nested": True},
            "stop_timeout_seconds": 3,
            "hypervisor": "qemu",
            "env": {"A": "true"},
            "start": False,
        }
    )
    assert (found.resources and found.resources.vcpu, found.stop_timeout_seconds) == (2, 3.0)
    assert VmUpdate.model_validate({"vcpu": None, "publish": []}).vcpu is None
    assert DeploymentUpdate.model_validate({"replicas": 2}).replicas == 2


def list_models() -> list[type[RequestModel]]:
    for module in pkgutil.iter_modules(volant.contract.__path__):
        importlib.import_module(f"volant.contract.{module.name}")
    found: set[type[RequestModel]] = set()
    waiting = [RequestModel]
    while waiting:
        for model in waiting.pop().__subclasses__():
            if model not in found and model.__module__.startswith("volant."):
                found.add(model)
                waiting.append(model)
    return sorted(found, key=lambda model: model.__qualname__)


def list_scalars(model: type[BaseModel], seen: tuple[type, ...] = ()) -> Iterator[tuple[Any, type]]:
    """Each number and truth value of a model as a document with a value of another kind, and the kind it has."""
    for name, field in model.model_fields.items():
        for document, kind in list_values(field.annotation, (*seen, model)):
            yield {name: document}, kind


def list_values(annotation: Any, seen: tuple[type, ...]) -> Iterator[tuple[Any, type]]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from list_values(inner[0], seen)
    elif origin in (Union, types.UnionType):
        for each in inner:
            yield from list_values(each, seen)
    elif origin is list:
        yield from (([document], kind) for document, kind in list_values(inner[0], seen))
    elif origin is dict:
        yield from (({"a": document}, kind) for document, kind in list_values(inner[1], seen))
    elif origin is Literal:
        return
    elif annotation in (int, float):
        yield True, annotation
    elif annotation is bool:
        yield 1, annotation
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        yield from list_scalars(annotation, seen)


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.__qualname__)
def test_every_field_of_every_request(model: type[RequestModel]) -> None:
    for document, _ in list_scalars(model):
        assert list(find_wrong_kinds(model, document)), document
        with pytest.raises(ValidationError):
            model.model_validate(document)
