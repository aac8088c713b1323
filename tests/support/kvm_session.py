# SPDX-License-Identifier: Apache-2.0
"""One machine with KVM, for as long as somebody works with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.busybox_web import make_web_plugin
from support.host import Host
from support.kvm_host import BUSYBOX, NAME, KvmHost, copy_kernel, make_kvm_host_plugin


@contextmanager
def open_kvm_host() -> Iterator[KvmHost]:
    # A short path: a UNIX socket's name holds at most 107 bytes.
    host = Host(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    # A template of its shape would be made beside the first test, and never be used.
    host.environment["VOLANT_WARM_START"] = "off"
    try:
        copy_kernel(host.home / "cache" / "kernels")
        with tempfile.TemporaryDirectory(prefix="volant-kvm-") as name:
            folder = Path(name)
            web = make_web_plugin(folder, host, BUSYBOX)
            plugin = make_kvm_host_plugin(folder, host, web)
            host.volar("plugins", "install", str(plugin), timeout=300)
        options = ("--plugin", NAME, "--cpus", "2", "--memory", "2560", "--nested")
        host.volar("vms", "create", NAME, *options, timeout=300)
        found = KvmHost(host)
        # The agent makes the device's file soon after the workload has started; opening it loads the modules.
        found.run("until test -e /dev/kvm; do sleep 0.1; done; : </dev/kvm", timeout_seconds=120)
        yield found
    finally:
        host.close()
