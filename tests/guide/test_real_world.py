# SPDX-License-Identifier: Apache-2.0
"""The guide's larger applications, with what they fetch while they are built and while they run. Too long for CI."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.guide_projects import copy_project, type_in
from support.host import Host, fetch

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
# The names that the guide's Dockerfiles begin with, for what stands in where no registry is reached.
STAND_INS = ("golang:1.21-alpine", "node:20-alpine", "ubuntu:22.04")


@pytest.fixture(scope="module")
def public_images(base_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = copy_project("stand-in", tmp_path_factory.mktemp("stand-in"))
    shutil.copy(TRUSTED, folder)
    build = [
        "buildah",
        "build",
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--layers",
        "-t",
        "localhost/stand-in",
    ]
    subprocess.run([*build, str(folder)], check=True, timeout=900, capture_output=True)
    names = {f"docker.io/library/{name}": "localhost/stand-in" for name in STAND_INS}
    names["docker.io/library/alpine:3.19"] = base_image
    for name, image in names.items():
        subprocess.run(["buildah", "tag", image, name], check=True, timeout=60)
    yield
    for name in names:
        subprocess.run(["buildah", "untag", name], check=False, timeout=60, capture_output=True)


@contextmanager
def booted(host: Host, project: str, folder: Path) -> Iterator[str]:
    """A healthy VM of a project, deleted afterwards together with its plugin."""
    copy_project(project, folder)
    type_in(host, folder, "fledge build --builder buildah", timeout=1200)
    type_in(host, folder, f"volar plugins install ./{project}.tar.gz")
    (folder / f"{project}.tar.gz").unlink()
    name = f"my-{project}"
    try:
        host.volar("vms", "create", name, "--plugin", project, "--timeout", "600", timeout=700)
        yield name
    finally:
        host.volar("vms", "delete", name, "--force", check=False)
        host.volar("plugins", "remove", project, check=False)


@pytest.mark.guide("4.1-1", "4.1-2", "4.1-3")
@pytest.mark.usefixtures("public_images")
def test_go_is_compiled_in_a_stage_of_its_own(host: Host, tmp_path: Path) -> None:
    with booted(host, "go-stages", tmp_path) as name:
        assert fetch(host.vm(name)["url"]) == "&lt;compiled in another stage&gt;\n"
        left = host.volar("vms", "ssh", name, "ls -d /build /opt/node; which go", check=False)
        assert left.stdout == ""


@pytest.mark.guide("1-4", "4.2-1", "4.2-2", "4.2-3", "4.2-4")
@pytest.mark.usefixtures("public_images")
def test_python_packages_come_by_pip(host: Host, tmp_path: Path) -> None:
    with booted(host, "flask-pip", tmp_path) as name:
        assert fetch(host.vm(name)["url"]) == "Flask 3.1.2 by pip\n"
        install = "pip3 install --quiet humanize==4.12.1 && python3 -c 'import humanize as h; print(h.intcomma(10**6))'"
        assert host.volar("vms", "ssh", name, install).stdout.endswith("1,000,000\n")


@pytest.mark.guide("1-4", "9.2-1", "9.2-2", "9.2-3")
@pytest.mark.usefixtures("public_images")
def test_node_modules_come_by_npm(host: Host, tmp_path: Path) -> None:
    with booted(host, "node-npm", tmp_path) as name:
        assert fetch(host.vm(name)["url"]) == "production: two days are 172800000 ms\n"
        install = "cd /app && npm install --silent --no-audit picocolors@1.1.1 && ls node_modules"
        assert "picocolors" in host.volar("vms", "ssh", name, install, timeout=600).stdout.split()


@pytest.mark.guide("1-2", "1-6", "9.1-1", "9.1-2", "9.1-3")
def test_wordpress_up_to_its_installer(host: Host, base_image: str, tmp_path: Path) -> None:
    with booted(host, "wordpress", tmp_path) as name:
        vm = host.vm(name)
        assert (vm["resources"]["vcpu"], vm["resources"]["memory_mb"]) == (2, 1024)
        page = fetch(vm["url"] + "/wp-admin/install.php", timeout_seconds=60)
        assert ("<title>WordPress" in page and "Select a default language" in page) or "Site Title" in page, (
            page[:500]
        )
        # From the distribution's own mirror, over the network that a VM has unless told otherwise.
        install = "apt-get update -q && apt-get install -qy --no-install-recommends hello && hello"
        assert host.volar("vms", "ssh", name, install, timeout=600).stdout.endswith("Hello, world!\n")
