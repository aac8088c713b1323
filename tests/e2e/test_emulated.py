# SPDX-License-Identifier: Apache-2.0
"""A guest of another architecture: from a static arm64 program to a page, emulated."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.busybox_web import PAGE, make_web_plugin
from support.host import CACHE, Host, fetch
from volant.volantd.boot.kernel import host_architecture

pytestmark = pytest.mark.skipif(host_architecture() != "amd64", reason="arm64 is this host's own")
NAME = "other"


def find_busybox() -> Path:
    """Debian's static one for arm64, kept in the cache; nothing of it runs here."""
    busybox = CACHE / "busybox-arm64"
    if not busybox.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        tree = CACHE / "busybox-arm64.tar"
        mode = "root" if os.getuid() == 0 else "unshare"
        command = [
            "mmdebstrap", f"--mode={mode}", "--variant=extract", "--architectures=arm64", "--quiet", "--format=tar",
            "--include=busybox-static", '--aptopt=Acquire::Retries "5"', "bookworm", str(tree),
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=600, stdin=subprocess.DEVNULL)
        with tarfile.open(tree) as archive:
            member = archive.extractfile("./bin/busybox")
            assert member is not None
            draft = busybox.with_suffix(".part")
            draft.write_bytes(member.read())
        draft.rename(busybox)
        tree.unlink()
    return busybox


@pytest.fixture(scope="module")
def plugin(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    made = make_web_plugin(tmp_path_factory.mktemp("arm64"), host, find_busybox(), "arm64")
    host.volar("setup", "kernel", "--architecture", "arm64", timeout=600)
    host.volar("plugins", "install", str(made))
    yield "web"
    host.volar("vms", "delete", NAME, "--force", check=False)
    host.volar("plugins", "remove", "web")


def test_an_arm64_plugin_runs_on_this_host_for_who_asks_for_it(host: Host, plugin: str) -> None:
    refused = host.volar("vms", "create", NAME, "--plugin", plugin, check=False)
    assert refused.returncode != 0
    assert "--architecture arm64" in refused.stderr
    host.volar(
        "vms", "create", NAME, "--plugin", plugin, "--architecture", "arm64", "--timeout", "600", timeout=700
    )
    vm = host.vm(NAME)
    assert vm["health"] == "healthy"
    assert (vm["hypervisor"]["accelerator"], vm["hypervisor"]["emulates"]) == ("tcg", "arm64")
    assert "arm64 emulated" in host.volar("vms", "get", NAME).stdout
    assert fetch(vm["url"], 60) == PAGE
    assert "arm64" in host.volar("vms", "ssh", NAME, "cat /proc/version").stdout
    assert "workload started" in host.volar("vms", "logs", NAME, "--console").stdout
    host.volar("vms", "stop", NAME)
    stopped = host.vm(NAME)
    assert (stopped["status"], stopped["status_reason"]) == ("stopped", "")
