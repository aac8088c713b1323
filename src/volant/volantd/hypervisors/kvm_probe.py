# SPDX-License-Identifier: Apache-2.0
"""Does KVM run a guest here? A small one is booted and its console listened to.

A kernel that goes on talking is slow, not broken (nested hosts, busy ones), and is waited for; one that falls silent,
or a QEMU that ends, tells what is wrong in its last words. Each known ending has a cure in one line.
"""

from __future__ import annotations

import errno
import os
import re
import selectors
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from volant.contract.agents import Architecture
from volant.cpio import CpioWriter
from volant.process import start_tool
from volant.volantd.hypervisors.confinement import make_probe_command

KVM = Path("/dev/kvm")
CPU_INFO = Path("/proc/cpuinfo")
MODULES = Path("/sys/module")
# What the kernel says of an /init that is no program (init/main.c, kernel_init): it got as far as that.
MARKER = b"Failed to execute /init"
# The first is for a guest that talks all the while, as a nested one does on a busy host (more than a minute was seen):
# emulated it would be slower still, for as long as it runs. The second is several times the longest pause between two
# lines of a kernel that boots there. The third is for the first line: the hypervisor's own start takes as long as the
# rest.
PROBE_SECONDS = 180.0
SILENCE_SECONDS = 12.0
FIRST_WORD_SECONDS = 30.0

NESTED_CURE = "a nested host needs nested virtualization from the host below it"
GROUP_CURE = "add this user to the group kvm: sudo usermod -aG kvm $USER, then log in again"
CONTAINER_CURE = "give it to this container: docker run --device /dev/kvm"

# What QEMU or Cloud Hypervisor says, why, and what to do. The first that occurs in the output counts.
ENDINGS: tuple[tuple[tuple[bytes, ...], str, str], ...] = (
    (
        (b"KVM_CREATE_VM) failed: 16", b"esource busy (os error 16)"),
        "another hypervisor has the processor's virtualization",
        "stop VirtualBox's or VMware's machines, then try again",
    ),
    (
        (b"KVM_CREATE_VM) failed: 12", b"cannot set up guest memory", b"(os error 12)"),
        "the host has no memory for another virtual machine",
        "stop some VMs or give the host more memory",
    ),
    ((b"Permission denied",), "no permission to use /dev/kvm", GROUP_CURE),
    # VM entry refuses the guest's state, as Intel's processors do without unrestricted guests (SDM 3C, 27.8).
    (
        (b"entry failed, hardware error 0x80000021", b"FailEntry(2147483681"),
        "this Intel processor does not enter a guest that boots (hardware error 0x80000021)",
        f"sudo modprobe -r kvm_intel && sudo modprobe kvm_intel unrestricted_guest=1; {NESTED_CURE}",
    ),
    # AMD's word for the same is 0xffffffff (APM 2, VMEXIT_INVALID); Intel has others for what a host below leaves out.
    (
        (b"KVM: entry failed", b"FailEntry("),
        "the processor's virtualization does not work (KVM: entry failed)",
        NESTED_CURE,
    ),
    (
        (b"KVM internal error", b"vcpu run: InternalError"),
        "the processor's virtualization does not work (KVM internal error)",
        NESTED_CURE,
    ),
    (
        (b"kvm_buf_set_msrs",),
        "the host below refuses a processor register that KVM needs",
        NESTED_CURE,
    ),
    (
        (b"does not support KVM", b"invalid accelerator kvm"),
        "this QEMU was built without KVM",
        "install the distribution's QEMU",
    ),
)
# After these QEMU stays up, paused, and nothing more will come.
STAYS_UP = re.compile(rb"KVM internal error|KVM: entry failed.*\n")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why KVM does not serve, and what helps (empty where nothing is known to)."""

    reason: str
    cure: str = ""


def find_kvm_obstacle(architecture: Architecture) -> Obstacle | None:
    """Why KVM need not even be tried, or None."""
    host: Architecture = "arm64" if os.uname().machine == "aarch64" else "amd64"
    if architecture != host:
        return Obstacle(f"{architecture} guests on a {host} host")
    if not KVM.exists():
        return _explain_missing_device()
    try:
        os.close(os.open(KVM, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EACCES:
            return Obstacle("no permission to open /dev/kvm", GROUP_CURE)
        if error.errno == errno.EPERM:  # from the control group's list of devices, for root too
            return Obstacle("this container may not open /dev/kvm", CONTAINER_CURE)
        # The file may be there before the module that serves it, e.g. by modules.devname.
        if error.errno in (errno.ENODEV, errno.ENXIO, errno.ENOENT):
            return _explain_missing_device()
        return Obstacle(f"/dev/kvm does not open: {error.strerror}")
    return None


def _explain_missing_device() -> Obstacle:
    """By the processor's own flags (Intel: vmx, AMD: svm), which firmware hides where it has switched it off."""
    try:
        flags = set(CPU_INFO.read_text().split())
    except OSError:
        flags = set()
    for flag, module, setting in (("vmx", "kvm_intel", "VT-x"), ("svm", "kvm_amd", "SVM")):
        if (MODULES / module).exists():
            return Obstacle("this host's KVM has no /dev/kvm here", CONTAINER_CURE)
        if flag in flags:
            return Obstacle(
                "this host has no KVM module loaded, though its processor could",
                f"sudo modprobe {module}; if that says it is not supported, switch {setting} on in the firmware",
            )
    return Obstacle(
        "this host has no KVM, and its processor shows no virtualization",
        "switch it on in the firmware (VT-x, AMD-V), or ask the cloud for nested virtualization",
    )


