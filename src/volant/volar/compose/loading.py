# SPDX-License-Identifier: Apache-2.0
"""From compose files to one checked `Stack`, with absolute paths: the only module that reads them.

Each file is interpolated and checked by itself, so that an error names it; then `extends`, files over files, and what
is included are put together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from volant.errors import InvalidInput, NotFound
from volant.volar.compose.env_files import read_env_file
from volant.volar.compose.files import RawFile, is_local, read_file, resolve
from volant.volar.compose.interpolation import Interpolation
from volant.volar.compose.merging import Tree, merge_files, merge_services
from volant.volar.compose.model import Stack

PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
MOST_INCLUDES = 50
MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Project:
    """A stack with its name, and what was noticed while it was read."""

    name: str
    folder: Path
    stack: Stack
    environment: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass
class _Loader:
    warnings: list[str] = field(default_factory=list)
    includes: int = 0

    def load(
        self, paths: Sequence[Path], folder: Path, environment: Mapping[str, str], chain: tuple[Path, ...]
    ) -> Tree:
        merged: Tree = {}
        for path in paths:
            if path in chain:
                raise InvalidInput(f"cannot read {path}: it includes itself")
            raw = read_file(path)
            tree = self.check(raw, folder, environment)
            merged = merge_files(merged, tree, raw.replaced)
        for include in merged.pop("include", []):
            merged = self.add_included(merged, include, folder, environment, (*chain, *paths))
        return merged

    def check(self, raw: RawFile, folder: Path, environment: Mapping[str, str]) -> Tree:
        """One file, filled in and in long forms."""
        interpolation = Interpolation(environment)
        # The name is filled in before it is known.
        filled = {
            key: interpolation.apply(value, f"{raw.path.name}: {key}") for key, value in raw.tree.items()
        }
        for name in interpolation.unset:
            self.warnings.append(f"variable {name} is not set, and counts as empty")
        tree = make_long(filled, str(raw.path))
        make_absolute(tree, folder)
        services = tree.get("services", {})
        for name in list(services):
            services[name] = self.extend(services, name, raw, folder, environment, ())
        return tree

    def extend(
        self, services: Tree, name: str, raw: RawFile, folder: Path, environment: Mapping[str, str],
        chain: tuple[tuple[Path, str], ...],
    ) -> Tree:  # fmt: skip
        service: Tree = services[name]
        path = raw.path
        wanted = service.get("extends")
        if not wanted:
            return service
        if (path, name) in chain:
            raise InvalidInput(f"cannot read {path}: service {name} extends itself")
        wanted = {"service": wanted} if isinstance(wanted, str) else wanted
        if not isinstance(wanted, dict) or not isinstance(wanted.get("service"), str):
            raise InvalidInput(f"cannot read {path}: services.{name}.extends names no service")
        others, other, other_folder = services, raw, folder
        if file := wanted.get("file"):
            other = read_file(Path(resolve(folder, str(file))))
            other_folder = other.path.parent
            tree = make_long(Interpolation(environment).apply(other.tree, other.path.name), str(other.path))
            make_absolute(tree, other_folder)
            others = tree.get("services", {})
        if wanted["service"] not in others:
            raise NotFound(
                f"cannot read {path}: service {name} extends {wanted['service']}, which {other.path} lacks"
            )
        below = self.extend(
            others, wanted["service"], other, other_folder, environment, (*chain, (path, name))
        )
        below, above = (
            {key: value for key, value in each.items() if key != "extends"} for each in (below, service)
        )
        return merge_services(
            below, above, [place[2:] for place in raw.replaced if place[:2] == ("services", name)]
        )

    def add_included(
        self,
        merged: Tree,
        include: Tree,
        folder: Path,
        environment: Mapping[str, str],
        chain: tuple[Path, ...],
    ) -> Tree:
        self.includes += 1
        if self.includes > MOST_INCLUDES:
            raise InvalidInput(f"cannot read {chain[0]}: more than {MOST_INCLUDES} files are included")
        paths = [Path(resolve(folder, text)) for text in include.get("path", [])]
        if not paths:
            raise InvalidInput(f"cannot read {chain[-1]}: an include names no path")
        inner = Path(resolve(folder, include.get("project_directory") or str(paths[0].parent)))
        files = [Path(resolve(folder, text)) for text in include.get("env_file", [])]
        variables = {**read_dotenv(inner, files, environment), **environment}
        tree = self.load(paths, inner, variables, chain)
        for kind in ("services", "networks", "volumes", "configs", "secrets"):
            ours = merged.setdefault(kind, {})
            for name, value in tree.get(kind, {}).items():
                if name in ours and ours[name] != value:
                    raise InvalidInput(f"cannot include {paths[0]}: {kind}.{name} is defined here, too")
                ours[name] = value
        return merged


def load_project(
    paths: Sequence[Path], *, name: str | None = None, env_files: Sequence[Path] = (),
    folder: Path | None = None, environment: Mapping[str, str] | None = None,
) -> Project:  # fmt: skip
    """Raises NotFound and InvalidInput, which name file and place."""
    folder = folder or paths[0].parent
    outer = dict(os.environ if environment is None else environment)
    variables = {**read_dotenv(folder, env_files, outer), **outer}
    loader = _Loader()
    project = name or variables.get("COMPOSE_PROJECT_NAME") or ""
    if not project:
        written = read_file(paths[-1]).tree.get("name") or read_file(paths[0]).tree.get("name")
        project = Interpolation(variables).fill(written, "name") if isinstance(written, str) else ""
    project = project or re.sub(r"[^a-z0-9_-]+", "", folder.name.lower()).lstrip("_-")
    if not PROJECT_NAME.fullmatch(project):
        raise InvalidInput(
            f"cannot call a stack {project!r}: a name has lowercase letters, digits, '-' and '_', at most 41",
            resolution="give one: volar compose -p NAME …, or name: NAME in the file",
        )
    variables["COMPOSE_PROJECT_NAME"] = project
    tree = loader.load(paths, folder, variables, ())
    stack = validate(tree, ", ".join(path.name for path in paths))
    return Project(project, folder, stack, variables, tuple(dict.fromkeys(loader.warnings)))


def read_dotenv(folder: Path, named: Sequence[Path], outer: Mapping[str, str]) -> dict[str, str]:
    """`.env` of the project's folder, or the files that were named in its place; later ones count."""
    paths: Iterable[Path] = named or [path for path in [folder / ".env"] if path.is_file()]
    found: dict[str, str] = {}
    for path in paths:
        values = read_env_file(path, {**found, **outer})
        found.update({name: value for name, value in values.items() if value is not None})
    return found


