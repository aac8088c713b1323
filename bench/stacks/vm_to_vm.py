# SPDX-License-Identifier: Apache-2.0
"""vm-to-vm-vs-host: iperf3 from guest to guest on a network by name, over the same by the host's published port.

Both ways lead between the same two VMs, and alternate. The daemon runs in a network namespace of the bench's own, in
which the host has one address: so nothing is published where others could reach it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.own_folder import make_own_folder
from bench.results import note, ratio

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "tests"
HOST, PORT = "198.51.100.7", 5201
ROUNDS, ROUND_SECONDS = 3, 5
DOCKERFILE = """\
FROM localhost/debian:bookworm
RUN apt-get update && apt-get install -y --no-install-recommends iperf3 && rm -rf /var/lib/apt/lists/*
CMD ["iperf3", "-s"]
EXPOSE 5201
"""
# pasta looks for a default route, and leads no further than this.
NAMESPACE = f"""
set -e
ip link set lo up
ip link add outside type bridge
ip address add {HOST}/24 dev outside
ip link set outside up
ip route add default via 198.51.100.1
exec sleep infinity
"""


class Bench:
    def __init__(self, folder: Path, inside: tuple[str, ...]) -> None:
        self.folder, self._inside = folder, inside
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = {**os.environ, "VOLANT_HOME": str(folder / "home"), "PATH": programs}

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def volar(self, *arguments: str) -> str:
        return self.run(*self._inside, "volar", *arguments)

    def prepare(self) -> None:
        self.run(str(ROOT / "scripts" / "make-base-image.sh"), "buildah", str(CACHE))
        (self.folder / "Dockerfile").write_text(DOCKERFILE)
        self.run(
            "fledge",
            "build",
            "./Dockerfile",
            "--tag",
            "iperf:1.0.0",
            "--builder",
            "buildah",
            "-o",
            "iperf.tar.gz",
        )
        self.run("volar", "setup", "kernel")
        self.volar("plugins", "install", "iperf.tar.gz")
        self.volar("networks", "create", "pair")
        for name, options in (("server", ["--publish", f"{HOST}:{PORT}:{PORT}"]), ("client", [])):
            self.volar(
                "vms", "create", name, "-p", "iperf", "--network", "user", "--network", "pair", *options
            )
            self.volar("vms", "wait", name, "--for", "healthy")

    def measure(self, address: str) -> float:
        """Megabits a second that arrive."""
        command = ["iperf3", "-c", address, "-p", str(PORT), "-t", str(ROUND_SECONDS), "-J"]
        found: dict[str, Any] = json.loads(self.volar("vms", "exec", "client", "--", *command))
        return float(found["end"]["sum_received"]["bits_per_second"]) / 1e6


def main() -> None:
    if os.geteuid() != 0:
        print("left out: a network namespace of the bench's own takes root")
        return
    with make_own_folder() as folder:
        # Its name is in the command, so that nothing of it is left.
        holder = subprocess.Popen(["unshare", "--net", "sh", "-c", NAMESPACE, str(folder)])
        bench = Bench(folder, ("nsenter", "--net", "--target", str(holder.pid)))
        try:
            bench.prepare()
            direct, published = [], []
            for _ in range(ROUNDS):
                direct.append(bench.measure("server"))
                published.append(bench.measure(HOST))
        finally:
            holder.kill()
            holder.wait()
    note("vm-to-vm-megabits", round(statistics.median(direct), 1))
    note("vm-to-vm-by-the-host-megabits", round(statistics.median(published), 1))
    print(
        f"direct {statistics.median(direct):.0f} Mbit/s, published {statistics.median(published):.0f} Mbit/s"
    )
    ratio("vm-to-vm-vs-host", statistics.median(direct) / statistics.median(published), digits=1)
