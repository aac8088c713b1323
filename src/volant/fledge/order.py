# SPDX-License-Identifier: Apache-2.0
"""What one `fledge build` is to do: the recipe and the command line made one.

The command line wins over the recipe, and the recipe over what the image says of itself; the image is not
known here yet, so what only it can tell is left open (None) for the pipeline.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volant.contract.names import is_version
from volant.errors import InvalidInput, NotFound, UsageError
from volant.fledge.naming import clean_name
from volant.output_file import read_output, show_path
from volant.sizes import read_size

if TYPE_CHECKING:
    from volant.contract.manifest import CloudInitDocument, RuntimeHalf
    from volant.fledge.recipe import Recipe

BuilderChoice = Literal["auto", "docker", "podman", "buildah"]
ArchiveKind = Literal["docker-archive", "oci-archive", "oci"]
RECIPE_NAME = "fledge.toml"
TRANSPORT = re.compile(r"^(docker|docker-daemon|containers-storage|docker-archive|oci-archive|oci|dir):")


@dataclass(frozen=True)
class DockerfileSource:
    """A Dockerfile and what its build is to be told. `build_args` may hold secrets."""

    path: Path
    context: Path
    target: str | None = None
    platform: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict, repr=False)
    builder: BuilderChoice = "auto"


@dataclass(frozen=True)
class ArchiveSource:
    """An image in a file or, for `oci`, a folder."""

    kind: ArchiveKind
    path: Path
    platform: str | None = None


@dataclass(frozen=True)
class ReferenceSource:
    """An image that skopeo fetches, in skopeo's spelling."""

    reference: str
    platform: str | None = None


@dataclass(frozen=True)
class ScriptSource:
    """A build script that leaves a rootfs/ folder or an initramfs archive."""

    script: Path


@dataclass(frozen=True)
class MappingsSource:
    """Nothing but the recipe's mappings."""


Source = DockerfileSource | ArchiveSource | ReferenceSource | ScriptSource | MappingsSource


@dataclass(frozen=True)
class CommandLine:
    """The options of `fledge build`, as typed."""

    place: str | None = None
    config: str | None = None
    docker_archive: str | None = None
    oci_archive: str | None = None
    oci_layout: str | None = None
    image: str | None = None
    output: str | None = None
    builder: BuilderChoice | None = None
    build_args: Mapping[str, str] = field(default_factory=dict, repr=False)
    target: str | None = None
    platform: str | None = None
    format: Literal["qcow2", "raw"] | None = None
    tag: str | None = None
    use_cache: bool = True


@dataclass(frozen=True)
class BuildOrder:
    """One build, resolved as far as it can be without the image."""

    source: Source
    kind: Literal["oci", "initramfs"] = "oci"
    name: str | None = None
    version: str | None = None
    description: str = ""
    runtime: RuntimeHalf | None = None
    want_port_from_image: bool = True
    format: Literal["qcow2", "raw"] = "qcow2"
    compression: Literal["zstd", "zlib"] | None = "zstd"
    disk_size_bytes: int | None = None
    mappings: tuple[tuple[Path, str], ...] = ()
    platform: str | None = None
    output: Path | None = None
    use_cache: bool = True
    notes: tuple[str, ...] = ()
    recipe: Path | None = None

    @property
    def inputs(self) -> Iterator[Path]:
        """Every file that the build reads by name; an output may be none of them."""
        if self.recipe is not None:
            yield self.recipe
        match self.source:
            case DockerfileSource():
                yield self.source.path
                yield self.source.path.with_name(self.source.path.name + ".dockerignore")
                yield self.source.context / ".dockerignore"
            case ArchiveSource():
                yield self.source.path
                if self.source.kind == "oci":
                    yield from (path for path in self.source.path.rglob("*") if path.is_file())
            case ScriptSource():
                yield self.source.script
        for local, _ in self.mappings:
            yield local
            if local.is_dir():
                yield from (path for path in local.rglob("*") if path.is_file())


