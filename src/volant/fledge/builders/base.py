# SPDX-License-Identifier: Apache-2.0
"""What every image builder can be asked for. Arguments only: work.py runs them."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

BuilderName = Literal["docker", "podman", "buildah"]
Isolation = Literal["configured", "chroot"]
# Build arguments of these names would change the builder itself if they were set in its environment.
_NOT_BY_ENVIRONMENT = re.compile(
    r"PATH$|HOME$|USER$|LOGNAME$|TMPDIR$|LD_|XDG_|DOCKER_|BUILDAH_|CONTAINER|STORAGE_|REGISTRY_|LC_|TZ$|GO"
)


@dataclass(frozen=True)
class BuildRequest:
    """What a builder is asked for. `build_args` may hold secrets; `extra_contexts` are named build contexts."""

    dockerfile: Path
    context: Path
    ignore_file: Path | None = None
    target: str | None = None
    platform: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    extra_contexts: Mapping[str, Path] = field(default_factory=dict)
    host_network: bool = False
    use_cache: bool = True

    def by_environment(self) -> dict[str, str]:
        """Build arguments whose values go by the builder's environment, so that no process list shows them."""
        return {name: value for name, value in self.build_args.items() if not _NOT_BY_ENVIRONMENT.match(name)}


@dataclass(frozen=True)
class Builder(ABC):
    """A builder that is installed. `note` tells why not the ones before it.

    `isolation` is how its steps run, with the reason and the cure where that is not as it is configured.
    """

    program: str
    note: str = ""
    isolation: Isolation = "configured"
    isolation_fact: str = ""
    isolation_cure: str = ""
    is_remembered: bool = False
    storage_driver: str = ""

    name: ClassVar[BuilderName]
    # In the order in which they are tried.
    isolations: ClassVar[tuple[Isolation, ...]] = ("configured",)
    # Programs and files that decide whether a step can be run: a change of one calls for another trial.
    relies_on: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def find_absence(self) -> str:
        """Why the builder does not answer, in one line; empty where it does."""

    @abstractmethod
    def build_arguments(self, request: BuildRequest, folder: Path) -> list[str]:
        """The command that builds; it leaves the image's id in `folder`/image-id."""

    @abstractmethod
    def export_arguments(self, image_id: str, target: Path) -> list[str]:
        """The command that writes an image as a docker-archive whose layers are not compressed."""

    @abstractmethod
    def remove_arguments(self, image_id: str) -> list[str]:
        """The command that takes an image out of the builder's store."""

    def environment(self) -> dict[str, str]:
        """What the builder needs in its environment on this machine."""
        return {}

    def driver_arguments(self) -> list[str]:
        """The command that prints the storage driver; none where it does not matter."""
        return []

    def describe(self) -> str:
        """The builder for people, in one line."""
        text: str = self.name
        if self.isolation == "chroot":
            text += f", steps in a chroot: {self.isolation_fact}"
            text += f" (containers: {self.isolation_cure})" if self.isolation_cure else ""
        return f"{text} ({self.note})" if self.note else text

    @property
    def copies_layers(self) -> bool:
        """Whether the builder's storage copies the whole tree for every step."""
        return self.storage_driver == "vfs"


def common_arguments(request: BuildRequest, folder: Path) -> list[str]:
    """The arguments that all three understand."""
    arguments = ["--file", str(request.dockerfile), "--iidfile", str(folder / "image-id"), "--force-rm"]
    if request.host_network:
        arguments += ["--network", "host"]
    if request.target:
        arguments += ["--target", request.target]
    if request.platform:
        arguments += ["--platform", request.platform]
    if not request.use_cache:
        arguments += ["--no-cache"]
    hidden = request.by_environment()
    for name, value in sorted(request.build_args.items()):
        arguments += ["--build-arg", name if name in hidden else f"{name}={value}"]
    for name, path in sorted(request.extra_contexts.items()):
        arguments += ["--build-context", f"{name}={path}"]
    return arguments


def is_writable_folder(path: str | None) -> bool:
    return bool(path) and os.path.isdir(str(path)) and os.access(str(path), os.W_OK | os.X_OK)
