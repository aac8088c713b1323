# SPDX-License-Identifier: Apache-2.0
"""The agent inside a guest; medians of 5 boots, interleaved with those of its peer.

agent-main-to-exec-ms        the agent's first line to the start of the workload, by the guest's clock, without loading
                             kernel modules
agent-main-to-exec-vs-least  the same over that of a C program that makes only the system calls (least_agent.c)
agent-idle-rss-mib           resident memory of the agent with one connected host, after it has settled
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.results import ratio

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("BENCH_GUEST_ROUNDS", "5"))
SETTLE_SECONDS = 5.0


def main() -> None:
    # The harness of the end-to-end tests boots guests; it lives with them.
    sys.path.insert(0, str(ROOT / "tests"))
    from support.guest_harness import ask, make_disk, make_harness, make_overlay, write_file

    with tempfile.TemporaryDirectory(prefix="volant-bench-") as name:
        folder = Path(name)
        root = folder / "root"
        for entry in ("dev", "proc", "sys", "run", "tmp", "etc", "bin"):
            (root / entry).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin" / "sleep")
        write_file(root, "etc/kestrel/image.json", json.dumps({"cmd": ["/bin/sleep", "1000"]}))
        base = make_disk(root, folder / "base.img")
        harness = make_harness(folder)
        least = dataclasses.replace(harness, agent=make_least_agent(folder))

        async def measure(guest: Any) -> tuple[float, float]:
            await asyncio.sleep(SETTLE_SECONDS)
            state = await ask(guest, harness, "state.get", {})
            await asyncio.sleep(SETTLE_SECONDS)
            stats = await ask(guest, harness, "stats.get", {})
            return state["boot"]["main_to_exec_ms"], stats["agent_memory_bytes"] / 2**20

        times, memory, limits = [], [], []
        for number in range(ROUNDS):
            with harness.boot(make_overlay(base, folder / f"{number}.qcow2")) as guest:
                guest.wait_for("boot: main to exec")
                took, resident = asyncio.run(measure(guest))
                times.append(took)
                memory.append(resident)
            with least.boot(make_overlay(base, folder / f"{number}-least.qcow2")) as guest:
                limits.append(read_least(guest.wait_for(" ms\n")))
    print(f"main to exec: {sorted(times)} ms; the system calls alone, from C: {sorted(limits)} ms")
    ratio("agent-main-to-exec-ms", statistics.median(times), 0)
    ratio("agent-main-to-exec-vs-least", statistics.median(times) / statistics.median(limits))
    ratio("agent-idle-rss-mib", statistics.median(memory), 1)


def make_least_agent(folder: Path) -> Path:
    program = folder / "least-agent"
    subprocess.run(
        ["gcc", "-O2", "-static", "-o", str(program), str(ROOT / "bench" / "least_agent.c")], check=True
    )
    return program


def read_least(console: str) -> float:
    found = re.search(r"least: ([0-9.]+) ms", console)
    if found is None:
        raise SystemExit(f"the peer did not get through its boot:\n{console}")
    return float(found[1])


if __name__ == "__main__":
    main()