def make_order(line: CommandLine, folder: Path | None = None) -> BuildOrder:
    """Resolve options and recipe. `folder`: where the command runs."""
    folder = folder or Path()
    given = [line.place, line.docker_archive, line.oci_archive, line.oci_layout, line.image]
    if sum(value is not None for value in given) > 1:
        raise UsageError(
            "cannot build from two sources at once",
            resolution="use one of DOCKERFILE, --docker-archive, --oci-archive, --oci-layout, --image",
        )
    recipe_path, line = _find_recipe(line, folder)
    if recipe_path is None:
        return _name(_order_without_recipe(line, folder), line.tag)
    # No models are loaded where there is no recipe: an image alone is to be converted fast (see build.py).
    from volant.fledge.recipe import load_recipe

    return _name(_order_from_recipe(load_recipe(recipe_path), recipe_path, line), line.tag)


def _name(order: BuildOrder, tag: str | None) -> BuildOrder:
    """The order under the name, and the version if there is one, that the command line gives."""
    if tag is None:
        return order
    from dataclasses import replace

    name, _, version = tag.partition(":")
    if not name or clean_name(name) != name or (version and not is_version(version)):
        raise UsageError(
            f"cannot name the plugin {tag!r}",
            resolution="--tag NAME or NAME:VERSION: lower-case letters, digits, '-' and '_', and a semantic version",
        )
    return replace(order, name=name, version=version or order.version)


def _find_recipe(line: CommandLine, folder: Path) -> tuple[Path | None, CommandLine]:
    """The recipe to read, if any; a folder given as the place stands for the recipe or the Dockerfile in it."""
    from dataclasses import replace

    if line.config is not None:
        return folder / line.config, line
    place = folder / line.place if line.place is not None else None
    if place is not None and place.is_dir():
        if (place / RECIPE_NAME).is_file():
            return place / RECIPE_NAME, replace(line, place=None)
        return None, replace(line, place=str(place / "Dockerfile"))
    if place is not None and place.suffix == ".toml":
        return place, replace(line, place=None)
    default = folder / RECIPE_NAME
    return (default if default.is_file() else None), line


def _order_from_recipe(recipe: Recipe, path: Path, line: CommandLine) -> BuildOrder:
    plugin, runtime = recipe.plugin, recipe.plugin.runtime
    folder = path.parent
    source = _source_from_command_line(line, recipe, folder) or _source_from_recipe(recipe, folder, line)
    return BuildOrder(
        source=source,
        kind=runtime.type,
        name=plugin.name,
        version=plugin.version,
        description=plugin.description,
        runtime=_inline_documents(plugin.manifest, folder),
        want_port_from_image=plugin.manifest.workload.port is None,
        format=line.format or runtime.format,
        compression=runtime.compression if runtime.qcow2_compression else None,
        disk_size_bytes=read_size(runtime.disk_size) if runtime.disk_size else None,
        mappings=tuple((folder / local, guest) for local, guest in sorted(recipe.mappings.items())),
        platform=line.platform or runtime.platform,
        output=None if line.output is None else read_output(line.output),
        use_cache=line.use_cache,
        notes=(f"recipe: {show_path(path)} ({plugin.name} {plugin.version})",),
        recipe=path,
    )


def _order_without_recipe(line: CommandLine, folder: Path) -> BuildOrder:
    source = _source_from_command_line(line, None, folder)
    if source is None:
        dockerfile = folder / "Dockerfile"
        if not dockerfile.is_file():
            raise NotFound(
                f"cannot build: neither {RECIPE_NAME} nor a Dockerfile is in {folder.absolute()}",
                resolution="run 'fledge init' for a skeleton, or name a source: fledge build ./Dockerfile, "
                "fledge build --docker-archive image.tar",
            )
        source = _dockerfile(dockerfile, line, None, folder)
    name = clean_name(source.context.resolve().name) if isinstance(source, DockerfileSource) else None
    return BuildOrder(
        source=source,
        name=name or None,
        format=line.format or "qcow2",
        platform=line.platform,
        output=None if line.output is None else read_output(line.output),
        use_cache=line.use_cache,
    )


