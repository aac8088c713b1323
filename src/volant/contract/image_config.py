# SPDX-License-Identifier: Apache-2.0
"""/etc/kestrel/image.json: what the OCI image says about running it.

fledge writes it into every rootfs from the image's own config (OCI image-spec, config.md; HEALTHCHECK as Docker
spells it), kestrel reads it at boot. It is a file of the disk, not of the manifest, so that the manifest holds only
what the recipe decided and a disk copied by hand still knows its command. A disk without it has no image defaults.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

IMAGE_CONFIG_PATH = "/etc/kestrel/image.json"
KESTREL_CONFIG_PATH = "/etc/kestrel/config.yaml"
AGENT_PATH = "/usr/local/bin/kestrel"


class ImageHealthcheck(BaseModel):
    """HEALTHCHECK; times in nanoseconds as in Docker's config, 0: default. `test`: ["CMD", …] or ["CMD-SHELL", "…"]."""

    model_config = ConfigDict(defer_build=True, frozen=True)

    test: list[str]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


class ImageConfig(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True)

    entrypoint: list[str] = Field(default_factory=list)
    cmd: list[str] = Field(default_factory=list)
    env: list[str] = Field(default_factory=list, description="NAME=value, in the image's order")
    working_dir: str = ""
    user: str = Field("", description="name or number, with :group where the image says so")
    stop_signal: str = Field("", description="e.g. SIGQUIT; empty: SIGTERM")
    exposed_ports: list[str] = Field(default_factory=list, description='e.g. "80/tcp"')
    volumes: list[str] = Field(default_factory=list)
    healthcheck: ImageHealthcheck | None = None
    architecture: str = "amd64"
