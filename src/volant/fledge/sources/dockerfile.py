# SPDX-License-Identifier: Apache-2.0
"""Step 1 of the line: a Dockerfile → an image archive, by the builder that this machine has.

The Dockerfile stays as typed. Where it downloads the agent the builder gets a copy with our own address in
it, and where it says `COPY --from=kestrel` a build context of that name.
"""

from __future__ import annotations

import codecs
import os
import platform
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from volant.contract.agents import Architecture
from volant.errors import InvalidInput, NotFound
from volant.fledge.agent_server import (
    describe_rewrite,
    make_agent_context,
    start_agent_server,
    want_agent,
)
from volant.fledge.builders import (
    Builder,
    BuildRequest,
    export_image,
    find_builder,
    make_image,
)
from volant.fledge.ignore_file import read_ignore_file
from volant.fledge.order import DockerfileSource
from volant.fledge.scratch_folder import make_scratch_folder
from volant.output_file import show_path
from volant.progress import Monitor


@dataclass(frozen=True)
class BuiltImage:
    """An image in a builder's store. `image_id` names its content."""

    image_id: str
    builder: Builder
    folder: Path
    monitor: Monitor

    def export(self) -> Path:
        """Write it as a docker-archive into the scratch folder."""
        self.monitor.step(f"export image from {self.builder.name}")
        archive = self.folder / "image.tar"
        export_image(self.builder, self.image_id, archive, self.monitor)
        return archive


def build_dockerfile(source: DockerfileSource, stack: ExitStack, monitor: Monitor) -> BuiltImage:
    """Build; the image stays in the builder's store, its scratch folder goes with `stack`."""
    text = _read(source)
    builder = find_builder(source.builder, monitor, host_network=want_agent(text))
    monitor.say(f"builder: {builder.describe()}")
    if builder.copies_layers:
        monitor.say(
            f"{builder.name}'s storage driver is vfs, which copies the whole image for every step: "
            "'fledge doctor' names a faster one"
        )
    scratch = make_scratch_folder(stack)
    with ExitStack() as build:
        dockerfile = source.path
        if want_agent(text):
            server = build.enter_context(start_agent_server(monitor))
            monitor.say(describe_rewrite(source.path, server))
            dockerfile = _write_copy(scratch / source.path.name, server.rewrite(text))
        ignore_file = _find_ignore_file(source, dockerfile, scratch)
        contexts: dict[str, Path] = {}
        if _want_agent_context(text):
            contexts["kestrel"] = make_agent_context(scratch / "kestrel", _architecture(source))
        request = BuildRequest(
            dockerfile=dockerfile.absolute(),
            context=source.context.absolute(),
            ignore_file=ignore_file,
            target=source.target,
            platform=source.platform,
            build_args=source.build_args,
            extra_contexts=contexts,
            host_network=want_agent(text),
        )
        monitor.step(f"build {show_path(source.path)}")
        image_id = make_image(builder, request, scratch, monitor)
    return BuiltImage(image_id, builder, scratch, monitor)


def _read(source: DockerfileSource) -> str:
    if not source.context.is_dir():
        raise NotFound(f"cannot build {show_path(source.path)}: no such folder: {show_path(source.context)}")
    try:
        return source.path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(
            f"cannot build {show_path(source.path)}: no such file",
            resolution="name the Dockerfile in fledge.toml ([plugin.runtime] source = ...) or on the command line",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {show_path(source.path)}: {error}") from error


def _write_copy(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    os.utime(path, (0, 0))
    return path


def _find_ignore_file(source: DockerfileSource, dockerfile: Path, scratch: Path) -> Path | None:
    """The ignore file that a builder would not find by itself, or not read as Docker does; put in its way.

    That is the Dockerfile's own (`web.Dockerfile.dockerignore`), beside the copy where there is one, and one that
    begins with a byte order mark, in whose first line podman and buildah see no pattern.
    """
    found = read_ignore_file(source.path, source.context).path
    if found is None:
        return None
    own = source.path.with_name(f"{source.path.name}.dockerignore")
    has_mark = found.read_bytes().startswith(codecs.BOM_UTF8)
    if found == own and dockerfile != source.path:
        _write_copy(dockerfile.with_name(own.name), own.read_text(encoding="utf-8-sig"))
    if has_mark:
        return _write_copy(scratch / "ignore", found.read_text(encoding="utf-8-sig"))
    return own.absolute() if found == own else None


def _want_agent_context(text: str) -> bool:
    """Whether the Dockerfile copies from `kestrel` and means ours, not a stage of its own."""
    wants = re.search(r"--from=kestrel\b|\bfrom=kestrel\b", text) is not None
    return wants and not re.search(r"^\s*FROM\s.*\sAS\s+kestrel\s*$", text, re.IGNORECASE | re.MULTILINE)


def _architecture(source: DockerfileSource) -> Architecture:
    machine = source.platform or platform.machine()
    return "arm64" if machine.endswith(("arm64", "aarch64")) else "amd64"
