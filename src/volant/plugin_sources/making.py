# SPDX-License-Identifier: Apache-2.0
"""From what was named to a plugin that the daemon has: found there, built by the program fledge, or uploaded."""

from __future__ import annotations

import hashlib
import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from volant.client.client import Client
from volant.errors import Conflict, NotFound, ToolFailed
from volant.plugin_sources.source import (
    TRANSPORT,
    Build,
    Image,
    Installed,
    PluginFile,
    Source,
    complete_reference,
    find_source,
    has_plugin,
)
from volant.plugin_sources.upload import upload_plugin
from volant.plugin_sources.workplace import Terminal, Workplace
from volant.process import find_tool, run_tool

TERMINAL = Terminal()
LOOK_UP_SECONDS = 30


@dataclass(frozen=True)
class BuildOptions:
    """What is passed on to fledge, and when an image is fetched again."""

    pull: Literal["missing", "always", "never"] = "missing"
    platform: str | None = None
    build_arg: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        platform = ["--platform", self.platform] if self.platform else []
        return [*platform, *(word for text in self.build_arg for word in ("--build-arg", text))]


def make_plugin(
    client: Client, text: str, options: BuildOptions, find: Callable[[str, Client], Source] = find_source,
    workplace: Workplace = TERMINAL,
) -> str:  # fmt: skip
    """NAME:VERSION of a plugin that the daemon has for this source. Raises what building and installing raise.

    `find`: what a text may mean (`find_image` where it is somebody else's).
    """
    source = find(text, client)
    return find_made(client, source, options) or make_new(client, source, options, workplace)


def find_made(client: Client, source: Source, options: BuildOptions) -> str | None:
    """NAME:VERSION where nothing has to be made. NotFound where nothing may be."""
    match source:
        case Installed():
            return source.reference
        case Image() if options.pull != "always" and has_plugin(client, source.tag):
            return source.tag
        case Image() if options.pull == "never":
            raise NotFound(
                f"cannot run {source.reference}: there is no plugin of it here, and --pull never forbids to fetch it"
            )
    return None


def make_new(client: Client, source: Source, options: BuildOptions, workplace: Workplace) -> str:
    match source:
        case Installed():
            return source.reference
        case PluginFile():
            plugin = upload_plugin(client, source.path, workplace)
            return f"{plugin['name']}:{plugin['version']}"
    return build_and_install(client, source, options.arguments, workplace)


def build_and_install(
    client: Client, source: Build | Image, more: Sequence[str], workplace: Workplace = TERMINAL
) -> str:
    """Build with fledge into a temporary file and install that.

    What the daemon has under the same name and version may be of other bytes, since somebody has changed a file: then
    this one is named after its bytes too, and the other stays.
    """
    with tempfile.TemporaryDirectory(prefix="volar-run-") as folder:
        output = Path(folder) / "plugin.tar.gz"
        arguments = [*make_fledge_arguments(source), *more, "--output", str(output)]
        workplace.run_fledge(arguments)
        try:
            plugin = upload_plugin(client, output, workplace)
        except Conflict:
            reference = name_by_bytes(output)
            if not has_plugin(client, reference):
                workplace.run_fledge([*arguments, "--tag", reference])
                upload_plugin(client, output, workplace)
            return reference
    return f"{plugin['name']}:{plugin['version']}"


def make_fledge_arguments(source: Build | Image) -> list[str]:
    if isinstance(source, Build):
        return list(source.arguments)
    reference = find_local_image(source.reference) or complete_reference(source.reference)
    return ["--image", reference, "--tag", source.tag]


def find_local_image(reference: str) -> str | None:
    """An image that Docker, podman or buildah has on this machine, as skopeo spells it; None where it is elsewhere."""
    if TRANSPORT.match(reference) or "@" in reference:
        return None
    looks = (
        ("docker", ["image", "inspect", "--format", "{{.Id}}", reference], "docker-daemon:"),
        ("podman", ["image", "exists", reference], "containers-storage:"),
        (
            "buildah",
            ["inspect", "--type", "image", "--format", "{{.FromImageID}}", reference],
            "containers-storage:",
        ),
    )
    for program, arguments, transport in looks:
        if (tool := find_tool(program)) is None:
            continue
        try:
            done = run_tool(
                [tool, *arguments], accepted_exit_codes=range(256), timeout_seconds=LOOK_UP_SECONDS
            )
        except ToolFailed:
            continue
        if done.returncode == 0:
            return transport + reference
    return None


def name_by_bytes(path: Path) -> str:
    """NAME:VERSION of a plugin's file with its digest as build metadata, which semantic versions have room for."""
    with tarfile.open(path) as archive:
        member = archive.next()
        stream = archive.extractfile(member) if member is not None else None
        manifest = json.load(stream) if stream is not None else {}
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:12]
    name, version = manifest["name"], manifest["version"]
    click.echo(f"the daemon has another {name} {version}: this one goes by its digest, {digest}", err=True)
    return f"{name}:{version}{'.' if '+' in version else '+'}{digest}"
