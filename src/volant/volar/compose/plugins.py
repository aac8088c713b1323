# SPDX-License-Identifier: Apache-2.0
"""The plugin of each service: one that the daemon has, fetched by its image's name, or built by fledge."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Literal

from volant.errors import InvalidInput, NotFound
from volant.plugin_sources.making import BuildOptions, build_and_install, make_plugin
from volant.plugin_sources.source import Build as FledgeBuild
from volant.plugin_sources.source import has_plugin
from volant.volar.client import Client
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Build, Service

BUILT_VERSION = "0.1.0"
Pull = Literal["missing", "always", "never"]


def find_plugin(client: Client, project: Project, name: str, *, build: bool, pull: Pull | None) -> str:
    """NAME:VERSION of a service's plugin, which is built or fetched where it is missing or that is asked for."""
    service = project.stack.services[name]
    if service.build is None:
        if service.image is None:
            raise InvalidInput(f"cannot use services.{name}: it has neither image nor build")
        return make_plugin(
            client, service.image, BuildOptions(pull or choose_pull(service), service.platform)
        )
    own = name_plugin(project.name, name)
    if not build and service.pull_policy != "build" and has_plugin(client, own):
        plugin = client.get_plugin(own)
        return f"{plugin['name']}:{plugin['version']}"
    return build_service(client, project, name, service.build)


def choose_pull(service: Service) -> Pull:
    match service.pull_policy:
        case "always":
            return "always"
        case "never":
            return "never"
    return "missing"


def name_plugin(project: str, service: str) -> str:
    return f"{project}-{service.lower().replace('.', '-')}"[:63].rstrip("-_")


def build_service(client: Client, project: Project, name: str, build: Build) -> str:
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
        return build_and_install(client, FledgeBuild(("--config", str(recipe))), [])


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
