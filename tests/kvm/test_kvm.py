# SPDX-License-Identifier: Apache-2.0
"""The line on KVM, in order: what the product promises, where guests run on the processor itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.busybox_web import PAGE
from support.driver_checks import CHECKS as DRIVER_CHECKS
from support.kvm_host import CHECKS, CLOUD_HYPERVISOR, STATE, KvmHost
from support.kvm_machines import NO_VERDICT

# The first one waits for the machine, too, which is made of Debian packages where none is in the cache.
pytestmark = pytest.mark.timeout(1800, func_only=True)

needs_cloud_hypervisor = pytest.mark.skipif(
    CLOUD_HYPERVISOR is None,
    reason="no cloud-hypervisor on PATH, and VOLANT_TEST_CLOUD_HYPERVISOR names none",
)


def test_doctor_says_that_kvm_works(kvm: KvmHost) -> None:
    findings = examine(kvm)
    if findings["accelerator"]["state"] != "ok":
        refuse_busy_machine(findings)
        # The guest that tries it may be lost as any other, and is asked again.
        kvm.run(f"rm {STATE}/cache/host-*.json")
        findings = examine(kvm)
        refuse_busy_machine(findings)
    assert findings["accelerator"]["fact"].startswith("kvm: a guest booted with KVM")
    assert findings["accelerator"]["state"] == "ok"
    assert [name for name, found in findings.items() if found["state"] == "missing"] == []


def refuse_busy_machine(findings: dict[str, Any]) -> None:
    """A guest that still talks after three minutes says that KVM works, and the machine is too busy."""
    fact = findings["accelerator"]["fact"]
    if "was still booting when its time was over" in fact:
        pytest.exit(f"no verdict: the host is too busy for this: {fact}", NO_VERDICT)


def examine(kvm: KvmHost) -> dict[str, Any]:
    return {
        found["subject"]: found for found in json.loads(kvm.run("volar doctor -o json", timeout_seconds=600))
    }


def test_a_vm_boots_on_kvm_and_is_reached(kvm: KvmHost, plugin: str) -> None:
    kvm.run("echo always > /sys/kernel/mm/transparent_hugepage/shmem_enabled")
    vm = kvm.create("one", resources={"vcpu": 2, "memory_mb": 192})
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
    assert "process workload started" in kvm.volar("vms", "logs", "one", "--console")
    command = kvm.run(f"tr '\\0' '\\n' < /proc/{vm['hypervisor']['pid']}/cmdline").splitlines()
    assert command[command.index("-accel") + 1] == "kvm"
    assert command[command.index("-cpu") + 1] == "host,vmx=off,svm=off"
    # The host was told to give memory like a guest's in huge pages, and QEMU asks for nothing that would prevent it.
    huge = next(
        line for line in kvm.run("cat /proc/meminfo").splitlines() if line.startswith("ShmemHugePages")
    )
    assert int(huge.split()[1]) > 0


def test_what_is_left_to_qemu_is_as_we_would_have_it(kvm: KvmHost) -> None:
    """Not named in our arguments: a queue's bell is an ioeventfd, for which the guest waits on no thread of QEMU."""
    asked = "qemu-system-x86_64 -M microvm -accel kvm -cpu host -nodefaults -display none -S -monitor stdio"
    tree = kvm.run(f"(echo info qtree; echo quit) | timeout 60 {asked}").splitlines()
    said = [line.split()[-1] for line in tree if line.strip().startswith("ioeventfd =")]
    assert said and set(said) == {"true"}


def test_its_limits_are_the_kernels(kvm: KvmHost) -> None:
    """Everything that serves the VM is in its group; what would take more memory is ended and told."""
    vm = kvm.vm("one")
    group = f"/sys/fs/cgroup/volant/{vm['id']}"
    names = kvm.run(f"for pid in $(cat {group}/cgroup.procs); do cat /proc/$pid/comm; done").split()
    for program in ("qemu-system", "passt", "python3"):
        assert any(name.startswith(program) for name in names), names
    limits = kvm.run(f"cd {group} && cat memory.max cpu.max pids.max memory.oom.group").split()
    assert limits == [str((192 + 512) << 20), "300000", "100000", "514", "1"]
    kvm.ask("PATCH", "vms/one", {"restart": "no"})
    kvm.run(f"echo 32M > {group}/memory.max; true")
    ended = kvm.wait_until("its end", lambda: (found := kvm.vm("one"))["status"] == "failed" and found)
    assert "more memory than its limit" in ended["status_reason"]
    kvm.ask("PATCH", "vms/one", {"restart": "on-failure"})
    kvm.ask("POST", "vms/one/start")
    assert kvm.fetch(kvm.wait_healthy("one")["url"]) == PAGE


