# SPDX-License-Identifier: Apache-2.0
"""Debian's firewalld for one test: unpacked, never installed, with a bus and files of its own, in a namespace."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.bridged_net import Net
from support.unpacked_packages import unpack_packages

PACKAGES = (
    "firewalld", "python3-firewall", "python3-nftables", "python3-cap-ng", "python3-dbus", "python3-gi",
    "gir1.2-glib-2.0", "libgirepository-1.0-1", "dbus-daemon", "libdbus-1-3",
)  # fmt: skip
START_SECONDS = 60
BUS = """\
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""


@contextmanager
def start_firewalld(net: Net, folder: Path) -> Iterator[Path]:
    """Runs in the namespace `host`; yields the folder with a firewall-cmd that talks to it."""
    root = unpack_packages("firewalld", PACKAGES)
    shutil.copytree(root / "etc" / "firewalld", folder / "etc")
    (folder / "bus.conf").write_text(BUS.format(socket=folder / "bus"))
    libraries = f"{root}/usr/lib/x86_64-linux-gnu"
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": f"{root}/usr/lib/python3/dist-packages",
        "LD_LIBRARY_PATH": f"{root}/lib/x86_64-linux-gnu:{libraries}",
        "GI_TYPELIB_PATH": f"{libraries}/girepository-1.0",
        "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={folder}/bus",
    }  # fmt: skip
    programs = folder / "programs"
    programs.mkdir()
    command = programs / "firewall-cmd"
    variables = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items())
    command.write_text(f'#!/bin/sh\nexec env {variables} /usr/bin/python3 {root}/usr/bin/firewall-cmd "$@"\n')
    command.chmod(0o755)
    # The namespace's own /run: firewalld keeps temporary files there wherever it is told to live.
    script = f"""
    mount -t tmpfs tmpfs /run
    {root}/usr/bin/dbus-daemon --config-file={folder}/bus.conf --nofork --nopidfile &
    until test -S {folder}/bus; do sleep 0.1; done
    exec /usr/bin/python3 {root}/usr/sbin/firewalld --nofork --nopid --system-config {folder}/etc \
        --default-config {root}/usr/lib/firewalld --log-file {folder}/log
    """
    namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    daemon = subprocess.Popen(
        ["ip", "netns", "exec", net.full("host"), *namespaces, "sh", "-ec", script],
        env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + START_SECONDS
        while net.run("host", str(command), "--state", check=False).returncode != 0:
            assert time.monotonic() < deadline and daemon.poll() is None, "firewalld does not come up"
            time.sleep(0.1)
        yield programs
    finally:
        daemon.kill()
        daemon.wait()
