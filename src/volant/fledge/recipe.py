# SPDX-License-Identifier: Apache-2.0
"""fledge.toml: what a plugin is made from and how it runs.

The model below is the whole truth about the file: `load_recipe` validates with it, `describe_keys` makes
the reference page and `fledge init`'s comments from it. Unknown keys are refused, and all problems are told
at once, each with its line and, for a key that is nearly right, the right one.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticUndefined

from volant.contract.manifest import Name, RuntimeHalf, Version
from volant.contract.names import NAME_PATTERN, VERSION_PATTERN
from volant.errors import InvalidInput, NotFound
from volant.fledge.problems import Problem, refuse
from volant.output_file import show_path

SIZE_PATTERN = r"^[1-9][0-9]*[KMGT]$"
PLATFORM_PATTERN = r"^linux/(amd64|arm64)$"
DEFAULT_DISK_BYTES = 10 << 30

DiskSize = Annotated[str, StringConstraints(pattern=SIZE_PATTERN)]


class RecipeModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Runtime(RecipeModel):
    """[plugin.runtime]: how the plugin's file system is made."""

    type: Literal["oci", "initramfs"] = Field("oci", description="`oci`: a disk; `initramfs`: all in RAM")
    source: str | None = Field(
        None,
        description="path of a Dockerfile (default `Dockerfile`), or an image reference as skopeo spells it, "
        "e.g. `docker://docker.io/library/nginx:1.27` or `docker-archive:image.tar`",
    )
    context: str | None = Field(None, description="build context (default: the Dockerfile's folder)")
    target: str | None = Field(None, description="stage of a multi-stage Dockerfile to stop at")
    build_args: dict[str, str] = Field(default_factory=dict, description="values of the Dockerfile's ARGs")
    platform: Annotated[str, StringConstraints(pattern=PLATFORM_PATTERN)] | None = Field(
        None, description="`linux/amd64` or `linux/arm64` (default: this machine's)"
    )
    builder: Literal["auto", "docker", "podman", "buildah"] = Field(
        "auto",
        description="who builds the Dockerfile; `auto`: the first of docker, podman, buildah that answers",
    )
    build_script: str | None = Field(
        None,
        description="initramfs only: run first; may leave `rootfs/` or `initramfs.cpio.gz` in the folder",
    )
    format: Literal["qcow2", "raw"] = Field("qcow2", description="form of the disk")
    qcow2_compression: bool = Field(True, description="compress the clusters of a QCOW2 disk")
    compression: Literal["zstd", "zlib"] = Field(
        "zstd", description="`zlib` for readers older than QEMU 5.1 or Cloud Hypervisor 50"
    )
    disk_size: DiskSize | None = Field(
        None,
        description="virtual size, e.g. `20G` (default `10G`, more if the content needs it); free space is free",
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.build_script is not None and self.type != "initramfs":
            raise ValueError('build_script is for type = "initramfs" only')
        return self


class Plugin(RecipeModel):
    """[plugin]: the plugin's name card."""

    name: Name = Field(description="lowercase letters, digits, `-` and `_`")
    version: Version = Field(description="semantic version, e.g. `1.0.0`")
    description: str = Field("", description="one line for people")
    runtime: Runtime = Field(default_factory=lambda: Runtime())  # noqa: PLW0108  mypy cannot infer the class itself
    manifest: RuntimeHalf = Field(default_factory=lambda: RuntimeHalf())  # noqa: PLW0108  as above


class Recipe(RecipeModel):
    """A whole fledge.toml. `mappings` are local paths (relative to the recipe) to absolute paths in the guest."""

    plugin: Plugin
    mappings: dict[str, str] = Field(
        default_factory=dict,
        description="further files and folders, local path to path in the guest; under `*/bin` they become 0755",
    )


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; NotFound where there is none, InvalidInput with every problem where it is wrong."""
    recipe, problems = read_recipe(path)
    if recipe is None:
        raise refuse(f"cannot read recipe {show_path(path)}", problems)
    return recipe


def read_recipe(path: Path) -> tuple[Recipe | None, list[Problem]]:
    """The recipe, or None and what is wrong with it."""
    shown = show_path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"cannot read recipe {shown}: no such file",
            resolution="run 'fledge init' for a skeleton, or name a source: fledge build ./Dockerfile, "
            "fledge build --docker-archive image.tar",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read recipe {shown}: {error}") from error
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return None, [_syntax_problem(shown, text, error)]
    except RecursionError:
        return None, [Problem(shown, 0, 0, "not TOML: nested too deeply")]
    problems = list(_check_mappings(shown, text, data, path.parent))
    try:
        recipe = Recipe.model_validate(data, strict=True)
    except ValidationError as error:
        problems += [_describe(shown, text, detail) for detail in error.errors()]
        recipe = None
    return (None if problems else recipe), problems


def _syntax_problem(shown: str, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    match = re.search(r"\(at (?:line (\d+), column (\d+)|end of document)\)\Z", str(error))
    line, column = (int(match[1]), int(match[2])) if match and match[1] else (text.count("\n") + 1, 0)
    message = re.sub(r" \(at .*\)$", "", str(error))
    return Problem(shown, line, column, f"not TOML: {message}", "strings want quotes, tables are [like.this]")


def _check_mappings(shown: str, text: str, data: dict[str, Any], folder: Path) -> Iterator[Problem]:
    mappings = data.get("mappings")
    if not isinstance(mappings, dict):
        return
    for local, guest in mappings.items():
        line = find_line(text, ("mappings", local))
        if not (folder / local).exists():
            yield Problem(
                shown, line, 0, f"mappings: no such file: {local}", "paths are relative to the recipe"
            )
        if isinstance(guest, str) and (not guest.startswith("/") or ".." in guest.split("/")):
            yield Problem(
                shown, line, 0, f"mappings: {guest!r} is not an absolute path in the guest", "start it with /"
            )


# -- problems in words -----------------------------------------------------------------------------------


def _describe(shown: str, text: str, detail: Any) -> Problem:
    """One of pydantic's findings as a line that a person can act on."""
    location = tuple(str(part) for part in detail["loc"])
    key = ".".join(location)
    line = find_line(text, location)
    kind, given = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        known = _known_keys(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.6)
        if not near and (place := _find_elsewhere(location[-1])):
            return Problem(shown, line, 0, f"unknown key {key}", f"it belongs at {place}")
        advice = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
        return Problem(shown, line, 0, f"unknown key {key}", advice)
    if kind == "missing":
        return Problem(shown, line, 0, f"{key} is missing", _advice(location) or "add it")
    if kind == "string_pattern_mismatch":
        return Problem(shown, line, 0, f"{key} = {given!r} is not allowed", _advice(location))
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(given, (str, int, float, bool)):
        return Problem(shown, line, 0, f"{key} = {given!r}: {message}", _advice(location))
    return Problem(shown, line, 0, f"{key}: {message}", _advice(location))


_ADVICE = {
    NAME_PATTERN: "lowercase letters, digits, '-' and '_', at most 63, starting with a letter or digit",
    VERSION_PATTERN: 'a semantic version in quotes, e.g. "1.0.0"',
    SIZE_PATTERN: 'a whole number with K, M, G or T, e.g. "20G"',
    PLATFORM_PATTERN: '"linux/amd64" or "linux/arm64"',
}


def _advice(location: Sequence[str]) -> str:
    last = location[-1] if location else ""
    if tuple(location) == ("plugin",):
        return 'begin the file with [plugin], name = "..." and version = "..."'
    by_key = {
        "name": NAME_PATTERN,
        "version": VERSION_PATTERN,
        "disk_size": SIZE_PATTERN,
        "platform": PLATFORM_PATTERN,
    }
    if last in by_key and tuple(location[:1]) == ("plugin",):
        return _ADVICE[by_key[last]]
    return ""


def find_line(text: str, location: Sequence[str]) -> int:
    """Line of a key in TOML text, or of the innermost table around it that is written down; 0 where none is.

    A scan of the lines, for messages only: `[table]` headers and `key =` beginnings, read by the TOML
    parser itself.
    """
    best_line, best_depth = 0, 0
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        path: tuple[str, ...] = ()
        if line.lstrip().startswith("["):
            path = table = _key_path(line.strip())
        elif match := re.match(r"\s*((?:\"[^\"]*\"|'[^']*'|[A-Za-z0-9_.\s-])+?)\s*=", line):
            path = table + _key_path(f"{match[1]} = 0")
        depth = 0
        while depth < min(len(path), len(location)) and path[depth] == location[depth]:
            depth += 1
        if path and depth > best_depth and (depth == len(path) or depth == len(location)):
            best_line, best_depth = number, depth
    return best_line


def _key_path(line: str) -> tuple[str, ...]:
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    path: list[str] = []
    while True:
        if isinstance(value, list):
            value = value[0] if value else 0
        if not isinstance(value, dict) or not value:
            return tuple(path)
        key, value = next(iter(value.items()))
        path.append(key)


# -- the model, told to people ---------------------------------------------------------------------------


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for part in get_args(annotation) for model in _models_in(part)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return []


def _model_at(location: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = Recipe
    for part in location:
        field = model.model_fields.get(part)
        below = _models_in(field.annotation) if field else []
        if not below:
            return None
        model = below[0]
    return model


def _known_keys(location: Sequence[str]) -> list[str]:
    model = _model_at(location)
    return list(model.model_fields) if model else []


def _find_elsewhere(key: str) -> str:
    """The table that knows a key which was written into another, e.g. `port` directly under [plugin.manifest]."""
    places = [row.key for row in describe_keys() if row.key.rsplit(".", 1)[-1] == key]
    return places[0] if len(places) == 1 else ""


class KeyRow(RecipeModel):
    """One line of the reference: a dotted key, its type in words, its default as TOML, its meaning."""

    key: str
    type: str
    default: str
    meaning: str


def describe_keys() -> list[KeyRow]:
    """Every key that a recipe may hold, in the order of the model."""
    return list(_rows("", Recipe))


def _rows(prefix: str, model: type[BaseModel]) -> Iterator[KeyRow]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        below = _models_in(field.annotation)
        if below:
            yield from _rows(f"{key}.", below[0])
            continue
        yield KeyRow(
            key=key, type=_type_in_words(field.annotation), default=_default_as_toml(field),
            meaning=field.description or "",
        )  # fmt: skip


def _type_in_words(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_in_words(get_args(annotation)[0])
    if origin is Literal:
        return " or ".join(f'"{value}"' for value in get_args(annotation))
    if origin in (Union, UnionType):
        parts = [_type_in_words(part) for part in get_args(annotation) if part is not type(None)]
        return " or ".join(dict.fromkeys(parts))
    if origin is list:
        return f"array of {_type_in_words(get_args(annotation)[0])}"
    if origin is dict:
        return f"table of {_type_in_words(get_args(annotation)[1])}"
    names = {str: "string", int: "integer", bool: "boolean", float: "number"}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    return names.get(annotation, "any")


def _default_as_toml(field: Any) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or field.default is None:
        return "–"
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f'"{field.default}"' if isinstance(field.default, str) else str(field.default)
