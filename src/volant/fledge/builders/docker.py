# SPDX-License-Identifier: Apache-2.0
"""docker: a client, of no use without the daemon that it speaks to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from volant.errors import ToolFailed, ToolMissing
from volant.fledge.builders.base import Builder, BuilderName, BuildRequest, common_arguments
from volant.process import run_tool


class Docker(Builder):
    name: ClassVar[BuilderName] = "docker"

    def find_absence(self) -> str:
        command = [self.program, "info", "--format", "{{.ServerVersion}}"]
        try:
            answer = run_tool(command, timeout_seconds=20, accepted_exit_codes=range(256))
        except ToolFailed as error:
            return error.what
        # Some versions exit 0 and name no server.
        if answer.returncode == 0 and answer.stdout.strip():
            return ""
        lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
        return lines[-1][:200] if lines else f"'docker info' ended with exit code {answer.returncode}"

    def build_arguments(self, request: BuildRequest, folder: Path) -> list[str]:
        has_buildx = (
            run_tool([self.program, "buildx", "version"], accepted_exit_codes=range(256)).returncode == 0
        )
        if request.extra_contexts and not has_buildx:
            raise ToolMissing(
                "cannot build the Dockerfile: COPY --from=kestrel needs docker's buildx plugin",
                resolution="install docker-buildx, use --builder podman or buildah, or drop that line: "
                "fledge puts the agent in anyway",
            )
        if request.ignore_file is not None and not has_buildx and not os.environ.get("DOCKER_BUILDKIT"):
            name = request.ignore_file.name
            raise ToolMissing(
                f"cannot build the Dockerfile: docker without its buildx plugin does not read {name}",
                resolution="install docker-buildx, use --builder podman or buildah, or call it .dockerignore",
            )
        command = [self.program, "build"]
        if has_buildx:
            command = [
                self.program,
                "buildx",
                "build",
                "--load",
                "--progress",
                "plain",
                "--provenance=false",
            ]
        return [*command, *common_arguments(request, folder), str(request.context)]

    def export_arguments(self, image_id: str, target: Path) -> list[str]:
        return [self.program, "save", "--output", str(target), image_id]

    def environment(self) -> dict[str, str]:
        return {name: os.environ[name] for name in ("DOCKER_BUILDKIT",) if name in os.environ}

    def remove_arguments(self, image_id: str) -> list[str]:
        return [self.program, "rmi", "--force", image_id]
