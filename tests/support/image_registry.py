# SPDX-License-Identifier: Apache-2.0
"""Registries on this machine: Debian's docker-registry over a folder, and the one of go-containerregistry, which lists
referrers as image-spec 1.1 has it, as cosign and oras ask for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.host import CACHE, ROOT

MODULE = ROOT / "tests" / "support" / "listing_registry"
BUILD_SECONDS = 600


@contextlib.contextmanager
def start_registry(folder: Path, more: str = "") -> Iterator[str]:
    """A registry, as host:port; the test is skipped where the program is missing. `more` ends its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not on this machine")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder / 'registry'}\n"
        f"http:\n  addr: 127.0.0.1:{port}\n{more}"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", config], stdout=log, stderr=log)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def start_listing_registry(folder: Path) -> Iterator[str]:
    """As `start_registry`, of another make."""
    with subprocess.Popen([_build(), folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().decode().strip()
        finally:
            process.terminate()


def _build() -> Path:
    """Once for each machine: Go's own cache and the folder of built programs keep it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not on this machine")
    sources = b"".join((MODULE / name).read_bytes() for name in ("main.go", "go.sum"))
    target = CACHE.parent / "registries" / hashlib.sha256(sources).hexdigest()[:16]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        command = [go, "build", "-mod=readonly", "-trimpath", "-o", str(draft), "."]
        environment = {**os.environ, "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
        subprocess.run(command, cwd=MODULE, env=environment, check=True, timeout=BUILD_SECONDS)
        draft.rename(target)
    return target


@dataclass(frozen=True, slots=True)
class RegistryKind:
    """`blobs`: what it keeps in its folder. `keeps_manifests`: among these."""

    name: str
    start: Callable[[Path], contextlib.AbstractContextManager[str]]
    blobs: str
    keeps_manifests: bool


KINDS = (
    RegistryKind("docker-registry", start_registry, "blobs/sha256/**/data", keeps_manifests=True),
    RegistryKind("go-containerregistry", start_listing_registry, "sha256/*", keeps_manifests=False),
)