def make_long(tree: Tree, name: str) -> Tree:
    long: Tree = validate(tree, name).model_dump(exclude_unset=True, by_alias=True)
    return long


def validate(tree: Tree, name: str) -> Stack:
    try:
        return Stack.model_validate(tree)
    except ValidationError as error:
        problems = [describe(dict(detail)) for detail in error.errors()]
        more = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        raise InvalidInput(f"cannot use {name}", details=[*problems[:MOST_PROBLEMS], *more]) from error


def describe(detail: dict[str, Any]) -> str:
    place = ""
    for part in detail["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    message = "there is no such key" if detail["type"] == "extra_forbidden" else detail["msg"]
    return f"{place}: {message.removeprefix('Value error, ')}"


def make_absolute(tree: Tree, folder: Path) -> None:
    """Paths count from the folder of the file that has them."""
    for service in tree.get("services", {}).values():
        if (build := service.get("build")) and is_local(context := build.get("context", ".")):
            build["context"] = resolve(folder, context)
        for file in service.get("env_file", []):
            file["path"] = resolve(folder, file["path"])
        if "label_file" in service:
            service["label_file"] = [resolve(folder, text) for text in service["label_file"]]
        for volume in service.get("volumes", []):
            if volume["type"] == "bind" and volume.get("source"):
                volume["source"] = resolve(folder, volume["source"])
    for kind in ("configs", "secrets"):
        for item in tree.get(kind, {}).values():
            if item.get("file"):
                item["file"] = resolve(folder, item["file"])
