# SPDX-License-Identifier: Apache-2.0
"""How a VM comes to be, on the nginx example: from its plugin, from a template, and from another VM's memory.

All of it interleaved, medians; BENCH_START_ROUNDS=2 is a short form. "Cold" is `volar vms create --cold` to HTTP 200.
The VM with a busy workload is paused but for its own snapshots: starts have the machine to themselves.

start-cold-vs-bare    cold, over a bare QEMU with the same kernel and disk whose init only starts the workload
start-warm-vs-cold    `volar vms create` with a template of its shape to HTTP 200, over cold
start-warm-workload-vs-cold   the same with a template in which nginx is up, over cold
start-fork-vs-cold    `volar vms fork` of an idle VM to the copy's first HTTP 200, over cold
start-bare-fork-vs-cold   the bare machine's memory in another QEMU, by hand, to its first HTTP 200: less no fork takes
snapshot-pause-ms     how long the original stood still for it, with a process that writes memory all the time
fork20-mib-each       memory of a copy (PSS of its QEMU), the mean of 20 of a VM that idles
fork20-bare-mib-each  the same of 20 copies of the bare machine by hand, which have given their page once
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import statistics
import subprocess
import time
import urllib.request

from bench import bench_line
from bench.fork_by_hand import IDLE_SECONDS, HandFork, read_pss_mib
from bench.own_folder import make_own_folder
from bench.results import ratio
from bench.sleeping import Sleepers
from volant.client import Client
from volant.errors import VolantError

ROUNDS, COPIES = int(os.environ.get("BENCH_START_ROUNDS", "7")), 20
# Who connects to a copy that is not itself yet waits, and is answered.
PATIENCE_SECONDS = 10.0
BUSY_SECONDS = 0.5


class Bench(bench_line.Bench):
    """The line's bench, with an original to make copies of."""

    def vm(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.volar("vms", "get", name, "--output", "json"))
        return found

    def prepare(self) -> None:
        self.environment["VOLANT_WARM_START"] = "on"
        super().prepare()
        self.install_warm()
        self.volar("vms", "create", "quiet", "--plugin", "nginx")
        self.volar("vms", "create", "original", "--plugin", "nginx")
        busy = (
            "nohup sh -c 'while :; do head -c 8000000 /dev/urandom > /dev/shm/busy; done' >/dev/null 2>&1 &"
        )
        self.volar("vms", "ssh", "original", busy)
        self.volar("vms", "pause", "original")

    def install_warm(self) -> None:
        """The same image as a plugin whose VMs are copies of one that is up."""
        folder = self.home / "nginx-warm"
        shutil.copytree(bench_line.ROOT / "examples" / "nginx", folder)
        recipe = folder / "fledge.toml"
        text = recipe.read_text().replace('name = "nginx"', 'name = "nginx-warm"')
        recipe.write_text(text.replace("[plugin.manifest]", '[plugin.manifest]\nwarm = "workload"'))
        plugin = self.home / "nginx-warm.tar.gz"
        subprocess.run(
            ["fledge", "build", "--builder", "buildah", "--output", str(plugin)],
            cwd=folder, env=self.environment, check=True, capture_output=True,
        )  # fmt: skip
        self.volar("plugins", "install", str(plugin))

    @functools.cached_property
    def client(self) -> Client:
        return Client(str(self.home / "run" / "volantd.sock"))

    def measure_pause(self, name: str) -> float:
        """Milliseconds that the busy VM stood still for a snapshot."""
        self.volar("vms", "unpause", "original")
        time.sleep(BUSY_SECONDS)
        self.volar("snapshots", "create", "original", name)
        self.volar("vms", "pause", "original")
        pause_ms = float(json.loads(self.volar("snapshots", "show", name, "-o", "json"))["pause_ms"])
        self.volar("snapshots", "delete", name)
        return pause_ms

    def seconds_to_page(self, name: str, *command: str, patience_seconds: float = 0.2) -> float:
        """From the command's start to the first HTTP 200 of the VM that it makes. `patience_seconds`: before a guest
        has an address of its own a connection to it is lost, and made anew after so long."""
        began = time.perf_counter()
        with subprocess.Popen(
            ["volar", *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            url = ""
            while time.perf_counter() - began < 120:
                with contextlib.suppress(VolantError, OSError):
                    # Not by volar: its start would take from what is measured, which the bare machine has for itself.
                    url = url or str(self.client.get_vm(name)["url"])
                    with urllib.request.urlopen(f"{url}/", timeout=patience_seconds) as reply:
                        if reply.status == 200:
                            seconds = time.perf_counter() - began
                            process.wait()
                            return seconds
                time.sleep(0.005)
        raise SystemExit("no page after 120 s")

    def wait_for_templates(self) -> None:
        """Of the machine, and of the workload that is up in one."""
        self.volar("vms", "create", "first", "--plugin", "nginx-warm")
        for _ in range(600):
            templates = json.loads(self.volar("system", "warm", "list", "--output", "json"))
            if {template["plugin"] for template in templates} == {"", "nginx-warm:1.0.0"}:
                self.volar("vms", "delete", "first", "--force")
                return
            time.sleep(0.5)
        raise SystemExit("no templates after 300 s")

    def create(self, name: str, *options: str, plugin: str = "nginx") -> tuple[float, str]:
        """Seconds to the page, and where they went; the VM is gone again."""
        patience_seconds = PATIENCE_SECONDS if plugin == "nginx-warm" else 0.2
        seconds = self.seconds_to_page(
            name, "vms", "create", name, "--plugin", plugin, *options, patience_seconds=patience_seconds
        )
        steps = self.describe_start(name)
        self.volar("vms", "delete", name, "--force")
        return seconds, steps

    def describe_start(self, name: str) -> str:
        lines = self.volar("vms", "get", name).splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("boot:")), "")


