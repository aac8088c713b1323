# SPDX-License-Identifier: Apache-2.0
"""The machine of a VM of ours, started by hand with nobody beside it: what is left of a start without a daemon.

`bare` has an init that only starts the workload; `alone` is the VM's own boot archive, agent and all.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volant.cpio import CpioWriter
from volant.volantd.boot.kernel import require_kernel
from volant.volantd.boot.modules import order_modules

PORT = 18080
BARE_MODULES = ("virtio_mmio", "virtio_blk", "virtio_net")
DISK = re.compile(r"(/[^\",]*\.qcow2)")


class MachineByHand:
    """The command of a VM that runs, with a disk, an initrd and sockets of its own, and QEMU's own network."""

    def __init__(self, vm: Mapping[str, Any], folder: Path) -> None:
        arguments = Path(f"/proc/{vm['hypervisor']['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
        if "-incoming" in arguments:
            raise SystemExit("the machine to copy woke, and did not boot")
        disk = next(found[1] for argument in arguments if (found := DISK.search(argument)))
        home = Path(disk).parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.folder = folder
        self.initrd = folder / "initrd"
        shutil.copyfile(arguments[arguments.index("-initrd") + 1], self.initrd)
        arguments[arguments.index("-initrd") + 1] = str(self.initrd)
        network = f"user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:{PORT}-10.0.2.15:80"
        arguments = [network if argument.startswith("stream,id=net0") else argument for argument in arguments]
        self._arguments = [argument.replace(str(home), str(folder)) for argument in arguments]
        shown = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", disk]))
        self._create_disk = [
            "qemu-img", "create", "-q", "-f", "qcow2", "-b", shown["full-backing-filename"],
            "-F", shown["backing-filename-format"], str(folder / Path(disk).name),
        ]  # fmt: skip

    def prepare(self) -> None:
        """What a start needs; no part of what is measured."""
        for path in self.folder.glob("*.sock"):
            path.unlink()
        subprocess.run(self._create_disk, check=True)

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def write_bare_initrd(path: Path, init: Path, kernels: Path) -> None:
    kernel = require_kernel("amd64", kernels, None)
    with path.open("wb") as stream:
        writer = CpioWriter(stream)
        writer.add_directory(b"dev")
        writer.add(b"dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        writer.add_directory(b"modules")
        writer.add(b"init", stat.S_IFREG | 0o755, init.read_bytes())
        for number, module in enumerate(order_modules(kernel.modules, BARE_MODULES)):
            writer.add(f"modules/{number}".encode(), stat.S_IFREG | 0o644, module.read())
        writer.finish()
