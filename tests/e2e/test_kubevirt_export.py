# SPDX-License-Identifier: Apache-2.0
"""A VM that is exported for KubeVirt boots there, as far as QEMU and libvirt's machine go: with the arguments that its
manifest leads to, from the kernel, boot archive and disk of its image, without any volantd."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from qemu.qmp import QMPClient

from support.control_plane import find_free_port
from support.host import Host, fetch, wait_until
from support.libvirt_machine import make_arguments, read_objects, running, unpack_image, write_secret_disk

BOOT_SECONDS = 300
NAME = "leaver"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def exported(host: Host, nginx_plugin: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VM with a file of its own on its disk, exported with that."""
    folder = tmp_path_factory.mktemp("exported") / "leaver"
    host.volar("vms", "create", NAME, "--plugin", "nginx", "-e", "WHO=ana", "--ssh-key", f"{key}.pub")
    try:
        host.volar("exec", NAME, "--", "sh", "-c", "echo kept > /root/kept")
        host.volar("vms", "stop", NAME)
        host.volar("export", "kubevirt", NAME, "--own-disk", "-o", str(folder))
    finally:
        host.volar("vms", "delete", NAME, "--force", check=False)
    return folder


async def press_power_button(monitor: Path) -> None:
    qmp = QMPClient()
    await qmp.connect(str(monitor))
    await qmp.execute("system_powerdown")
    await qmp.disconnect()


def test_an_exported_vm_serves_its_page_elsewhere(
    host: Host, exported: Path, key: Path, tmp_path: Path
) -> None:
    objects = read_objects(exported)
    unpack_image(exported / "image", tmp_path / "root")
    (disk,) = (tmp_path / "root" / "disk").iterdir()
    host.run("qemu-img", "check", "-q", str(disk))
    # What a guest writes goes to a layer of its pod's, as with any containerDisk.
    layer, variables = tmp_path / "layer.qcow2", tmp_path / "environment.iso"
    host.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(disk), str(layer))
    write_secret_disk(variables, objects["Secret"]["stringData"])
    page, ssh, console, monitor = find_free_port(), find_free_port(), tmp_path / "console", tmp_path / "qmp"
    arguments = make_arguments(
        objects["VirtualMachine"], tmp_path / "root", {"root": layer, "environment": variables},
        {page: 80, ssh: 22}, console, monitor,
    )  # fmt: skip

    def has_page() -> bool:
        assert machine.poll() is None, (
            f"{(tmp_path / 'log').read_text()}\n{console.read_text(errors='replace')}"
        )
        try:
            return "Hello from Volant!" in fetch(f"http://127.0.0.1:{page}")
        except OSError:
            return False

    with running(arguments, tmp_path / "log") as machine:
        wait_until("the page", has_page, BOOT_SECONDS)
        options = [
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "LogLevel=ERROR",
        ]
        line = ["ssh", "-i", str(key), "-p", str(ssh), *options, "root@127.0.0.1"]
        inside = 'cat /root/kept; echo "$WHO"; cat /proc/1/comm; hostname'
        done = wait_until(
            "its SSH server",
            lambda: (done := host.run(*line, inside, check=False)).returncode == 0 and done,
            BOOT_SECONDS,
        )
        assert done.stdout == f"kept\nana\nkestrel\n{NAME}\n"
        asyncio.run(press_power_button(monitor))
        assert machine.wait(BOOT_SECONDS) == 0
    said = console.read_text(errors="replace")
    assert "poweroff asked for by the power button" in said
    assert "all processes have stopped" in said
