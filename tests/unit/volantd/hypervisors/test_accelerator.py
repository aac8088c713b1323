# SPDX-License-Identifier: Apache-2.0
"""The choice, with programs that play QEMU; the real probe is an integration test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from volant.volantd.hypervisors import accelerator
from volant.volantd.hypervisors.accelerator import (
    AcceleratorProbe,
    choose_machine,
    find_kvm_obstacle,
    try_kvm,
)


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


WORKS = "print('[    0.3] Run /init as init process', flush=True); time.sleep(60)"
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
    assert "kvm_buf_set_msrs" in support.reason


def test_a_guest_that_stays_silent_is_given_up(tmp_path: Path) -> None:
    program = play_qemu(tmp_path, "time.sleep(60)")
    problem = try_kvm(program, "amd64", tmp_path / "vmlinux", timeout_seconds=0.5)
    assert problem is not None
    assert "not a word" in problem


def test_without_a_device_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "KVM", tmp_path / "missing")
    assert find_kvm_obstacle("arm64" if accelerator.os.uname().machine == "x86_64" else "amd64") is not None
    host: accelerator.Architecture = "arm64" if accelerator.os.uname().machine == "aarch64" else "amd64"
    problem = find_kvm_obstacle(host)
    assert problem is not None
    assert "/dev/kvm" in problem


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
