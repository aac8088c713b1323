# SPDX-License-Identifier: Apache-2.0
"""Slow is told from broken, each known ending has its cure, and the probe's QEMU is gone afterwards."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from volant.contract.agents import Architecture
from volant.volantd.hypervisors import kvm_probe
from volant.volantd.hypervisors.kvm_probe import Obstacle, find_kvm_obstacle, try_kvm

OWN: Architecture = "arm64" if os.uname().machine == "aarch64" else "amd64"
REACHES_INIT = "say('[    0.3] Failed to execute /init (error -8)'); time.sleep(60)"


def probe(
    folder: Path,
    behaviour: str,
    timeout_seconds: float = 20,
    silence_seconds: float = 20,
    first_word_seconds: float = 20,
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
        first_word_seconds=first_word_seconds,
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
    found = probe(tmp_path, "time.sleep(60)", first_word_seconds=0.5)
    assert found == Obstacle("a test guest fell silent; its last words: nothing")
    found = probe(tmp_path, "say('[ 0.0] Linux'); time.sleep(60)", silence_seconds=0.5)
    assert found == Obstacle("a test guest fell silent; its last words: '[ 0.0] Linux'")


def test_the_first_word_is_waited_for_longer(tmp_path: Path) -> None:
    assert probe(tmp_path, f"time.sleep(2); {REACHES_INIT}", silence_seconds=0.5) is None


def test_a_guest_that_talks_for_ever_ends_with_its_time(tmp_path: Path) -> None:
    found = probe(tmp_path, "while True: say('[    0.1] again'); time.sleep(0.05)", timeout_seconds=2)
    assert found is not None
    assert "still booting when its time was over" in found.reason
    assert "tried again" in found.cure


@pytest.mark.parametrize(
    ("words", "reason", "cure"),
    [
        ("ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy", "another hypervisor", "VirtualBox"),
        ("Failed to create Vm\n  Device or resource busy (os error 16)", "another hypervisor", "VirtualBox"),
        ("ioctl(KVM_CREATE_VM) failed: 12 Cannot allocate memory", "no memory", "more memory"),
        ("cannot set up guest memory 'ram': Cannot allocate memory", "no memory", "more memory"),
        ("The -accel kvm option: this QEMU does not support KVM", "without KVM", "distribution's QEMU"),
        ("-accel kvm: invalid accelerator kvm", "without KVM", "distribution's QEMU"),
        ("Could not access KVM kernel module: Permission denied", "no permission", "group kvm"),
        ("qemu-system-x86_64: kvm_buf_set_msrs: Assertion failed", "processor register", "host below"),
        ("vcpu run: FailEntry(2147483681, 0)", "this Intel processor", "unrestricted_guest=1"),
        ("vcpu run: FailEntry(4294967295, 0)", "entry failed", "host below"),
        ("vcpu run: InternalError", "KVM internal error", "host below"),
    ],
)
def test_each_known_ending_has_its_cure(tmp_path: Path, words: str, reason: str, cure: str) -> None:
    found = probe(tmp_path, f"say({words!r}); sys.exit(1)")
    assert found is not None
    assert reason in found.reason
    assert cure in found.cure


@pytest.mark.parametrize(
    ("words", "reason", "cure"),
    [
        ("KVM internal error. Suberror: 1", "KVM internal error", "host below"),
        # Intel's word for a guest whose state it does not enter, and AMD's.
        ("KVM: entry failed, hardware error 0x80000021", "Intel processor", "unrestricted_guest=1"),
        ("KVM: entry failed, hardware error 0xffffffff", "KVM: entry failed", "host below"),
    ],
)
def test_a_qemu_that_stays_up_after_its_last_words_is_not_waited_for(
    tmp_path: Path, words: str, reason: str, cure: str
) -> None:
    found = probe(tmp_path, f"say({words!r}); time.sleep(600)", 3600, 3600, 3600)
    assert found is not None
    assert reason in found.reason
    assert cure in found.cure


def test_an_unknown_end_is_told_in_its_own_words(tmp_path: Path) -> None:
    found = probe(tmp_path, "say('no such cpu'); sys.exit(1)")
    assert found == Obstacle("the hypervisor ended; its last words: 'no such cpu'")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of what the kernel says of a host, which has the device, as a file, and no module."""
    for name, path in (("KVM", "kvm"), ("CPU_INFO", "cpuinfo"), ("MODULES", "modules")):
        monkeypatch.setattr(kvm_probe, name, tmp_path / path)
    (tmp_path / "kvm").touch()
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu svm\n")
    return tmp_path


def look() -> Obstacle:
    found = find_kvm_obstacle(OWN)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("flag", "cure"),
    [
        ("vmx", "sudo modprobe kvm_intel; if that says it is not supported, switch VT-x on in the firmware"),
        ("svm", "sudo modprobe kvm_amd; if that says it is not supported, switch SVM on in the firmware"),
        ("", "switch it on in the firmware (VT-x, AMD-V), or ask the cloud for nested virtualization"),
    ],
)
def test_a_missing_device_is_explained_by_the_processor(host: Path, flag: str, cure: str) -> None:
    (host / "kvm").unlink()
    (host / "cpuinfo").write_text(f"flags\t\t: fpu {flag} sse2\n")
    assert look().cure == cure


@pytest.mark.parametrize(("flag", "module"), [("vmx", "kvm_intel"), ("svm", "kvm_amd")])
def test_a_container_is_told_from_a_host(host: Path, flag: str, module: str) -> None:
    (host / "kvm").unlink()
    (host / "modules" / module).mkdir(parents=True)
    (host / "cpuinfo").write_text(f"flags\t\t: fpu {flag}\n")
    assert look() == Obstacle("this host's KVM has no /dev/kvm here", kvm_probe.CONTAINER_CURE)


@pytest.mark.parametrize(
    ("number", "reason", "cure"),
    [
        # The file may be there before the module.
        (errno.ENODEV, "no KVM module loaded", "sudo modprobe kvm_amd"),
        (errno.EACCES, "no permission to open /dev/kvm", "group kvm"),
        (errno.EPERM, "this container may not", "--device /dev/kvm"),
        (errno.EIO, "/dev/kvm does not open: Input/output error", ""),
    ],
)
def test_a_device_that_does_not_open_says_why(
    host: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str, cure: str
) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    found = look()
    assert reason in found.reason
    assert cure in found.cure
    assert bool(found.cure) == bool(cure)


def test_a_device_that_opens_is_no_obstacle_yet(host: Path) -> None:
    assert find_kvm_obstacle(OWN) is None


def test_other_architectures_are_not_even_tried() -> None:
    found = find_kvm_obstacle("amd64" if OWN == "arm64" else "arm64")
    assert found is not None
    assert "guests on a" in found.reason
