# SPDX-License-Identifier: Apache-2.0
"""The line as a user feels it.

cost-create-to-http   `volar vms create` to nginx's first HTTP 200, over one bare QEMU boot with the same kernel,
                      machine flags and overlay disk whose static init only mounts, sets the address and starts
                      nginx; both ended by the same poller (ours over theirs)
start-volar-ms        the slower of `volar --help` and `volar vms list` with the daemon up, milliseconds
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.results import ratio
from volant.cpio import CpioWriter

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "tests"
PORT = 18080
ROUNDS = 5
# What the bare guest needs of the modules in our boot archive: disk and network.
BARE_MODULES = ("virtio", "virtio_ring", "virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net",
                "virtio_pci", "virtio_pci_modern_dev", "virtio_pci_legacy_dev")  # fmt: skip


def seconds_to_page(begin: Callable[[], subprocess.Popen[bytes]]) -> tuple[float, subprocess.Popen[bytes]]:
    """Start something and poll the published port until the first HTTP 200."""
    began = time.perf_counter()
    process = begin()
    wait_for_page(PORT)
    return time.perf_counter() - began, process


def wait_for_page(port: int) -> None:
    deadline = time.perf_counter() + 120
    while time.perf_counter() < deadline:
        with contextlib.suppress(OSError):
            request = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.1)
            with request as reply:
                if reply.status == 200:
                    return
        time.sleep(0.005)
    raise SystemExit("no page after 120 s")


class Bench:
    def __init__(self, home: Path) -> None:
        self.home = home
        programs = Path(sys.executable).parent
        self.environment = {
            **os.environ, "VOLANT_HOME": str(home), "PATH": f"{programs}:{os.environ['PATH']}",
        }  # fmt: skip

    def volar(self, *arguments: str) -> str:
        done = subprocess.run(["volar", *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"volar {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self) -> None:
        self.volar("setup", "kernel")
        scripts = ROOT / "scripts"
        subprocess.run([str(scripts / "make-base-image.sh"), "buildah", str(CACHE)], check=True)
        plugin = self.home / "nginx.tar.gz"
        subprocess.run(
            ["fledge", "build", "--builder", "buildah", "--output", str(plugin)],
            cwd=ROOT / "examples" / "nginx", env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self.volar("plugins", "install", str(plugin))

    def create_ours(self) -> subprocess.Popen[bytes]:
        command = [
            "volar",
            "vms",
            "create",
            "bench",
            "--plugin",
            "nginx",
            "--publish",
            f"127.0.0.1:{PORT}:80",
            "--cold",
        ]
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def make_bare(self) -> Callable[[], subprocess.Popen[bytes]]:
        """A start function of the peer, derived from the argument list of a VM of ours that runs."""
        vm = json.loads(self.volar("vms", "get", "bench", "--output", "json"))
        arguments = Path(f"/proc/{vm['hypervisor']['pid']}/cmdline").read_bytes().decode().split("\0")[:-1]
        ours = Path(arguments[arguments.index("-initrd") + 1])
        folder = self.home / "bare"
        folder.mkdir()
        initrd = make_bare_initrd(ours, folder)
        arguments[arguments.index("-initrd") + 1] = str(initrd)
        overlay = next(
            Path(found[1]) for argument in arguments if (found := re.search(r"(/[^,]*\.qcow2)", argument))
        )
        information = json.loads(
            subprocess.run(
                ["qemu-img", "info", "-U", "--output=json", str(overlay)], capture_output=True, check=True
            ).stdout
        )
        backing = information["full-backing-filename"]
        arguments = [argument.replace(str(overlay), str(folder / "overlay.qcow2")) for argument in arguments]
        # Nobody stands behind the NIC of a bare machine: it publishes the port itself.
        published = f"user,id=net0,ipv6=off,hostfwd=tcp:127.0.0.1:{PORT}-10.0.2.15:80"
        arguments = [
            published if argument.startswith("stream,id=net0") else argument for argument in arguments
        ]
        # Its own folder for sockets and logs.
        places = sorted(
            {str(path) for path in (overlay.parent, *self.find_run_folders(arguments, vm["id"]))}, key=len
        )
        for place in reversed(places):
            arguments = [argument.replace(f"{place}/", f"{folder}/") for argument in arguments]

        def begin() -> subprocess.Popen[bytes]:
            for left in folder.glob("*"):
                if left.name not in (initrd.name, "init"):
                    left.unlink()
            subprocess.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F", information["backing-filename-format"],
                 str(folder / "overlay.qcow2")],
                check=True,
            )  # fmt: skip
            return subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )

        return begin

    @staticmethod
    def find_run_folders(arguments: list[str], vm_id: str) -> list[Path]:
        found = []
        for argument in arguments:
            for path in re.findall(r"(/[^,=]+)", argument):
                if vm_id in path:
                    found.append(Path(path).parent)
        return found


def make_bare_initrd(ours: Path, folder: Path) -> Path:
    """The static init of bare_init.c and those modules of our own boot archive that it needs, in our order."""
    unpacked = folder.parent / "bare-unpacked"
    unpacked.mkdir()
    with ours.open("rb") as stream:
        # Two archives follow each other: cpio stops at the first trailer, so call it until nothing is left.
        while (
            subprocess.run(
                ["cpio", "--quiet", "-idm", "--no-absolute-filenames"],
                stdin=stream,
                cwd=unpacked,
                capture_output=True,
            ).returncode
            == 0
        ):
            if stream.tell() >= ours.stat().st_size:
                break
    settings = json.loads((unpacked / "volant" / "guest.json").read_text())
    init = folder / "init"
    subprocess.run(
        ["gcc", "-O2", "-static", "-o", str(init), str(ROOT / "bench" / "bare_init.c")], check=True
    )
    initrd = folder / "bare.cpio"
    with initrd.open("wb") as stream:
        writer = CpioWriter(stream)
        writer.add_directory(b"dev")
        writer.add(b"dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
        writer.add_directory(b"modules")
        writer.add(b"init", stat.S_IFREG | 0o755, init.read_bytes())
        wanted = [
            name
            for name in settings["modules"]
            if Path(name).name.split(".")[0].replace("-", "_") in BARE_MODULES
        ]
        for number, name in enumerate(wanted):
            content = (unpacked / "volant" / "modules" / name).read_bytes()
            writer.add(f"modules/{number}".encode(), stat.S_IFREG | 0o644, content)
        writer.finish()
    shutil.rmtree(unpacked)
    return initrd


def measure_start(bench: Bench, *arguments: str) -> float:
    times = []
    for _ in range(11):
        began = time.perf_counter()
        bench.volar(*arguments)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="volant-bench-", dir="/tmp"))
    bench = Bench(home)
    try:
        bench.prepare()
        first, process = seconds_to_page(bench.create_ours)
        process.wait()
        begin_bare = bench.make_bare()
        bench.volar("vms", "delete", "bench", "--force")
        print(f"first create (fills caches, not counted): {first:.2f} s")
        ours, theirs = [], []
        for _ in range(ROUNDS):
            seconds, process = seconds_to_page(bench.create_ours)
            process.wait()
            bench.volar("vms", "delete", "bench", "--force")
            ours.append(seconds)
            seconds, process = seconds_to_page(begin_bare)
            process.send_signal(signal.SIGKILL)
            process.wait()
            theirs.append(seconds)
            print(f"create to page: ours {ours[-1]:.2f} s, bare {theirs[-1]:.2f} s", flush=True)
        ratio("cost-create-to-http", statistics.median(ours) / statistics.median(theirs))
        help_ms, list_ms = measure_start(bench, "--help"), measure_start(bench, "vms", "list")
        print(f"volar --help {help_ms:.0f} ms, volar vms list {list_ms:.0f} ms")
        ratio("start-volar-ms", max(help_ms, list_ms), 0)
    finally:
        with contextlib.suppress(SystemExit):
            bench.volar("daemon", "stop")
        shutil.rmtree(home, ignore_errors=True)
