# SPDX-License-Identifier: Apache-2.0
"""Slow is told from broken, each known ending has its cure, and the probe's QEMU is gone afterwards."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from volant.volantd.hypervisors import kvm_probe
from volant.volantd.hypervisors.kvm_probe import Obstacle, find_kvm_obstacle, try_kvm

REACHES_INIT = "say('[    0.3] Failed to execute /init (error -8)'); time.sleep(60)"


def probe(
    folder: Path, behaviour: str, timeout_seconds: float = 20, silence_seconds: float = 20
) -> Obstacle | None:
    """What `try_kvm` makes of a program that behaves like this in QEMU's place."""
    program = folder / "qemu-system-x86_64"
    program.write_text(
        f"#!{sys.executable}\nimport os, sys, time\n"
        f"open({str(folder / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"def say(text): print(text, flush=True)\n{behaviour}\n"
    )
    program.chmod(0o755)
    found = try_kvm(
        str(program),
        "amd64",
        folder / "vmlinux",
        timeout_seconds=timeout_seconds,
        silence_seconds=silence_seconds,
    )
    if (folder / "pid").exists():  # on a busy machine it may have been given up before its first line
        with pytest.raises(ProcessLookupError):
            os.kill(int((folder / "pid").read_text()), 0)
    return found


def test_a_guest_that_reaches_its_first_process_proves_kvm(tmp_path: Path) -> None:
    assert probe(tmp_path, REACHES_INIT) is None


def test_a_slow_guest_is_waited_for_while_it_talks(tmp_path: Path) -> None:
    slow = "for n in range(60): say(f'[ {n}] booting'); time.sleep(0.1)\n" + REACHES_INIT
    assert probe(tmp_path, slow, timeout_seconds=120, silence_seconds=5) is None


def test_a_silent_guest_is_given_up(tmp_path: Path) -> None:
    found = probe(tmp_path, "time.sleep(60)", silence_seconds=0.5)
    assert found is not None
    assert found.reason == "a test guest fell silent; its last words: nothing"


def test_a_guest_that_talks_for_ever_ends_with_its_time(tmp_path: Path) -> None:
    found = probe(tmp_path, "while True: say('[    0.1] again'); time.sleep(0.05)", timeout_seconds=2)
    assert found is not None
    assert "still booting when its time was over" in found.reason
    assert "tried again" in found.cure


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        ("ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy", "VirtualBox"),
        ("ioctl(KVM_CREATE_VM) failed: 12 Cannot allocate memory", "more memory"),
        ("The -accel kvm option: this QEMU does not support KVM", "distribution's QEMU"),
        ("Could not access KVM kernel module: Permission denied", "group kvm"),
        ("qemu-system-x86_64: kvm_buf_set_msrs: Assertion failed", "nested virtualization"),
    ],
)
def test_each_known_ending_has_its_cure(tmp_path: Path, words: str, cure: str) -> None:
    found = probe(tmp_path, f"say({words!r}); sys.exit(1)")
    assert found is not None
    assert cure in found.cure


def test_a_qemu_that_stays_up_after_an_internal_error_is_not_waited_for(tmp_path: Path) -> None:
    found = probe(tmp_path, "say('KVM internal error. Suberror: 1'); time.sleep(60)", 3600, 3600)
    assert found is not None
    assert "KVM internal error" in found.reason


def test_an_unknown_end_is_told_in_its_own_words(tmp_path: Path) -> None:
    found = probe(tmp_path, "say('no such cpu'); sys.exit(1)")
    assert found == Obstacle("the hypervisor ended; its last words: 'no such cpu'")


@pytest.mark.parametrize(("flag", "module"), [("vmx", "kvm_intel"), ("svm", "kvm_amd"), ("", "firmware")])
def test_a_missing_device_is_explained_by_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: str, module: str
) -> None:
    monkeypatch.setattr(kvm_probe, "KVM", tmp_path / "missing")
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu {flag} sse2\n")
    monkeypatch.setattr(kvm_probe, "CPU_INFO", tmp_path / "cpuinfo")
    found = find_kvm_obstacle("arm64" if os.uname().machine == "aarch64" else "amd64")
    assert found is not None
    assert module in found.cure


def test_a_device_without_its_module_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(errno.ENODEV, "No such device")

    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu svm\n")
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(kvm_probe, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(kvm_probe, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(os, "open", refuse)
    found = find_kvm_obstacle("arm64" if os.uname().machine == "aarch64" else "amd64")
    assert found == Obstacle(
        "this host has no KVM module loaded, though its processor could", "sudo modprobe kvm_amd"
    )


def test_other_architectures_are_not_even_tried() -> None:
    found = find_kvm_obstacle("amd64" if os.uname().machine == "aarch64" else "arm64")
    assert found is not None
    assert "guests on a" in found.reason
