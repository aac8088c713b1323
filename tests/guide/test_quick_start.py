# SPDX-License-Identifier: Apache-2.0
"""The guide's quick start, typed: a folder, six files, and eight commands later a page. On Debian in Alpine's place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.guide_projects import PROJECTS, type_in
from support.host import Host


@pytest.fixture
def my_nginx(host: Host) -> Iterator[None]:
    yield
    host.volar("vms", "delete", "my-nginx", "--force", check=False)
    host.volar("plugins", "remove", "nginx-alpine", check=False)


@pytest.mark.guide(
    "3.1-1", "3.2-1", "3.2-2", "3.2-3", "3.3-1", "3.4-1", "3.5-1", "3.6-1", "3.7-1", "3.7-2", "3.8-1", "3.8-2",
    "3.8-3", "5.1-1",
)  # fmt: skip
@pytest.mark.usefixtures("base_image", "my_nginx")
def test_the_quick_start_as_typed(host: Host, tmp_path: Path) -> None:
    folder = Path(type_in(host, tmp_path, "mkdir nginx-plugin && cd nginx-plugin && pwd").strip())
    for file in (PROJECTS / "quick-start").iterdir():
        shutil.copy(file, folder)
    type_in(host, folder, "fledge build --builder buildah", timeout=600)
    type_in(host, folder, "volar plugins install ./nginx-alpine.tar.gz")
    type_in(host, folder, "volar vms create my-nginx --plugin nginx-alpine")
    row = next(line for line in type_in(host, folder, "volar vms list").splitlines() if "my-nginx" in line)
    assert {"running", "healthy"} <= set(row.split())
    page = type_in(host, folder, "curl http://$(volar vms get my-nginx --output json | jq -r .ip)")
    assert "<h1>Hello from Volant!</h1>" in page
