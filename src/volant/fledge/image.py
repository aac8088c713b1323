# SPDX-License-Identifier: Apache-2.0
"""An OCI image as step 2 of the line hands it to step 3: what it says about running it, and where its layers lie.

Layers are byte ranges of open descriptors: a tar inside an archive costs no copy. The descriptors belong to the
ExitStack that the source was opened with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from volant.errors import InvalidInput
from volant.fledge.digests import DigestChecks
from volant.fledge.known_digests import KnownDigests
from volant.fledge.spool import find_compression

if TYPE_CHECKING:
    from volant.contract.image_config import ImageConfig

Compression = Literal["plain", "gzip", "zstd"]


@dataclass(frozen=True, slots=True)
class Layer:
    """`length` stored bytes at `offset` of `descriptor`; compressed or not is told by the bytes themselves.

    `digest` is that of the stored bytes and empty where the archive names none (a plain docker-archive); `diff_id`
    is that of the tar inside.
    """

    descriptor: int
    offset: int
    length: int
    digest: str
    diff_id: str
    media_type: str = ""


@dataclass(frozen=True)
class OciImage:
    """An image that is open for reading. `verify` must pass before anything made of it is published."""

    document: Mapping[str, Any] = field(repr=False)
    """Its config document."""
    layers: tuple[Layer, ...]
    digest: str
    """Of the image's config document, which names everything else: the image's identity."""
    checks: DigestChecks = field(repr=False, compare=False)
    reference: str = ""
    """The name it was saved under, e.g. `docker.io/library/my-app:1.2.0`; empty where there is none."""

    @cached_property
    def config_and_labels(self) -> tuple[ImageConfig, Mapping[str, str]]:
        """See `make_image_config`, whose errors are raised when this is first asked for."""
        return make_image_config(self.document)

    @property
    def config(self) -> ImageConfig:
        return self.config_and_labels[0]

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config_and_labels[1]

    @property
    def identity(self) -> str:
        """What is in it and how it was packed: an earlier build has seen that the one is the other."""
        packed = [layer.digest for layer in self.layers if layer.digest != layer.diff_id]
        return " ".join((f"{self.reference}@{self.digest}", *packed))

    def describe_layer(self, number: int) -> str:
        """How errors name a layer, counted from 1 at the bottom."""
        return f"layer {number} of {len(self.layers)} ({self.layers[number - 1].diff_id[:19]})"

    def find_compression(self, number: int) -> str:
        """plain, gzip or zstd. Raises InvalidInput for what is none of them."""
        layer = self.layers[number - 1]
        return find_compression(layer.descriptor, layer.offset, layer.length, self.describe_layer(number))

    def begin_checks(self, known: KnownDigests | None = None) -> None:
        """Begin to check the digests of what is stored, unless that was begun already.

        A compressed layer's diff id is checked when it is inflated. Raises InvalidInput.
        """
        if self.checks.have_begun:
            return
        self.checks.known = known
        for number, layer in enumerate(self.layers, start=1):
            what = self.describe_layer(number)
            digests = {layer.digest} if layer.digest else set()
            if self.find_compression(number) == "plain":
                digests.add(layer.diff_id)
            for digest in sorted(digests):
                self.checks.add(what, digest, layer.descriptor, layer.offset, layer.length)
        self.checks.have_begun = True

    def verify(self) -> None:
        """Wait for the digests of all layers; InvalidInput names the first that is wrong."""
        self.checks.verify()


def make_image_config(document: Mapping[str, Any]) -> tuple[ImageConfig, dict[str, str]]:
    """The contract's ImageConfig, and the labels, from an image's config document (image-spec config.md).

    Docker's extras (Healthcheck, Shell form already expanded by the builder) are read where they are. Raises
    InvalidInput for a document of the wrong shape and for images that are not for Linux.
    """
    from pydantic import ValidationError

    from volant.contract.image_config import ImageConfig, ImageHealthcheck

    if document.get("os") not in (None, "", "linux"):
        raise InvalidInput(
            f"cannot use the image: it is for {str(document['os'])[:40]}, not for Linux",
            resolution="choose a Linux image, e.g. with --platform linux/amd64",
        )
    config = document.get("config") or {}
    try:
        if not isinstance(config, dict):
            raise TypeError("its config is no object")
        health = config.get("Healthcheck")
        healthcheck = None
        if isinstance(health, dict) and health.get("Test") and health["Test"][0] != "NONE":
            healthcheck = ImageHealthcheck(
                test=health["Test"],
                interval=health.get("Interval") or 0,
                timeout=health.get("Timeout") or 0,
                start_period=health.get("StartPeriod") or 0,
                retries=health.get("Retries") or 0,
            )
        found = ImageConfig(
            entrypoint=config.get("Entrypoint") or [],
            cmd=config.get("Cmd") or [],
            env=config.get("Env") or [],
            working_dir=config.get("WorkingDir") or "",
            user=config.get("User") or "",
            stop_signal=config.get("StopSignal") or "",
            exposed_ports=sorted(config.get("ExposedPorts") or {}),
            volumes=sorted(config.get("Volumes") or {}),
            healthcheck=healthcheck,
            architecture=document.get("architecture") or "amd64",
        )
        labels = {
            str(name): "" if value is None else str(value)
            for name, value in (config.get("Labels") or {}).items()
        }
    except (ValidationError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise InvalidInput("cannot read the image's config document", details=str(error)[:500]) from error
    _check_texts(found)
    return found, labels


def _check_texts(config: ImageConfig) -> None:
    """What becomes arguments, variables and paths of a process ends at a NUL for the kernel."""
    check = config.healthcheck.test if config.healthcheck else ()
    texts = (
        *config.entrypoint, *config.cmd, *config.env, config.working_dir, config.user, *config.volumes,
        config.stop_signal, *check,
    )  # fmt: skip
    for text in texts:
        if "\0" in text:
            raise InvalidInput(
                f"cannot use the image: {text[:60]!r} in its config holds a NUL character",
                resolution="fix the Dockerfile and build the image again",
            )
