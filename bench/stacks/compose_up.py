# SPDX-License-Identifier: Apache-2.0
"""compose-up-vs-sum: a stack of three until all of it is healthy, over its three services started one after the other.

Three web servers of busybox, of which none waits for another: measured is what starting them side by side gives.
Both ways begin with `volar compose up` of services that have no VM, on a daemon that has their plugin.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.own_folder import make_own_folder
from bench.results import note, ratio

TESTS = Path(__file__).resolve().parents[2] / "tests"
ROUNDS = 3
SERVICES = ("a", "b", "c")
SERVE = '["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/"]'
DOCKERFILE = f"FROM scratch\nADD busybox.tar /\nCMD {SERVE}\n"
HEALTH = '{test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/etc/passwd"], interval: 1s}'
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


def main() -> None:
    with make_own_folder() as folder:
        bench = Bench(folder)
        bench.prepare()
        one_by_one = [(name,) for name in SERVICES]
        # In turn, so that what else the machine does meets both. The first round warms caches.
        times = [(bench.measure(SERVICES), bench.measure(*one_by_one)) for _ in range(ROUNDS + 1)][1:]
    together, apart = (statistics.median(column) for column in zip(*times, strict=True))
    note("compose-up-s", round(together, 2))
    note("compose-one-by-one-s", round(apart, 2))
    ratio("compose-up-vs-sum", statistics.median(first / second for first, second in times))
