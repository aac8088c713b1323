# SPDX-License-Identifier: Apache-2.0
"""How long programs take to start, beside podman's, which are compiled: medians of interleaved runs.

start-volar-vs-podman    `volar vms list` with the daemon up, over `podman ps`
start-fledge-vs-podman   `fledge --help` over `podman --help`

Beside them, what no program in Python gets below: the same interpreter that does nothing, in the same rounds.
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
NOTHING = [sys.executable, "-I", "-c", "pass"]
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
            commands = (ours, theirs, NOTHING)
            times: tuple[list[float], ...] = tuple([] for _ in commands)
            for number in range(ROUNDS + 1):
                for command, found in zip(commands, times, strict=True):
                    taken = milliseconds(command, environment)
                    if number:  # the first starts the daemon, and fills caches
                        found.append(taken)
            medians = [statistics.median(found) for found in times]
            words = [
                f"{' '.join(command)} {median:.0f} ms"
                for command, median in zip(commands, medians, strict=True)
            ]
            print(", ".join([*words[:2], f"Python alone {medians[2]:.0f} ms"]), flush=True)
            for command, median in zip((ours, theirs), medians[:2], strict=True):
                note(f"{'-'.join(command).replace('---', '-')}-ms", round(median))
            note(f"{name}-floor", round(medians[2] / medians[1], 2))
            ratio(name, medians[0] / medians[1])
    finally:
        with contextlib.suppress(subprocess.SubprocessError):
            milliseconds(["volar", "daemon", "stop"], environment)
        shutil.rmtree(home, ignore_errors=True)
