# SPDX-License-Identifier: Apache-2.0
"""What tests with real VMs share: a host, base images, the nginx plugin. (Fixtures; tests/conftest.py loads them.)"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import CACHE, ROOT, Host


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


SYSTEM_PACKAGES = "docker.io iptables iproute2 kmod systemd systemd-sysv dbus nginx-light curl"


@pytest.fixture(scope="session")
def system_tar() -> Path:
    """A Debian with what wants a whole machine: Docker and systemd."""
    tar = CACHE / "debian-system.tar"
    if not tar.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = tar.with_suffix(".part")
        mode = "root" if os.getuid() == 0 else "unshare"
        include = f"--include={SYSTEM_PACKAGES.replace(' ', ',')}"
        command = ["mmdebstrap", f"--mode={mode}", "--variant=minbase", "--quiet", "--format=tar", include]
        retries = '--aptopt=Acquire::Retries "5"'
        subprocess.run([*command, retries, "bookworm", str(draft)], check=True, timeout=900)
        draft.rename(tar)
    return tar


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