def measure_copies(bench: Bench) -> float:
    bench.volar("vms", "fork", "quiet", "idle", "--count", str(COPIES))
    names = [f"idle-{number}" for number in range(1, COPIES + 1)]
    time.sleep(IDLE_SECONDS)
    hypervisors = [bench.vm(name)["hypervisor"] for name in names]
    sizes = [read_pss_mib(int(hypervisor["pid"])) for hypervisor in hypervisors]  # type: ignore[index]
    bench.volar("vms", "delete", *names, "--force")
    return statistics.mean(sizes)


def main() -> None:
    with make_own_folder() as home:
        bench = Bench(home)
        bench.prepare()
        bench_line.seconds_to_page(bench.create_ours)[1].wait()
        begin_bare = bench.make_bare()
        bench.volar("vms", "delete", "bench", "--force")
        bench.wait_for_templates()
        by_hand = HandFork(bench_line.seconds_to_page(begin_bare)[1], home / "by-hand")
        sleepers = Sleepers(bench)
        bare, cold, warm, copied, forked, bare_forks, pauses = [], [], [], [], [], [], []
        steps: dict[str, str] = {}
        for number in range(ROUNDS):
            seconds, process = bench_line.seconds_to_page(begin_bare)
            process.kill()
            process.wait()
            bare.append(seconds)
            seconds, process = bench_line.seconds_to_page(by_hand.begin)
            process.kill()
            process.wait()
            bare_forks.append(seconds)
            seconds, steps["cold"] = bench.create("cold", "--cold")
            cold.append(seconds)
            seconds, steps["warm"] = bench.create("warm")
            warm.append(seconds)
            seconds, steps["workload"] = bench.create("workload", plugin="nginx-warm")
            copied.append(seconds)
            fork = ("vms", "fork", "quiet", "copy")
            forked.append(bench.seconds_to_page("copy", *fork, patience_seconds=PATIENCE_SECONDS))
            steps["fork"] = bench.describe_start("copy")
            bench.volar("vms", "delete", "copy", "--force")
            pauses.append(bench.measure_pause(f"s{number}"))
            print(
                f"to page: bare {bare[-1]:.2f} s, cold {cold[-1]:.2f} s, warm {warm[-1]:.2f} s,"
                f" with its workload {copied[-1]:.2f} s, fork {forked[-1]:.2f} s"
                f" (by hand {bare_forks[-1]:.2f} s);"
                f" pause {pauses[-1]:.0f} ms, {sleepers.sleep_once()}",
                flush=True,
            )
        for kind, found in steps.items():
            print(f"{kind:8} {found}")
        ratio("start-cold-vs-bare", statistics.median(cold) / statistics.median(bare))
        ratio("start-warm-vs-cold", statistics.median(warm) / statistics.median(cold))
        ratio("start-warm-workload-vs-cold", statistics.median(copied) / statistics.median(cold))
        ratio("start-fork-vs-cold", statistics.median(forked) / statistics.median(cold))
        ratio("start-bare-fork-vs-cold", statistics.median(bare_forks) / statistics.median(cold))
        sleepers.print_ratios(cold)
        ratio("snapshot-pause-ms", statistics.median(pauses), 0)
        ratio("fork20-mib-each", measure_copies(bench), 0)
        ratio("fork20-bare-mib-each", by_hand.measure_mib(COPIES), 0)
