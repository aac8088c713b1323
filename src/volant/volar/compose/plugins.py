# SPDX-License-Identifier: Apache-2.0
"""The plugin of each service: one that the daemon has, fetched by its image's name, or built by fledge."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Hashable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

from volant.errors import InvalidInput, NotFound
from volant.plugin_sources.making import TERMINAL, BuildOptions, build_and_install, find_made, make_new
from volant.plugin_sources.source import Build as FledgeBuild
from volant.plugin_sources.source import Image, find_source, has_plugin
from volant.plugin_sources.workplace import Workplace
from volant.volar.client import Client
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Build, Service
from volant.volar.compose.side_by_side import Make, Row, make_side_by_side

BUILT_VERSION = "0.1.0"
Pull = Literal["missing", "always", "never"]


def find_plugins(
    client: Client, project: Project, names: Sequence[str], *, build: bool, pull: Pull | None
) -> dict[str, str]:
    """NAME:VERSION of each service's plugin; what is missing or asked for is built and fetched side by side.

    An image that several services have is made once, and builds that are alike follow each other: each finds the layers
    of the one before.
    """
    found: dict[str, str] = {}
    same: dict[Hashable, str] = {}
    rows: dict[Hashable, list[tuple[str, Make]]] = {}
    for name in names:
        service = project.stack.services[name]
        if service.build is not None:
            made = None if build or service.pull_policy == "build" else find_built(client, project, name)
            row: Hashable = service.build.model_dump_json()
            make: Make = partial(build_service, client, project, name, service.build)
        elif service.image is None:
            raise InvalidInput(f"cannot use services.{name}: it has neither image nor build")
        else:
            options = BuildOptions(pull or choose_pull(service), service.platform)
            source = find_source(service.image, client)
            made = find_made(client, source, options)
            row = (source.tag if isinstance(source, Image) else source, service.platform)
            make = partial(make_new, client, source, options)
            same.setdefault(row, name)
        if made is not None:
            found[name] = made
        elif (first := same.get(row, name)) == name:
            rows.setdefault(row, []).append((name, make))
        else:
            same[name] = first
    found |= make_rows(list(rows.values()))
    return {name: found[same.get(name, name)] for name in names}


def make_rows(rows: Sequence[Row]) -> dict[str, str]:
    """One alone has the terminal for itself."""
    if len(rows) > 1:
        return make_side_by_side(rows)
    return {name: make(TERMINAL) for row in rows for name, make in row}


def find_built(client: Client, project: Project, name: str) -> str | None:
    own = name_plugin(project.name, name)
    if not has_plugin(client, own):
        return None
    plugin = client.get_plugin(own)
    return f"{plugin['name']}:{plugin['version']}"


def find_disks(client: Client, project: Project, name: str) -> list[str]:
    """Names of the disks that each VM of a service has for itself, as its plugin says; none where it is not here."""
    service = project.stack.services[name]
    with suppress(NotFound, InvalidInput):
        reference = name_plugin(project.name, name)
        if service.build is None:
            source = find_source(service.image or "", client)
            reference = source.tag if isinstance(source, Image) else getattr(source, "reference", "")
        disks = client.get_plugin(reference)["manifest"].get("disks", [])
        return [disk["name"] for disk in disks if not disk.get("readonly")]
    return []


def choose_pull(service: Service) -> Pull:
    match service.pull_policy:
        case "always":
            return "always"
        case "never":
            return "never"
    return "missing"


def name_plugin(project: str, service: str) -> str:
    return f"{project}-{service.lower().replace('.', '-')}"[:63].rstrip("-_")


def build_service(client: Client, project: Project, name: str, build: Build, workplace: Workplace) -> str:
    """By a recipe of ours, which can say all that `build` does."""
    context = Path(build.context)
    if not context.is_dir():
        raise NotFound(
            f"cannot build service {name}: there is no folder {build.context}",
            resolution="build from a folder: repositories and addresses are for you to fetch",
        )
    with tempfile.TemporaryDirectory(prefix="volar-compose-") as folder:
        dockerfile = context / (build.dockerfile or find_dockerfile(context))
        if build.dockerfile_inline is not None:
            dockerfile = Path(folder) / "Dockerfile"
            dockerfile.write_text(build.dockerfile_inline)
        recipe = Path(folder) / "fledge.toml"
        recipe.write_text(make_recipe(name_plugin(project.name, name), dockerfile, project, build))
        return build_and_install(client, FledgeBuild(("--config", str(recipe))), [], workplace)


def find_dockerfile(context: Path) -> str:
    return (
        "Dockerfile"
        if (context / "Dockerfile").exists() or not (context / "Containerfile").exists()
        else "Containerfile"
    )


def make_recipe(plugin: str, dockerfile: Path, project: Project, build: Build) -> str:
    """fledge.toml; a JSON string is one of TOML."""
    values = {
        name: value if value is not None else project.environment.get(name)
        for name, value in build.args.items()
    }
    arguments = ", ".join(
        f"{json.dumps(name)} = {json.dumps(value)}" for name, value in values.items() if value is not None
    )
    lines = [
        "[plugin]",
        f"name = {json.dumps(plugin)}",
        f"version = {json.dumps(BUILT_VERSION)}",
        "[plugin.runtime]",
        f"source = {json.dumps(str(dockerfile.absolute()))}",
        f"context = {json.dumps(str(Path(build.context).absolute()))}",
        f"build_args = {{{arguments}}}",
    ]
    if build.target:
        lines.append(f"target = {json.dumps(build.target)}")
    if build.platforms:
        lines.append(f"platform = {json.dumps(build.platforms[0])}")
    return "\n".join(lines) + "\n"
