# SPDX-License-Identifier: Apache-2.0
"""The guide's boot times, 2–3 s from a disk and 0.5–1 s from RAM: `volar vms create` to the first HTTP 200, in turn.

boot-rootfs-s      the nginx example, from its disk
boot-initramfs-s   the static-site example, which lives in RAM
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path

from bench import bench_line
from bench.results import ratio

ROUNDS = int(os.environ.get("BENCH_BOOTS_ROUNDS", "5"))
PLUGINS = {"boot-rootfs-s": "nginx", "boot-initramfs-s": "static-site"}


class Bench(bench_line.Bench):
    def prepare(self) -> None:
        super().prepare()
        plugin = self.home / "static-site.tar.gz"
        subprocess.run(
            ["fledge", "build", "--builder", "buildah", "--output", str(plugin)],
            cwd=bench_line.ROOT / "examples" / "static-site", env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self.volar("plugins", "install", str(plugin))

    def seconds_to_page(self, plugin: str) -> float:
        began = time.perf_counter()
        self.volar("vms", "create", "bench", "--plugin", plugin, "--no-wait")
        url = json.loads(self.volar("vms", "get", "bench", "--output", "json"))["url"]
        try:
            while time.perf_counter() - began < 120:
                with (
                    contextlib.suppress(OSError, HTTPException),
                    urllib.request.urlopen(f"{url}/", timeout=0.2) as reply,
                ):
                    if reply.status == 200:
                        return time.perf_counter() - began
                time.sleep(0.005)
        finally:
            self.volar("vms", "delete", "bench", "--force")
        raise SystemExit("no page after 120 s")


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="volant-bench-", dir="/tmp"))
    bench = Bench(home)
    try:
        bench.prepare()
        seconds: dict[str, list[float]] = {name: [] for name in PLUGINS}
        for number in range(ROUNDS + 1):
            for name, plugin in PLUGINS.items():
                taken = bench.seconds_to_page(plugin)
                if number:
                    seconds[name].append(taken)
        for name, taken_all in seconds.items():
            ratio(name, statistics.median(taken_all))
    finally:
        with contextlib.suppress(SystemExit):
            bench.volar("daemon", "stop")
        shutil.rmtree(home, ignore_errors=True)
