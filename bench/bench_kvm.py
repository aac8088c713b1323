# SPDX-License-Identifier: Apache-2.0
"""How a VM comes to be on KVM: inside a VM of ours whose emulated processor has it (BENCH_KVM_ROUNDS=3).

To the first HTTP 200 of a busybox page, medians of interleaved rounds, by the daemon's API.

kvm-cold-vs-bare   a VM that boots, over a bare QEMU on KVM with the same kernel, flags and disk whose init only starts
                   the workload
kvm-warm-vs-cold   a VM that wakes from a template of its shape, over one that boots
kvm-fork-vs-cold   a fork's page, over one that boots
ch-cold-vs-qemu    a bridged VM on Cloud Hypervisor that boots, over one on QEMU; where a program is there
                   (VOLANT_TEST_CLOUD_HYPERVISOR, or on PATH)
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.results import note, ratio

if TYPE_CHECKING:
    from support.kvm_host import KvmHost

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = int(os.environ.get("BENCH_KVM_ROUNDS", "3"))
WORKLOAD = '"/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www"'
SECONDS = 1800


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from support.kvm_session import open_kvm_host  # a folder of tests, on the path from here on

    with open_kvm_host() as kvm:
        found = measure(kvm)
    for name, steps in found["steps"].items():
        print(f"{name}: {steps}")
    report(found["seconds"], found["lost"])


def measure(kvm: KvmHost) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="volant-bench-") as name:
        init = Path(name) / "init"
        source = ROOT / "bench" / "bare_init.c"
        define = f"-DWORKLOAD={WORKLOAD}"
        subprocess.run(["gcc", "-O2", "-static", define, "-o", str(init), str(source)], check=True)
        kvm.copy_in(init, "/tmp/init")
    kvm.copy_in(ROOT / "bench" / "kvm_rounds.py", "/tmp/kvm_rounds.py")
    kvm.volar("setup", "network")
    # What is measured knows templates; the network's default stays user mode.
    # A daemon that takes longer to come up than volar waits for it is there at the next try.
    install = "VOLANT_WARM_START=on volar plugins install /opt/web.tar.gz"
    kvm.run(f"volar daemon stop; {install} || {install} || {install}")
    command = f"python3 /tmp/kvm_rounds.py $VOLANT_HOME /tmp/init {ROUNDS}"
    answer = kvm.run(
        f"{command} 2>/tmp/kvm_rounds.log || {{ cat /tmp/kvm_rounds.log; false; }}", timeout_seconds=SECONDS
    )
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def report(seconds: dict[str, list[float]], lost: list[str]) -> None:
    middle = {kind: statistics.median(found) for kind, found in seconds.items()}
    print(", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in middle.items()))
    print(f"lost to the emulated processor and started again: {len(lost)}", *lost, sep="\n  ")
    note("kvm-rounds", ROUNDS)
    note("kvm-lost", len(lost))
    for kind, found in middle.items():
        note(f"kvm-{kind}-s", round(found, 2))
    ratio("kvm-cold-vs-bare", middle["cold"] / middle["bare"])
    ratio("kvm-warm-vs-cold", middle["warm"] / middle["cold"])
    ratio("kvm-fork-vs-cold", middle["fork"] / middle["cold"])
    if "ch-bridged" in middle:
        ratio("ch-cold-vs-qemu", middle["ch-bridged"] / middle["qemu-bridged"])
