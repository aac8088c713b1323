# SPDX-License-Identifier: Apache-2.0
"""What all end-to-end tests share: a host, a base image, the nginx plugin."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.host import CACHE, ROOT, Host


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    # A short path: a UNIX socket's name holds at most 107 bytes.
    home = Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))
    found = Host(home)
    try:
        found.volar("setup", "kernel", timeout=300)
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def base_tar() -> Path:
    """Debian's minimal system as a tar."""
    subprocess.run([str(ROOT / "scripts" / "make-base-tar.sh"), str(CACHE)], check=True, timeout=600)
    return CACHE / "debian-bookworm.tar"


@pytest.fixture(scope="session")
def base_image() -> str:
    """localhost/debian:bookworm in buildah's store."""
    subprocess.run(
        [str(ROOT / "scripts" / "make-base-image.sh"), "buildah", str(CACHE)], check=True, timeout=600
    )
    return "localhost/debian:bookworm"


@pytest.fixture(scope="session")
def nginx_plugin(host: Host, base_image: str) -> Path:
    """examples/nginx as plugin.tar.gz, built by the command that the guide gives, and installed."""
    output = host.home / "nginx.tar.gz"
    host.run(
        "fledge",
        "build",
        "--builder",
        "buildah",
        "--output",
        str(output),
        cwd=ROOT / "examples" / "nginx",
        timeout=600,
    )
    host.volar("plugins", "install", str(output))
    return output
