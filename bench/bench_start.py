# SPDX-License-Identifier: Apache-2.0
"""How a VM comes to be, on the nginx example: from its plugin, and from another VM's memory.

start-fork-vs-cold    `volar vms fork` to the copy's first HTTP 200, over `volar vms create` to the first; interleaved
snapshot-pause-ms     how long the original stood still for it, with a process that writes memory all the time
fork20-mib-each       memory of a copy (PSS of its QEMU), the mean of 20 that idle
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

from bench import bench_line
from bench.own_folder import make_own_folder
from bench.results import ratio

ROUNDS, COPIES = int(os.environ.get("BENCH_START_ROUNDS", "7")), 20


class Bench(bench_line.Bench):
    """The line's bench, with an original to make copies of."""

    def vm(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.volar("vms", "get", name, "--output", "json"))
        return found

    def prepare(self) -> None:
        super().prepare()
        self.volar("vms", "create", "original", "--plugin", "nginx")
        busy = (
            "nohup sh -c 'while :; do head -c 8000000 /dev/urandom > /dev/shm/busy; done' >/dev/null 2>&1 &"
        )
        self.volar("vms", "ssh", "original", busy)

    def seconds_to_page(self, name: str, *command: str) -> float:
        """From the command's start to the first HTTP 200 of the VM that it makes."""
        began = time.perf_counter()
        with subprocess.Popen(
            ["volar", *command], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as process:
            url = ""
            while time.perf_counter() - began < 120:
                with contextlib.suppress(SystemExit, OSError):
                    url = url or str(self.vm(name)["url"])
                    with urllib.request.urlopen(f"{url}/", timeout=0.2) as reply:
                        if reply.status == 200:
                            seconds = time.perf_counter() - began
                            process.wait()
                            return seconds
                time.sleep(0.005)
        raise SystemExit("no page after 120 s")


def read_pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Pss:")).split()[1]) / 1024


def measure_copies(bench: Bench) -> float:
    bench.volar("vms", "fork", "original", "idle", "--count", str(COPIES))
    names = [f"idle-{number}" for number in range(1, COPIES + 1)]
    for name in names:
        bench.volar("vms", "ssh", name, "pkill -f /dev/shm/busy || true")
    time.sleep(5)
    hypervisors = [bench.vm(name)["hypervisor"] for name in names]
    sizes = [read_pss_mib(int(hypervisor["pid"])) for hypervisor in hypervisors]  # type: ignore[index]
    bench.volar("vms", "delete", *names, "--force")
    return statistics.mean(sizes)


def main() -> None:
    with make_own_folder() as home:
        bench = Bench(home)
        bench.prepare()
        cold, forked, pauses = [], [], []
        for number in range(ROUNDS):
            cold.append(
                bench.seconds_to_page("cold", "vms", "create", "cold", "--plugin", "nginx", "--no-wait")
            )
            bench.volar("vms", "delete", "cold", "--force")
            forked.append(bench.seconds_to_page("copy", "vms", "fork", "original", "copy"))
            bench.volar("vms", "delete", "copy", "--force")
            bench.volar("snapshots", "create", "original", f"s{number}")
            pauses.append(
                float(json.loads(bench.volar("snapshots", "show", f"s{number}", "-o", "json"))["pause_ms"])
            )
            bench.volar("snapshots", "delete", f"s{number}")
            print(
                f"to page: cold {cold[-1]:.2f} s, fork {forked[-1]:.2f} s; pause {pauses[-1]:.0f} ms",
                flush=True,
            )
        ratio("start-fork-vs-cold", statistics.median(forked) / statistics.median(cold))
        ratio("snapshot-pause-ms", statistics.median(pauses), 0)
        ratio("fork20-mib-each", measure_copies(bench), 0)
