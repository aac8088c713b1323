# SPDX-License-Identifier: Apache-2.0
"""How long programs take to start, beside podman's, which are compiled: medians of interleaved runs.

start-volar-vs-podman    `volar vms list` with the daemon up, over `podman ps`
start-fledge-vs-podman   `fledge --help` over `podman --help`
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.results import note, ratio

ROUNDS = int(os.environ.get("BENCH_CLI_ROUNDS", "31"))
PAIRS = {
    "start-volar-vs-podman": (["volar", "vms", "list"], ["podman", "ps"]),
    "start-fledge-vs-podman": (["fledge", "--help"], ["podman", "--help"]),
}


def milliseconds(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    home = Path(tempfile.mkdtemp(prefix="volant-bench-", dir="/tmp"))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "VOLANT_HOME": str(home), "PATH": path}
    try:
        for name, (ours, theirs) in PAIRS.items():
            times: tuple[list[float], list[float]] = ([], [])
            for number in range(ROUNDS + 1):
                for command, found in zip((ours, theirs), times, strict=True):
                    taken = milliseconds(command, environment)
                    if number:  # the first starts the daemon, and fills caches
                        found.append(taken)
            medians = [statistics.median(found) for found in times]
            print(f"{' '.join(ours)} {medians[0]:.0f} ms, {' '.join(theirs)} {medians[1]:.0f} ms", flush=True)
            for command, median in zip((ours, theirs), medians, strict=True):
                note(f"{'-'.join(command).replace('---', '-')}-ms", round(median))
            ratio(name, medians[0] / medians[1])
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            milliseconds(["volar", "daemon", "stop"], environment)
        shutil.rmtree(home, ignore_errors=True)
