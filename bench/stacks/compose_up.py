# SPDX-License-Identifier: Apache-2.0
"""compose-up-vs-sum: a stack of three until all of it is healthy, over its three services started one after the other.

Three web servers of busybox, of which none waits for another: measured is what starting them side by side gives.
Both ways begin with `volar compose up` of services that have no VM, on a daemon that has their plugin.

compose-up-limit is the same three VMs asked for at once through the API, over the same sum: what is left where nothing
is read, planned or told.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bench.own_folder import make_own_folder
from bench.results import note, ratio
from volant.client import Client

if TYPE_CHECKING:
    from volant.contract.api_types import HealthCheckRequest, VmCreate

TESTS = Path(__file__).resolve().parents[2] / "tests"
ROUNDS = 3
SERVICES = ("a", "b", "c")
SERVE = '["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/"]'
DOCKERFILE = f"FROM scratch\nADD busybox.tar /\nCMD {SERVE}\n"
TEST = ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/etc/passwd"]
HEALTH = f"{{test: {json.dumps(TEST)}, interval: 1s}}"
SERVICE = f"{{image: 'pages:1.0.0', restart: always, healthcheck: {HEALTH}}}"
STACK = f"name: bench\nservices: {{{', '.join(f'{name}: {SERVICE}' for name in SERVICES)}}}\n"


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = Path(sys.executable).parent
        self.environment = {
            **os.environ, "VOLANT_HOME": str(folder / "home"), "PATH": f"{programs}:{os.environ['PATH']}",
        }  # fmt: skip

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr}")

    def prepare(self) -> None:
        sys.path.insert(0, str(TESTS))
        from support.busybox_image import make_busybox_tar

        make_busybox_tar(self.folder / "busybox.tar")
        (self.folder / "Dockerfile").write_text(DOCKERFILE)
        (self.folder / "compose.yaml").write_text(STACK)
        self.run("volar", "setup", "kernel")
        self.run("fledge", "build", ".", "--tag", "pages:1.0.0", "--output", "pages.tar.gz")
        self.run("volar", "plugins", "install", "pages.tar.gz")

    def measure(self, *parts: tuple[str, ...]) -> float:
        """Seconds until all are healthy; each part is one `up`."""
        began = time.perf_counter()
        for services in parts:
            self.run("volar", "compose", "up", "-d", "--wait", *services)
        seconds = time.perf_counter() - began
        self.run("volar", "compose", "down")
        return seconds

    def measure_limit(self) -> float:
        """Seconds until three VMs are healthy of which nobody says more than that they are wanted."""
        client = Client(str(self.folder / "home" / "run" / "volantd.sock"))

        def start(name: str) -> None:
            check: HealthCheckRequest = {"test": TEST, "interval_seconds": 1}
            request: VmCreate = {"name": name, "plugin": "pages", "restart": "always", "health_check": check}
            client.create_vm(request)
            if client.wait(name, timeout_seconds=900)["health"] != "healthy":
                raise SystemExit(f"{name} is not healthy")

        began = time.perf_counter()
        with ThreadPoolExecutor(len(SERVICES)) as pool:
            list(pool.map(start, SERVICES))
        seconds = time.perf_counter() - began
        for name in SERVICES:
            client.delete_vm(name, force=True)
        return seconds


def main() -> None:
    with make_own_folder() as folder:
        bench = Bench(folder)
        bench.prepare()
        one_by_one = [(name,) for name in SERVICES]
        # In turn, so that what else the machine does meets both. The first round warms caches.
        times = [
            (bench.measure(SERVICES), bench.measure(*one_by_one), bench.measure_limit())
            for _ in range(ROUNDS + 1)
        ][1:]
    together, apart, limit = (statistics.median(column) for column in zip(*times, strict=True))
    note("compose-up-s", round(together, 2))
    note("compose-one-by-one-s", round(apart, 2))
    note("compose-limit-s", round(limit, 2))
    ratio("compose-up-vs-sum", statistics.median(first / second for first, second, _ in times))
    ratio("compose-up-limit", statistics.median(third / second for _, second, third in times))