def test_a_killed_daemon_leaves_it_serving_and_a_killed_qemu_comes_back(kvm: KvmHost) -> None:
    before = kvm.vm("one")
    kvm.enter("one", "echo kept > /root/kept && sync")
    pid = json.loads(kvm.volar("daemon", "status", "-o", "json"))["pid"]
    assert kvm.run(f"kill -9 {pid}; curl -s --max-time 20 {before['url']}") == PAGE
    kvm.volar("vms", "list")  # which starts the next daemon
    after = kvm.wait_until("adoption", lambda: (found := kvm.vm("one"))["agent"]["connected"] and found)
    assert after["hypervisor"]["pid"] == before["hypervisor"]["pid"]
    kvm.run(f"kill -9 {before['hypervisor']['pid']}")
    kvm.wait_until(
        "its coming back", lambda: (found := kvm.vm("one"))["restarts"] >= 1 and found["agent"]["connected"]
    )
    assert kvm.enter("one", "cat /root/kept") == "kept\n"


def test_the_clock_after_a_pause(kvm: KvmHost) -> None:
    """Unlike under TCG the guest's clock stands still with it, and is set by the host afterwards."""
    kvm.ask("POST", "vms/one/pause")
    kvm.run("sleep 5")
    kvm.ask("POST", "vms/one/unpause")

    def is_right() -> bool:
        before, now = kvm.run("date +%s"), kvm.enter("one", "date +%s")
        return int(before) - 1 <= int(now) <= int(kvm.run("date +%s")) + 1

    kvm.wait_until("the right time", is_right)
    # By which it asks the host itself from then on.
    assert kvm.enter("one", "cat /sys/class/ptp/ptp0/clock_name") == "KVM virtual PTP\n"


@pytest.mark.heavy
def test_stop_start_snapshot_and_fork(kvm: KvmHost) -> None:
    kvm.ask("POST", "vms/one/stop", {})
    assert kvm.vm("one")["status"] == "stopped"
    kvm.ask("POST", "vms/one/start")
    original = kvm.wait_healthy("one")
    kvm.enter("one", "echo remembered > /dev/shm/memory; cat /root/kept")
    kvm.ask("POST", "vms/one/snapshots", {"name": "then"})
    kvm.ask("POST", "vms/one/fork", {"names": ["copy"]})
    addresses = {original["ip"]}
    with kvm.paused("one"):
        addresses.add(check_memory(kvm, "copy")["ip"])
        kvm.ask("DELETE", "vms/copy?force=true")
        kvm.ask("POST", "vms", {"name": "again", "snapshot": "then"})
        addresses.add(check_memory(kvm, "again")["ip"])
        kvm.ask("DELETE", "vms/again?force=true")
    assert len(addresses) == 3
    check_memory(kvm, "one")
    kvm.ask("DELETE", "vms/one?force=true")
    kvm.ask("DELETE", "snapshots/then")


def check_memory(kvm: KvmHost, name: str) -> dict[str, Any]:
    """A VM that remembers, is itself all the same, and serves."""
    vm = kvm.wait_healthy(name)
    assert kvm.fetch(vm["url"]) == PAGE
    assert kvm.enter(name, "cat /dev/shm/memory /root/kept; hostname") == f"remembered\nkept\n{name}\n"
    return vm


@pytest.mark.heavy
def test_two_vms_on_the_bridge_know_each_other_by_name(kvm: KvmHost, plugin: str) -> None:
    kvm.volar("setup", "network")
    left = kvm.create("left", network="bridged")
    with kvm.paused("left"):
        right = kvm.create("right", network="bridged")
        assert left["network"] == right["network"] == "bridged"
        assert kvm.fetch(f"http://{right['ip']}") == PAGE
    # Without -T, over which Debian's static wget falls.
    assert kvm.enter("left", "wget -q -O - http://right") == PAGE
    assert kvm.enter("right", "wget -q -O - http://left") == PAGE
    for name in ("left", "right"):
        kvm.ask("DELETE", f"vms/{name}?force=true")


