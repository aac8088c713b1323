# SPDX-License-Identifier: Apache-2.0
"""How a VM comes to be on KVM: inside a VM of ours whose emulated processor has it (BENCH_KVM_ROUNDS=3).

To the first HTTP 200 of a busybox page, medians of interleaved rounds, by the daemon's API.

kvm-cold-vs-bare   a VM that boots, over a bare QEMU on KVM with the same kernel, flags and disk whose init only starts
                   the workload
kvm-warm-vs-cold   a VM that wakes from a template of its shape, over one that boots
kvm-fork-vs-cold   a fork's page, over one that boots
ch-cold-vs-qemu    a bridged VM on Cloud Hypervisor that boots, over one on QEMU; where a program is there
                   (VOLANT_TEST_CLOUD_HYPERVISOR, or on PATH)

In that machine the host's programs are emulated, too. What they take of it is measured beside:

limit-kvm-cold-vs-bare   our guest, agent and all, started by hand: a start in which the host does nothing at all
limit-kvm-fork-vs-cold   the bare machine's memory in another QEMU, by hand
kvm-host-slowdown        processor time of the daemon and its helpers for a cold start, over the same on this machine
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
MODULES = ("__init__", "bench_line", "fork_by_hand", "kvm_by_hand", "kvm_rounds", "processor_time", "results")
Starts = dict[str, list[dict[str, float]]]


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from support.kvm_session import open_kvm_host  # a folder of tests, on the path from here on

    with open_kvm_host() as kvm:
        found = measure(kvm)
        outside = measure_outside(kvm)
    for name, steps in found["steps"].items():
        print(f"{name}: {steps}")
    report(found["starts"], outside, found["lost"])


def measure(kvm: KvmHost) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="volant-bench-") as name:
        init = Path(name) / "init"
        source = ROOT / "bench" / "bare_init.c"
        define = f"-DWORKLOAD={WORKLOAD}"
        subprocess.run(["gcc", "-O2", "-static", define, "-o", str(init), str(source)], check=True)
        kvm.copy_in(init, "/tmp/init")
    kvm.run("mkdir -p /tmp/bench")
    for module in MODULES:
        kvm.copy_in(ROOT / "bench" / f"{module}.py", f"/tmp/bench/{module}.py")
    kvm.volar("setup", "network")
    # What is measured knows templates; the network's default stays user mode.
    # A daemon that takes longer to come up than volar waits for it is there at the next try.
    install = "VOLANT_WARM_START=on volar plugins install /opt/web.tar.gz"
    kvm.run(f"volar daemon stop; {install} || {install} || {install}")
    command = f"cd /tmp && python3 -m bench.kvm_rounds $VOLANT_HOME /tmp/init {ROUNDS}"
    answer = kvm.run(
        f"{command} 2>/tmp/kvm_rounds.log || {{ cat /tmp/kvm_rounds.log; false; }}", timeout_seconds=SECONDS
    )
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    return found


def measure_outside(kvm: KvmHost) -> dict[str, float]:
    """Processor seconds of the daemon, and of it and its helpers, for the same cold start on this machine."""
    from bench.kvm_rounds import Rounds
    from support.busybox_web import make_web_plugin
    from support.kvm_host import BUSYBOX

    with tempfile.TemporaryDirectory(prefix="volant-bench-") as name:
        kvm.host.volar("plugins", "install", str(make_web_plugin(Path(name), kvm.host, BUSYBOX)))
    rounds = Rounds(kvm.host.home)
    rounds.create("first", cold=True)
    starts = [rounds.create("cold", cold=True) for _ in range(ROUNDS)]
    return {part: statistics.median(getattr(start, part) for start in starts) for part in ("daemon", "host")}


def report(starts: Starts, outside: dict[str, float], lost: list[str]) -> None:
    middle = {
        kind: {part: statistics.median(start[part] for start in found) for part in found[0]}
        for kind, found in starts.items()
    }
    print("seconds: page, and of processors until then: daemon, that with passt and filter, QEMU, guest")
    for kind, parts in middle.items():
        print(f"{kind:13}", *(f"{seconds:7.2f}" for seconds in parts.values()))
    print(f"outside of that machine, for a cold start: {outside}")
    print(f"lost to the emulated processor and started again: {len(lost)}", *lost, sep="\n  ")
    note("kvm-rounds", ROUNDS)
    note("kvm-lost", len(lost))
    for kind, parts in middle.items():
        note(f"kvm-{kind}-s", round(parts["page"], 2))
    for kind in ("cold", "warm", "fork"):
        note(f"kvm-{kind}-daemon-cpu-s", round(middle[kind]["daemon"], 2))
        note(f"kvm-{kind}-host-cpu-s", round(middle[kind]["host"], 2))
    for part, seconds in outside.items():
        note(f"kvm-outside-{part}-cpu-s", round(seconds, 3))
    page = {kind: parts["page"] for kind, parts in middle.items()}
    ratio("kvm-cold-vs-bare", page["cold"] / page["bare"])
    ratio("kvm-warm-vs-cold", page["warm"] / page["cold"])
    ratio("kvm-fork-vs-cold", page["fork"] / page["cold"])
    ratio("limit-kvm-cold-vs-bare", page["alone"] / page["bare"])
    ratio("limit-kvm-fork-vs-cold", page["bare-fork"] / page["cold"])
    ratio("kvm-host-slowdown", middle["cold"]["host"] / outside["host"], 1)
    if "ch-bridged" in middle:
        ratio("ch-cold-vs-qemu", page["ch-bridged"] / page["qemu-bridged"])