def _source_from_command_line(line: CommandLine, recipe: Recipe | None, folder: Path) -> Source | None:
    platform = line.platform or (recipe.plugin.runtime.platform if recipe else None)
    if line.docker_archive is not None:
        return ArchiveSource("docker-archive", Path(line.docker_archive), platform)
    if line.oci_archive is not None:
        return ArchiveSource("oci-archive", Path(line.oci_archive), platform)
    if line.oci_layout is not None:
        return ArchiveSource("oci", Path(line.oci_layout), platform)
    if line.image is not None:
        return _reference(line.image, Path(), platform)
    if line.place is not None:
        return _dockerfile(Path(line.place), line, recipe, folder)
    return None


def _source_from_recipe(recipe: Recipe, folder: Path, line: CommandLine) -> Source:
    runtime = recipe.plugin.runtime
    if runtime.build_script is not None:
        return ScriptSource(folder / runtime.build_script)
    if runtime.source is None:
        dockerfile = folder / "Dockerfile"
        if runtime.type == "initramfs" and recipe.mappings and not dockerfile.is_file():
            return MappingsSource()
        return _dockerfile(dockerfile, line, recipe, folder)
    is_file = (folder / runtime.source).is_file()
    if not is_file and (TRANSPORT.match(runtime.source) or ":" in runtime.source):
        return _reference(runtime.source, folder, line.platform or runtime.platform)
    return _dockerfile(folder / runtime.source, line, recipe, folder)


def _dockerfile(path: Path, line: CommandLine, recipe: Recipe | None, folder: Path) -> DockerfileSource:
    runtime = recipe.plugin.runtime if recipe else None
    context = folder / runtime.context if runtime and runtime.context else path.parent
    return DockerfileSource(
        path=path,
        context=context,
        target=line.target or (runtime.target if runtime else None),
        platform=line.platform or (runtime.platform if runtime else None),
        build_args={**(runtime.build_args if runtime else {}), **line.build_args},
        builder=line.builder or (runtime.builder if runtime else "auto"),
    )


def _reference(text: str, folder: Path, platform: str | None) -> Source:
    """`docker-archive:`, `oci-archive:` and `oci:` are read here; a bare name means a registry's image."""
    match = TRANSPORT.match(text)
    if match is None:
        return ReferenceSource(f"docker://{text}", platform)
    if match[1] in ("docker-archive", "oci-archive", "oci"):
        path = folder / text.partition(":")[2]
        if path.exists():
            return ArchiveSource(match[1], path, platform)  # type: ignore[arg-type]  # the three that were matched
        return ReferenceSource(f"{match[1]}:{path}", platform)
    return ReferenceSource(text, platform)


def _inline_documents(runtime: RuntimeHalf, folder: Path) -> RuntimeHalf:
    """cloud-init documents and an OpenAPI text that the recipe names as files, as text: the plugin stands alone."""
    changes: dict[str, object] = {}
    if runtime.cloud_init is not None:
        from volant.contract.manifest import CloudInit

        changes["cloud_init"] = CloudInit(
            seed_mode=runtime.cloud_init.seed_mode,
            user_data=_inline(runtime.cloud_init.user_data, folder, "user_data"),
            meta_data=_inline(runtime.cloud_init.meta_data, folder, "meta_data"),
            network_config=_inline(runtime.cloud_init.network_config, folder, "network_config"),
        )
    if isinstance(runtime.openapi, str) and os.path.isfile(folder / runtime.openapi):
        changes["openapi"] = _read_text(folder / runtime.openapi, "openapi")
    return runtime.model_copy(update=changes) if changes else runtime


def _inline(document: CloudInitDocument | None, folder: Path, name: str) -> CloudInitDocument | None:
    if document is None or document.path is None:
        return document
    from volant.contract.manifest import CloudInitDocument

    return CloudInitDocument(content=_read_text(folder / document.path, f"cloud_init.{name}"))


def _read_text(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {show_path(path)} (plugin.manifest.{key}): {error}") from error
