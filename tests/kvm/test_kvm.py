# SPDX-License-Identifier: Apache-2.0
"""The line on KVM, inside a guest of ours. One host, in order; each test leaves it as the next expects."""

from __future__ import annotations

import json

from kvm.conftest import KvmHost

MODULES = "/opt/kernel/lib/modules/*/kernel"


def test_the_guest_has_kvm_once_its_modules_are_loaded(kvm: KvmHost) -> None:
    kvm.run(
        f"ls /dev/kvm 2>/dev/null || "
        f"for name in virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-amd; do insmod {MODULES}/$name.ko; done"
    )
    assert kvm.run("ls /dev/kvm").strip() == "/dev/kvm"


def test_doctor_finds_that_kvm_works(kvm: KvmHost) -> None:
    info = json.loads(kvm.run("volar system info --output json"))
    assert info["accelerator"] == "kvm", info
    assert "a guest booted with KVM" in kvm.run("volar doctor", check=False)


def test_a_plugin_becomes_a_page(kvm: KvmHost) -> None:
    kvm.run("volar plugins install /opt/small.tar.gz")
    kvm.run("volar vms create web --plugin small")
    assert kvm.run(f"curl --silent --fail --max-time 20 {kvm.vm('web')['url']}") == "served on KVM\n"
    assert "GET /" in kvm.run("volar vms logs web") or "url:/" in kvm.run("volar vms logs web")


def test_the_argument_list_is_the_one_for_kvm(kvm: KvmHost) -> None:
    command = kvm.run("tr '\\0' ' ' < /proc/$(pgrep -f '^[^ ]*qemu-system-x86_64' | head -1)/cmdline")
    assert "-accel kvm" in command
    assert "-cpu host" in command
    assert "tsc" not in command
    assert kvm.ssh("web", "cat /sys/devices/system/clocksource/clocksource0/current_clocksource") == "kvm-clock\n"


def test_stop_start_and_what_the_disk_keeps(kvm: KvmHost) -> None:
    kvm.ssh("web", "echo kept > /www/kept && sync")
    kvm.run("volar vms stop web")
    assert kvm.vm("web")["status"] == "stopped"
    kvm.run("volar vms start web")
    assert kvm.run(f"curl --silent --fail --max-time 20 {kvm.vm('web')['url']}/kept") == "kept\n"


def test_the_daemon_is_killed_and_adopts_the_vm(kvm: KvmHost) -> None:
    pid = json.loads(kvm.run("volar daemon status --output json"))["pid"]
    kvm.run(f"kill -9 {pid}")
    found = kvm.vm("web")
    assert (found["status"], found["health"]) == ("running", "healthy")
    assert kvm.ssh("web", "cat /www/kept") == "kept\n"


def test_a_hypervisor_that_is_killed_is_a_crash_with_its_cause(kvm: KvmHost) -> None:
    kvm.run("kill -9 $(pgrep -f '^[^ ]*qemu-system-x86_64')")
    kvm.run("for n in $(seq 50); do volar vms get web --output json | grep -q '\"failed\"' && break; sleep 0.2; done")
    found = kvm.vm("web")
    assert found["status"] == "failed"
    assert found["reason"]
    kvm.run("volar vms delete web")


def test_two_processors_and_memory_as_asked(kvm: KvmHost) -> None:
    kvm.run("volar vms create wide --plugin small --cpus 2 --memory 192")
    assert kvm.ssh("wide", "busybox nproc || /bin/busybox nproc") == "2\n"
    total_kib = int(kvm.ssh("wide", "/bin/busybox awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert 120 * 1024 < total_kib < 192 * 1024
    kvm.run("volar vms delete wide --force")


def test_two_vms_on_a_bridge_find_each_other_by_name(kvm: KvmHost) -> None:
    kvm.run("volar setup network")
    kvm.run("volar vms create one --plugin small --network bridged")
    kvm.run("volar vms create two --plugin small --network bridged")
    assert kvm.ssh("one", "/bin/busybox wget -q -O - http://two/") == "served on KVM\n"
    assert kvm.run(f"curl --silent --fail --max-time 20 http://{kvm.vm('two')['ip']}/") == "served on KVM\n"
    kvm.run("volar vms delete one --force; volar vms delete two --force")
    kvm.run("volar setup network --remove")
    assert "volant0" not in kvm.run("ip -brief link")
