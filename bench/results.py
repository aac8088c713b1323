# SPDX-License-Identifier: Apache-2.0
"""What a bench measured: printed as it is known, kept as one line of bench/results/NAME.jsonl when the bench is over.

A line holds date, version, machine and load beside the medians, so that figures are compared with their like only. The
tables and plots of the documentation are made of these files (scripts/figures.py).
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import volant

FOLDER = Path(__file__).resolve().parent / "results"
_figures: dict[str, float] = {}


def ratio(name: str, value: float, digits: int = 2) -> None:
    """A figure that is compared with what is wanted of it."""
    print(f"RATIO {name} {value:.{digits}f}", flush=True)
    note(name, round(value, digits))


def note(name: str, value: float) -> None:
    """A figure of a table."""
    _figures[name] = value


def save(bench: str, folder: Path = FOLDER) -> None:
    """Append what was told since the last call; nothing if there was nothing."""
    if not _figures:
        return
    line = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": volant.__version__,
        "commit": read_commit(),
        "machine": describe_machine(),
        "load": round(os.getloadavg()[1], 1),
        "figures": dict(_figures),
    }
    folder.mkdir(exist_ok=True)
    with (folder / f"{bench}.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    _figures.clear()


def read_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True).stdout.strip()


def describe_machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory_bytes / 2**30),
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
    }