def try_kvm(
    program: str,
    architecture: Architecture,
    kernel: Path,
    *,
    has_microvm: bool = False,
    timeout_seconds: float = PROBE_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
    first_word_seconds: float = FIRST_WORD_SECONDS,
) -> Obstacle | None:
    """Boot `kernel` with KVM to its first process: None when it got there, else what happened."""

    def make_arguments(initrd: Path) -> list[str]:
        return make_probe_arguments(program, architecture, kernel, initrd, has_microvm=has_microvm)

    return boot_to_init(
        make_arguments,
        kernel,
        timeout_seconds=timeout_seconds,
        silence_seconds=silence_seconds,
        first_word_seconds=first_word_seconds,
    )


def boot_to_init(
    make_arguments: Callable[[Path], Sequence[str]],
    kernel: Path,
    *,
    timeout_seconds: float = PROBE_SECONDS,
    silence_seconds: float = SILENCE_SECONDS,
    first_word_seconds: float = FIRST_WORD_SECONDS,
) -> Obstacle | None:
    """As `try_kvm`, with the command that `make_arguments` makes for an initrd; its console is standard output."""
    with tempfile.TemporaryDirectory(prefix="volant-probe-") as name:
        initrd = Path(name) / "initrd"
        with initrd.open("wb") as stream:
            archive = CpioWriter(stream)
            archive.add(b"init", stat.S_IFREG | 0o755, b"not a program: the kernel only has to find it\n")
            archive.finish()
        arguments = make_arguments(initrd)
        command = make_probe_command(arguments, [kernel, initrd])
        return _listen(command, timeout_seconds, silence_seconds, first_word_seconds)


def make_probe_arguments(
    program: str, architecture: Architecture, kernel: Path, initrd: Path, *, has_microvm: bool = False
) -> list[str]:
    """The quickest machine there is. Every character on a serial console leaves the guest, which is what costs most on
    a nested host: the kernel says what matters, and no more (2.5 times less work than all of it on a q35)."""
    machine = "virt" if architecture == "arm64" else "microvm,acpi=on,rtc=on" if has_microvm else "q35"
    console = "ttyAMA0" if architecture == "arm64" else "ttyS0"
    return [
        program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", machine,
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "128M", "-serial", "stdio",
        "-kernel", str(kernel), "-initrd", str(initrd),
        "-append", f"console={console} loglevel=6 panic=-1 reboot=t cryptomgr.notests",
    ]  # fmt: skip


def _listen(
    arguments: Sequence[str], timeout_seconds: float, silence_seconds: float, first_word_seconds: float
) -> Obstacle | None:
    """Read the console until the marker, the end of QEMU, too long a silence or the time-out."""
    seen = bytearray()
    with start_tool(arguments, stderr=subprocess.STDOUT) as process, selectors.DefaultSelector() as selector:
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        deadline = time.monotonic() + timeout_seconds
        ended = False
        while MARKER not in seen:
            quiet_seconds = silence_seconds if seen else first_word_seconds
            patience_seconds = min(quiet_seconds, deadline - time.monotonic())
            if patience_seconds <= 0 or not selector.select(patience_seconds):
                break
            chunk = os.read(process.stdout.fileno(), 65536)
            if not chunk:
                ended = True
                break
            seen += chunk
            if STAYS_UP.search(seen):
                break
        process.kill()
    if MARKER in seen:
        return None
    return _explain(bytes(seen), ended=ended, timed_out=time.monotonic() >= deadline)


def _explain(seen: bytes, *, ended: bool, timed_out: bool) -> Obstacle:
    for words, reason, cure in ENDINGS:
        if any(word in seen for word in words):
            return Obstacle(reason, cure)
    lines = [line.strip() for line in seen.decode("utf-8", "replace").splitlines() if line.strip()]
    last = repr(lines[-1][:200]) if lines else "nothing"
    if ended:
        return Obstacle(f"the hypervisor ended; its last words: {last}")
    if timed_out and lines:
        return Obstacle(
            f"a test guest was still booting when its time was over; its last words: {last}",
            "the host is too busy or too slow; it is tried again in a few minutes",
        )
    return Obstacle(f"a test guest fell silent; its last words: {last}")