@pytest.mark.heavy
@needs_cloud_hypervisor
def test_cloud_hypervisor_does_the_same(kvm: KvmHost, plugin: str) -> None:
    """The real program: boot, agent by vsock, page through a tap, secret, pause, adoption, snapshot, orderly stop."""
    kvm.run("volar setup network; printf value | volar secrets set key")
    vm = kvm.create("cloud", network="bridged", hypervisor="cloud-hypervisor", secrets=[{"name": "key"}])
    assert vm["hypervisor"]["kind"] == "cloud-hypervisor"
    assert kvm.fetch(vm["url"]) == PAGE
    assert kvm.enter("cloud", "/run/kestrel/bin/socat VSOCK-CONNECT:2:9000 STDOUT") == "value"
    kvm.enter("cloud", "echo remembered > /dev/shm/memory; echo kept > /root/kept; sync")
    kvm.run("volar daemon stop; volar vms list")
    after = kvm.wait_until("adoption", lambda: (found := kvm.vm("cloud"))["agent"]["connected"] and found)
    assert after["hypervisor"]["pid"] == vm["hypervisor"]["pid"]
    kvm.ask("POST", "vms/cloud/snapshots", {"name": "cloud-then"})
    with kvm.paused("cloud"):
        kvm.ask("POST", "vms", {"name": "cloud-again", "snapshot": "cloud-then"})
        check_memory(kvm, "cloud-again")
    check_memory(kvm, "cloud")
    assert kvm.enter("cloud-again", "wget -q -O - http://cloud") == PAGE
    kvm.ask("POST", "vms/cloud/stop", {})
    assert kvm.vm("cloud")["status"] == "stopped"
    kvm.ask("DELETE", "vms/cloud-again?force=true")
    kvm.ask("POST", "vms/cloud/start")
    assert kvm.enter(kvm.wait_healthy("cloud")["name"], "cat /root/kept") == "kept\n"
    kvm.ask("DELETE", "vms/cloud?force=true")
    kvm.ask("DELETE", "snapshots/cloud-then")


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["qemu", pytest.param("cloud-hypervisor", marks=needs_cloud_hypervisor)])
def test_its_driver_does_what_every_driver_owes(kvm: KvmHost, kind: str) -> None:
    command = f"cd /tmp && python3 {CHECKS} {kind} /opt/busybox {STATE}/cache/kernels"
    assert kvm.run(command, timeout_seconds=1200).splitlines() == [check.__name__ for check in DRIVER_CHECKS]


@pytest.mark.heavy
@needs_cloud_hypervisor
def test_more_cpus_and_memory_while_it_runs(kvm: KvmHost, plugin: str) -> None:
    kvm.create(
        "more", network="vsock", hypervisor="cloud-hypervisor", resources={"vcpu": 1, "memory_mb": 192}
    )
    look = "nproc; grep MemTotal /proc/meminfo"
    before = kvm.enter("more", look).split()
    vm = kvm.ask("PATCH", "vms/more", {"vcpu": 2, "memory_mb": 320})
    assert vm["pending"] == []
    after = kvm.enter("more", look).split()
    assert (before[0], after[0]) == ("1", "2")
    assert int(after[2]) - int(before[2]) > 120 << 10
    limits = kvm.run(
        f"cat /sys/fs/cgroup/volant/{vm['id']}/memory.max /sys/fs/cgroup/volant/{vm['id']}/cpu.max"
    )
    assert limits.split() == [str((320 + 512) << 20), "300000", "100000"]
    assert kvm.ask("PATCH", "vms/more", {"memory_mb": 192})["pending"] == ["memory_mb"]
    kvm.ask("DELETE", "vms/more?force=true")


@pytest.mark.heavy
def test_the_bridge_goes_as_it_came(kvm: KvmHost) -> None:
    kvm.volar("setup", "network", "--remove")
    assert "volant0" not in kvm.run("ip -brief link")
