# SPDX-License-Identifier: Apache-2.0
"""The choice, with programs that play QEMU; the real probe is an integration test."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from volant.errors import ToolFailed
from volant.volantd.hypervisors import accelerator
from volant.volantd.hypervisors.accelerator import AcceleratorProbe, choose_machine


def play_qemu(folder: Path, behaviour: str) -> str:
    """A program that notes each probe and answers what the code asks of QEMU."""
    program = folder / "qemu-system-x86_64"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys, time\n"
        "if '--version' in sys.argv: print('QEMU emulator version 9.9.9'); sys.exit()\n"
        "if 'help' in sys.argv: print('microvm              microvm (i386)'); sys.exit()\n"
        f"open({str(folder / 'probes')!r}, 'a').write('x')\n"
        f"{behaviour}\n"
    )
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def with_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accelerator, "KVM", device)
    monkeypatch.setattr(accelerator, "find_kvm_obstacle", lambda _architecture: None)
    return tmp_path


WORKS = "print('[    0.3] Failed to execute /init (error -8)', flush=True); time.sleep(60)"
ABORTS = "print('Assertion failed: kvm_buf_set_msrs', file=sys.stderr); sys.exit(1)"


def test_kvm_is_taken_once_a_guest_booted_and_remembered(with_kvm: Path) -> None:
    program = play_qemu(with_kvm, WORKS)
    kernel = with_kvm / "vmlinux"
    kernel.touch()
    support = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert (support.accelerator, support.machine, support.bus) == ("kvm", "microvm", "mmio")
    assert support.version == "9.9.9"
    assert support.tsc_khz is None
    again = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert again == support
    assert (with_kvm / "probes").read_text() == "x"


def test_an_abort_means_tcg_with_its_reason(with_kvm: Path) -> None:
    program = play_qemu(with_kvm, ABORTS)
    kernel = with_kvm / "vmlinux"
    kernel.touch()
    support = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert support.accelerator == "tcg"
    assert "processor register that KVM needs" in support.reason
    assert "nested virtualization" in support.cure


def test_a_failure_is_asked_about_again_after_a_while(
    with_kvm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accelerator, "measure_tsc_khz", lambda: 2_595_908)
    kernel = with_kvm / "vmlinux"
    kernel.touch()
    program = play_qemu(with_kvm, ABORTS)
    first = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    again = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert again == first
    assert (with_kvm / "probes").read_text() == "x"
    for answer in with_kvm.glob("host-*.json"):
        os.utime(answer, (0, 0))
    # Templates are of this clock: what is nearly the same when it is measured again is the same.
    monkeypatch.setattr(accelerator, "measure_tsc_khz", lambda: 2_596_039)
    later = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert (with_kvm / "probes").read_text() == "xx"
    assert later.tsc_khz == 2_595_908
    monkeypatch.setattr(accelerator, "measure_tsc_khz", lambda: 3_000_000)
    for answer in with_kvm.glob("host-*.json"):
        os.utime(answer, (0, 0))
    moved = AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert moved.tsc_khz == 3_000_000


def test_a_success_is_believed_for_as_long_as_the_host_is_up(with_kvm: Path) -> None:
    kernel = with_kvm / "vmlinux"
    kernel.touch()
    program = play_qemu(with_kvm, WORKS)
    AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    for answer in with_kvm.glob("host-*.json"):
        os.utime(answer, (0, 0))
    AcceleratorProbe(with_kvm).find_support(program, "amd64", kernel=kernel, firmware=False)
    assert (with_kvm / "probes").read_text() == "x"


def test_kvm_that_was_asked_for_never_becomes_tcg(with_kvm: Path) -> None:
    kernel = with_kvm / "vmlinux"
    kernel.touch()
    program = play_qemu(with_kvm, ABORTS)
    with pytest.raises(ToolFailed, match="processor register that KVM needs") as caught:
        AcceleratorProbe(with_kvm, "kvm").find_support(program, "amd64", kernel=kernel, firmware=False)
    assert "nested virtualization" in str(caught.value.resolution)
    program = play_qemu(with_kvm, WORKS)
    support = AcceleratorProbe(with_kvm, "kvm").find_support(program, "amd64", kernel=kernel, firmware=False)
    assert support.accelerator == "kvm"


def test_tcg_can_be_asked_for(with_kvm: Path) -> None:
    program = play_qemu(with_kvm, WORKS)
    probe = AcceleratorProbe(with_kvm, "tcg")
    support = probe.find_support(program, "amd64", kernel=with_kvm / "vmlinux", firmware=True)
    assert (support.accelerator, support.machine, support.bus) == ("tcg", "q35", "pci")
    assert not (with_kvm / "probes").exists()


def test_the_machine_is_microvm_where_it_serves() -> None:
    assert choose_machine("amd64", firmware=False, has_microvm=True, has_clock=True) == "microvm"
    assert choose_machine("amd64", firmware=True, has_microvm=True, has_clock=True) == "q35"
    assert choose_machine("amd64", firmware=False, has_microvm=False, has_clock=True) == "q35"
    assert choose_machine("amd64", firmware=False, has_microvm=True, has_clock=False) == "q35"
    assert choose_machine("arm64", firmware=False, has_microvm=True, has_clock=True) == "virt"
