# SPDX-License-Identifier: Apache-2.0
"""A KVM host that is a guest of ours: QEMU's translation emulates AMD's virtualization, so inside a VM with Debian, QEMU and
this checkout's wheel KVM works, whatever the machine below can do."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.host import CACHE, ROOT, Host

NAME = "kvm-host"
PACKAGES = (
    "qemu-system-x86 qemu-utils passt python3 python3-venv jq curl openssh-client iproute2 iputils-ping nftables procps kmod"
)
HOST_DOCKERFILE = f"""\
FROM localhost/debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends {PACKAGES} && rm -rf /var/lib/apt/lists/*
COPY wheels /wheels
RUN python3 -m venv /opt/volant && /opt/volant/bin/pip install --no-index --find-links /wheels 'volant[daemon]'
COPY kernel /opt/kernel
COPY small.tar.gz /opt/small.tar.gz
ENV PATH=/opt/volant/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV VOLANT_HOME=/srv/volant VOLANT_KERNEL=/opt/kernel
CMD ["sleep", "infinity"]
"""
HOST_RECIPE = """\
[plugin]
name = "kvm-host"
version = "1.0.0"

[plugin.runtime]
source = "Dockerfile"

[plugin.manifest]
workload.type = "daemon"
resources.vcpu = 2
resources.memory_mb = 2048
"""
SMALL_DOCKERFILE = """\
FROM scratch
COPY busybox /bin/busybox
COPY index.html /www/index.html
EXPOSE 80
CMD ["/bin/busybox", "httpd", "-f", "-v", "-p", "80", "-h", "/www"]
"""
SMALL_RECIPE = """\
[plugin]
name = "small"
version = "1.0.0"

[plugin.runtime]
source = "Dockerfile"

[plugin.manifest]
workload.type = "http"
workload.port = 80
resources.memory_mb = 128
"""


class KvmHost:
    """The host inside: commands run in it over SSH."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, command: str, *, check: bool = True, timeout: float = 240) -> str:
        done = self._host.volar("vms", "ssh", NAME, command, check=check, timeout=timeout)
        return done.stdout

    def vm(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run(f"volar vms get {name} --output json"))
        return found

    def ssh(self, name: str, command: str) -> str:
        """In a guest of the guest."""
        return self.run(f"volar vms ssh {name} {shlex.quote(command)}")


def build_plugin(host: Host, folder: Path, dockerfile: str, recipe: str) -> Path:
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "fledge.toml").write_text(recipe)
    output = folder / "plugin.tar.gz"
    host.run("fledge", "build", "--builder", "buildah", "--output", str(output), cwd=folder, timeout=600)
    return output


def make_wheels(folder: Path) -> None:
    """This checkout's wheel and what it needs, for the system's Python of Debian."""
    pip = [str(ROOT / ".venv" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    runtime = str(ROOT / "requirements" / "runtime.lock")
    subprocess.run(
        [*pip, "download", "--require-hashes", "--only-binary", ":all:", "--dest", str(folder), "-r", runtime],
        check=True, timeout=600,
    )  # fmt: skip
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        check=True, timeout=600,
    )  # fmt: skip


@pytest.fixture(scope="session")
def kvm(base_image: str) -> Iterator[KvmHost]:
    host = Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    with tempfile.TemporaryDirectory(prefix="volant-kvm-", dir=CACHE) as name:
        folder = Path(name)
        try:
            host.volar("setup", "kernel", timeout=300)
            small = folder / "small"
            small.mkdir()
            shutil.copy(Path(str(shutil.which("busybox"))).resolve(), small / "busybox")
            (small / "index.html").write_text("served on KVM\n")
            shutil.copy(build_plugin(host, small, SMALL_DOCKERFILE, SMALL_RECIPE), folder / "small.tar.gz")
            make_wheels(folder / "wheels")
            kernel = next((host.home / "cache" / "kernels").glob("amd64-*"))
            shutil.copytree(kernel, folder / "kernel", symlinks=True)
            plugin = build_plugin(host, folder, HOST_DOCKERFILE, HOST_RECIPE)
            host.volar("plugins", "install", str(plugin), timeout=300)
            plugin.unlink()
            host.volar("vms", "create", NAME, "--plugin", "kvm-host", timeout=300)
            yield KvmHost(host)
        finally:
            host.close()
