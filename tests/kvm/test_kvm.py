# SPDX-License-Identifier: Apache-2.0
"""The line on KVM, in order: what the product promises, where guests run on the processor itself."""

from __future__ import annotations

import json
import shlex

import pytest

from support.busybox_web import PAGE
from support.kvm_host import STATE, KvmHost

pytestmark = pytest.mark.timeout(600)


def test_doctor_says_that_kvm_works(kvm: KvmHost) -> None:
    findings = {found["subject"]: found for found in json.loads(kvm.run("volar doctor -o json"))}
    assert findings["accelerator"]["fact"] == "kvm: a guest booted with KVM"
    assert findings["accelerator"]["state"] == "ok"
    assert [name for name, found in findings.items() if found["state"] == "missing"] == []


def test_a_vm_boots_on_kvm_and_is_reached(kvm: KvmHost, plugin: str) -> None:
    kvm.volar("vms", "create", "one", "--plugin", plugin, "--cpus", "2", "--memory", "192")
    vm = kvm.vm("one")
    assert (vm["status"], vm["health"]) == ("running", "healthy")
    assert vm["hypervisor"]["accelerator"] == "kvm"
    assert kvm.fetch(vm["url"]) == PAGE
    # A real ssh, and what the guest sees of its processor, memory and clock.
    seen = kvm.volar(
        "vms", "ssh", "one",
        "nproc; cat /sys/devices/system/clocksource/clocksource0/current_clocksource; "
        "cat /proc/cmdline /proc/cpuinfo /proc/meminfo",
    )  # fmt: skip
    lines = seen.splitlines()
    assert lines[0] == "2"
    assert lines[1] == "kvm-clock"
    flags = next(line for line in lines if line.startswith("flags")).split()
    assert "x2apic" in flags
    assert not {"svm", "vmx"} & set(flags)
    assert "tsc" not in next(line for line in lines if line.startswith("console="))
    total_kb = int(next(line for line in lines if line.startswith("MemTotal")).split()[1])
    assert 150 << 10 < total_kb <= 192 << 10
    assert "workload" in kvm.volar("vms", "logs", "one", "--console")
    command = json.loads(
        kvm.run(f"tr '\\0' '\\n' < /proc/{vm['hypervisor']['pid']}/cmdline | jq -R . | jq -s .")
    )
    assert command[command.index("-accel") + 1] == "kvm"
    assert command[command.index("-cpu") + 1] == "host,vmx=off,svm=off"


def test_its_limits_are_the_kernels(kvm: KvmHost) -> None:
    """Everything that serves the VM is in its group; what would take more memory is ended and told."""
    vm = kvm.vm("one")
    group = f"/sys/fs/cgroup/volant/{vm['id']}"
    names = kvm.run(f"for pid in $(cat {group}/cgroup.procs); do cat /proc/$pid/comm; done").split()
    for program in ("qemu-system", "passt", "python3"):
        assert any(name.startswith(program) for name in names), names
    limits = kvm.run(f"cd {group} && cat memory.max cpu.max pids.max memory.oom.group").split()
    assert limits == [str((192 + 512) << 20), "300000", "100000", "514", "1"]
    kvm.volar("vms", "update", "one", "--restart", "no")
    kvm.run(f"echo 32M > {group}/memory.max; true")
    ended = kvm.wait_until("its end", lambda: (found := kvm.vm("one"))["status"] == "failed" and found)
    assert "more memory than its limit" in ended["status_reason"]
    kvm.volar("vms", "update", "one", "--restart", "on-failure")
    kvm.volar("vms", "start", "one")
    assert kvm.fetch(kvm.vm("one")["url"]) == PAGE


def test_a_killed_daemon_leaves_it_serving_and_a_killed_qemu_comes_back(kvm: KvmHost) -> None:
    before = kvm.vm("one")
    kvm.volar("vms", "ssh", "one", "echo kept > /root/kept && sync")
    page = kvm.run(f"kill -9 $(volar daemon status -o json | jq .pid); curl -s --max-time 20 {before['url']}")
    assert page == PAGE
    after = kvm.wait_until("adoption", lambda: (found := kvm.vm("one"))["agent"]["connected"] and found)
    assert after["hypervisor"]["pid"] == before["hypervisor"]["pid"]
    kvm.run(f"kill -9 {before['hypervisor']['pid']}")
    kvm.wait_until(
        "its coming back", lambda: (found := kvm.vm("one"))["restarts"] == 1 and found["agent"]["connected"]
    )
    assert kvm.volar("vms", "ssh", "one", "cat /root/kept") == "kept\n"


PAUSE = """\
import asyncio, sys
from qemu.qmp import QMPClient
async def pause():
    qmp = QMPClient()
    await qmp.connect(sys.argv[1])
    await qmp.execute("stop")
    await asyncio.sleep(5)
    await qmp.execute("cont")
    await qmp.disconnect()
asyncio.run(pause())
"""


def test_the_clock_after_a_pause(kvm: KvmHost) -> None:
    """Unlike under TCG the guest's clock stands still with it, and is set by the host afterwards."""
    found = kvm.vm("one")
    # A monitor socket has one client.
    kvm.run("kill -9 $(volar daemon status -o json | jq .pid)")
    kvm.run(f"python3 -c {shlex.quote(PAUSE)} {STATE}/vms/{found['id']}/qmp.sock")

    def is_right() -> bool:
        guest, before, after = kvm.run(
            "before=$(date +%s); guest=$(volar vms ssh one 'date +%s'); echo $guest $before $(date +%s)"
        ).split()
        return int(before) - 1 <= int(guest) <= int(after) + 1

    kvm.wait_until("the right time", is_right)


def test_stop_start_snapshot_and_fork(kvm: KvmHost) -> None:
    kvm.volar("vms", "stop", "one")
    assert kvm.vm("one")["status"] == "stopped"
    kvm.volar("vms", "start", "one")
    kvm.volar("vms", "ssh", "one", "echo remembered > /dev/shm/memory; cat /root/kept")
    kvm.volar("snapshots", "create", "one", "then")
    kvm.volar("vms", "fork", "one", "copy")
    kvm.volar("vms", "create", "again", "--from-snapshot", "then")
    vms = [kvm.vm(name) for name in ("one", "copy", "again")]
    assert len({vm["ip"] for vm in vms}) == 3
    for vm in vms:
        assert kvm.fetch(vm["url"]) == PAGE
        told = kvm.volar("vms", "ssh", vm["name"], "cat /dev/shm/memory /root/kept; hostname")
        assert told == f"remembered\nkept\n{vm['name']}\n"
    kvm.run("volar vms delete copy --force && volar vms delete again --force && volar snapshots delete then")
    assert kvm.vm("one")["health"] == "healthy"
    kvm.volar("vms", "delete", "one", "--force")


def test_two_vms_on_the_bridge_know_each_other_by_name(kvm: KvmHost, plugin: str) -> None:
    kvm.volar("setup", "network")
    for name in ("left", "right"):
        kvm.volar("vms", "create", name, "--plugin", plugin, "--network", "bridged")
    left, right = kvm.vm("left"), kvm.vm("right")
    assert left["network"] == right["network"] == "bridged"
    assert kvm.fetch(f"http://{right['ip']}") == PAGE
    assert kvm.volar("vms", "ssh", "left", "wget -q -T 20 -O - http://right") == PAGE
    assert kvm.volar("vms", "ssh", "right", "wget -q -T 20 -O - http://left") == PAGE
    kvm.run("volar vms delete left --force && volar vms delete right --force && volar setup network --remove")
    assert "volant0" not in kvm.run("ip -brief link")
