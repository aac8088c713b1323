# SPDX-License-Identifier: Apache-2.0
"""What `bench kvm` runs inside the machine with KVM: `python3 kvm_rounds.py STATE INIT ROUNDS`.

Everything is one process over the daemon's API: the programs of people would be emulated, and cost more than the VMs
that are measured. INIT is bare_init.c for this disk. Prints one JSON object: lists of seconds, and what was lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from volant.client import Client
from volant.cpio import CpioWriter
from volant.errors import NotFound, VolantError
from volant.process import find_tool
from volant.volantd.boot.kernel import require_kernel
from volant.volantd.boot.modules import order_modules
from volant.volar.timeline import describe_boot

PORT = 18080
PAGE_SECONDS = 300
MOST_LOST = 4
BARE_MODULES = ("virtio_mmio", "virtio_blk", "virtio_net")
losses: list[str] = []
DISK = re.compile(r"(/[^\",]*\.qcow2)")


class Lost(Exception):
    """An emulated processor loses a guest now and then while it boots, mostly to a reset that nobody asked for; it is
    then started once more by the daemon, which is not what is measured. How many is told with the result."""


def seconds_to_page(find_url: Callable[[], str], is_lost: Callable[[], bool]) -> float:
    began, url, looked = time.perf_counter(), "", time.perf_counter()
    while (now := time.perf_counter()) - began < PAGE_SECONDS:
        with contextlib.suppress(Exception):
            url = url or find_url()
            with urllib.request.urlopen(url, timeout=0.5) as reply:
                if reply.status == 200:
                    return time.perf_counter() - began
        if now - looked > 1:
            looked = now
            if is_lost():
                raise Lost("it has ended")
        time.sleep(0.05)
    raise Lost(f"no page after {PAGE_SECONDS} s")


def try_again(act: Callable[[], float]) -> float:
    for _ in range(MOST_LOST):
        try:
            return act()
        except Lost as lost:
            losses.append(str(lost))
            print(f"lost: {lost}", file=sys.stderr, flush=True)
    raise SystemExit(f"{MOST_LOST} guests were lost, one after the other")


class Rounds:
    def __init__(self, state: Path, init: Path) -> None:
        self.state = state
        self.init = init
        self.client = Client(str(state / "run" / "volantd.sock"))
        # Where the last start of each VM got when.
        self.steps: dict[str, str] = {}

    def measure(
        self, name: str, ask: Callable[[], object], *, keeps: bool = False, started_from: str = "boot"
    ) -> float:
        """From the request to the page; the VM is gone again. It must have come to be in the way that is measured."""

        def find_url() -> str:
            return str(self.client.get_vm(name)["url"])

        def try_to_ask() -> None:
            try:
                ask()
            except VolantError as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)

        def act() -> float:
            asking, is_kept = threading.Thread(target=try_to_ask), False
            asking.start()

            def is_lost() -> bool:
                with contextlib.suppress(NotFound):
                    return self.client.get_vm(name)["status"] == "failed"
                return not asking.is_alive()  # refused

            try:
                seconds = seconds_to_page(find_url, is_lost)
                asking.join()
                vm = self.client.get_vm(name)
                if vm["restarts"] or vm["started_from"] != started_from:
                    raise Lost(f"{name} came from {vm['started_from']}, not from {started_from} at once")
                self.steps[name] = describe_boot(self.client.get(f"/vms/{name}/boot"))
                is_kept = keeps
            finally:
                asking.join()
                if not is_kept:
                    with contextlib.suppress(NotFound):
                        self.client.delete_vm(name, force=True)
            return seconds

        return try_again(act)

    def create(self, name: str, *, keeps: bool = False, started_from: str = "boot", **wanted: Any) -> float:
        request: Any = {"name": name, "plugin": "web", "network": "user", **wanted}
        return self.measure(
            name, lambda: self.client.create_vm(request), keeps=keeps, started_from=started_from
        )

    def fork(self) -> float:
        """Of a VM that runs. It stands still otherwise: where guests are nested in an emulated processor, each that
        runs beside another makes both many times slower."""
        self.client.post("/vms/original/unpause")
        try:
            return self.measure(
                "copy", lambda: self.client.fork_vm("original", ["copy"]), started_from="snapshot"
            )
        finally:
            self.pause_original()

    def pause_original(self) -> None:
        while self.client.get_vm("original")["health"] != "healthy":
            time.sleep(0.5)
        self.client.post("/vms/original/pause")

    def wait_for_template(self) -> None:
        for _ in range(600):
            if self.client.get("/templates"):
                return
            time.sleep(0.5)
        raise SystemExit("no template after 300 s")

    def make_bare(self, folder: Path) -> Callable[[], float]:
        """The command of a VM of ours that runs, with a disk and an initrd of its own, and nobody beside it."""
        vm = self.client.get_vm("original")
        assert vm["hypervisor"] is not None
        pid = vm["hypervisor"]["pid"]
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        disk = next(found[1] for argument in arguments if (found := DISK.search(argument)))
        home = str(Path(disk).parent)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        arguments[arguments.index("-initrd") + 1] = str(self._write_initrd(folder / "initrd"))
        network = f"user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:{PORT}-10.0.2.15:80"
        arguments = [network if argument.startswith("stream,id=net0") else argument for argument in arguments]
        arguments = [argument.replace(home, str(folder)) for argument in arguments]
        if "-incoming" in arguments:
            raise SystemExit("the machine to copy woke, and did not boot")
        shown = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", disk]))
        create = [
            "qemu-img", "create", "-q", "-f", "qcow2", "-b", shown["full-backing-filename"],
            "-F", shown["backing-filename-format"], str(folder / "root.qcow2"),
        ]  # fmt: skip

        def begin() -> float:
            for path in folder.glob("*.sock"):
                path.unlink()
            subprocess.run(create, check=True)
            with subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
                try:
                    return seconds_to_page(
                        lambda: f"http://127.0.0.1:{PORT}/", lambda: process.poll() is not None
                    )
                finally:
                    process.kill()

        return begin

    def _write_initrd(self, path: Path) -> Path:
        kernel = require_kernel("amd64", self.state / "cache" / "kernels", None)
        with path.open("wb") as stream:
            writer = CpioWriter(stream)
            writer.add_directory(b"dev")
            writer.add(b"dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
            writer.add_directory(b"modules")
            writer.add(b"init", stat.S_IFREG | 0o755, self.init.read_bytes())
            for number, module in enumerate(order_modules(kernel.modules, BARE_MODULES)):
                writer.add(f"modules/{number}".encode(), stat.S_IFREG | 0o644, module.read())
            writer.finish()
        return path


def main(state: str, init: str, count: str) -> None:
    rounds = Rounds(Path(state), Path(init))
    rounds.create("first", cold=True)  # fills caches
    rounds.create("original", keeps=True, cold=True)
    begin_bare = rounds.make_bare(Path("/tmp/bare"))
    rounds.pause_original()
    rounds.create("shaped")
    rounds.wait_for_template()
    has_second = find_tool("cloud-hypervisor") is not None and Path("/sys/class/net/volant0").exists()
    found: dict[str, list[float]] = {}
    for _ in range(int(count)):
        kinds: dict[str, Callable[[], float]] = {
            "bare": lambda: try_again(begin_bare),
            "cold": lambda: rounds.create("cold", cold=True),
            "warm": lambda: rounds.create("warm", started_from="template"),
            "fork": rounds.fork,
        }
        if has_second:
            kinds["qemu-bridged"] = lambda: rounds.create("qb", cold=True, network="bridged")
            kinds["ch-bridged"] = lambda: rounds.create(
                "cb", cold=True, network="bridged", hypervisor="cloud-hypervisor"
            )
        for kind, act in kinds.items():
            found.setdefault(kind, []).append(act())
            print(f"{kind} {found[kind][-1]:.2f} s", file=sys.stderr, flush=True)
    rounds.client.post("/vms/original/unpause")
    rounds.client.delete_vm("original", force=True)
    print(json.dumps({"seconds": found, "steps": rounds.steps, "lost": losses}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    main(*sys.argv[1:])
