# SPDX-License-Identifier: Apache-2.0
"""The rate of this host's time stamp counter, which x86 guests under TCG see as their own and cannot
calibrate.

Python has no instruction for it, so ten bytes of machine code do it. Where that is forbidden or the host is
no x86 there is no answer, and guests get a machine with timers to calibrate against.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import time

# rdtsc; shl $32, %rdx; or %rdx, %rax; ret
READ_COUNTER = bytes.fromhex("0f3148c1e2204809d0c3")


def measure_tsc_khz(seconds: float = 0.05) -> int | None:
    """Cycles per millisecond of the time stamp counter, or None where it cannot be read."""
    if platform.machine() != "x86_64":
        return None
    try:
        code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    except OSError:
        return None
    code.write(READ_COUNTER)
    read = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
    first, began = read(), time.monotonic_ns()
    time.sleep(seconds)
    last, ended = read(), time.monotonic_ns()
    return int((last - first) * 1_000_000 // (ended - began))
