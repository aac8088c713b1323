# SPDX-License-Identifier: Apache-2.0
"""JSON has numbers, truth values and texts, and a request means what it says: true is not 1, and "yes" is not true.

pydantic converts them into each other, which is right for what people type and wrong for programs: the schema that they
go by says integer. Its strict mode would refuse enumerations and dates, too, which JSON has as texts.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel


def find_wrong_kinds(model: type[BaseModel], data: dict[Any, Any], place: str = "") -> Iterator[str]:
    """Each place in `data`, before it becomes a `model`, that is of another kind than its field."""
    for name, field in model.model_fields.items():
        for key in {name, field.alias or name, *_list_aliases(field.validation_alias)}:
            if key in data:
                yield from _look(field.annotation, data[key], f"{place}{key}")


def _list_aliases(alias: Any) -> list[str]:
    return [choice for choice in getattr(alias, "choices", [alias]) if isinstance(choice, str)]


def _look(annotation: Any, value: Any, place: str) -> Iterator[str]:
    options = list(_list_options(annotation))
    if isinstance(value, bool | int | float | str):
        if why := _explain(value, options):
            yield f"{place}: {why}"
        return
    for option in options:
        inner = get_args(option)
        if isinstance(value, list) and get_origin(option) is list:
            for number, each in enumerate(value):
                yield from _look(inner[0], each, f"{place}.{number}")
        elif isinstance(value, dict) and get_origin(option) is dict:
            for key, each in value.items():
                yield from _look(inner[1], each, f"{place}.{key}")
        elif isinstance(value, dict) and isinstance(option, type) and issubclass(option, BaseModel):
            yield from find_wrong_kinds(option, value, f"{place}.")


def _list_options(annotation: Any) -> Iterator[Any]:
    """What a value may be, without the words around it."""
    match get_origin(annotation):
        case origin if origin is Annotated:
            yield from _list_options(get_args(annotation)[0])
        case origin if origin in (Union, types.UnionType):
            for each in get_args(annotation):
                yield from _list_options(each)
        case origin if origin is Literal:
            yield from {type(value) for value in get_args(annotation)}
        case _:
            yield annotation


def _explain(value: bool | float | str, options: list[Any]) -> str:
    """Why pydantic is not asked; empty where it is."""
    if type(value) in options or not {bool, int, float} & set(options):
        return ""
    if isinstance(value, bool):
        return "" if bool in options else f"{str(value).lower()} is no number"
    if isinstance(value, str):
        return f"{value[:40]!r} is a text" if str not in options and not _has_texts(options) else ""
    return "" if {int, float} & set(options) else f"{value} is neither true nor false"


def _has_texts(options: list[Any]) -> bool:
    """Enumerations of texts."""
    return any(isinstance(option, type) and issubclass(option, str) for option in options)
