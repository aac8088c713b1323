# SPDX-License-Identifier: Apache-2.0
"""The agent inside a guest; medians of 5 boots.

agent-main-to-exec-ms   the agent's first line to the start of the workload, by the guest's clock, without loading
                        kernel modules
agent-idle-rss-mib      resident memory of the agent with one connected host, after it has settled
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 5
SETTLE_SECONDS = 5.0


def main() -> None:
    # The harness of the end-to-end tests boots guests; it lives with them.
    sys.path.insert(0, str(ROOT / "tests"))
    from e2e.guest_harness import ask, make_disk, make_harness, make_overlay, write_file  # type: ignore[import-not-found]  # a folder of tests, on the path from here on

    with tempfile.TemporaryDirectory(prefix="volant-bench-") as name:
        folder = Path(name)
        root = folder / "root"
        for entry in ("dev", "proc", "sys", "run", "tmp", "etc", "bin"):
            (root / entry).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin" / "sleep")
        write_file(root, "etc/kestrel/image.json", json.dumps({"cmd": ["/bin/sleep", "1000"]}))
        base = make_disk(root, folder / "base.img")
        harness = make_harness(folder)

        async def measure(guest: Any) -> tuple[float, float]:
            await asyncio.sleep(SETTLE_SECONDS)
            state = await ask(guest, harness, "state.get", {})
            await asyncio.sleep(SETTLE_SECONDS)
            stats = await ask(guest, harness, "stats.get", {})
            return state["boot"]["main_to_exec_ms"], stats["agent_memory_bytes"] / 2**20

        measured = []
        for number in range(ROUNDS):
            with harness.boot(make_overlay(base, folder / f"{number}.qcow2")) as guest:
                guest.wait_for("boot: main to exec")
                measured.append(asyncio.run(measure(guest)))
    print(f"RATIO agent-main-to-exec-ms {statistics.median(times for times, _ in measured):.0f}")
    print(f"RATIO agent-idle-rss-mib {statistics.median(memory for _, memory in measured):.1f}")


if __name__ == "__main__":
    main()
