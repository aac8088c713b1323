# SPDX-License-Identifier: Apache-2.0
"""Debian's ufw for one test: unpacked, never installed, with files of its own, for one namespace's packet filter."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.bridged_net import Net
from support.unpacked_packages import unpack_packages


@contextmanager
def start_ufw(net: Net, folder: Path) -> Iterator[Path]:
    """Enabled as its package has it, in the namespace `host`; yields the folder with a `ufw` that acts on it."""
    root = folder / "ufw"
    shutil.copytree(unpack_packages("ufw", ["ufw"]), root)
    share, settings = root / "usr" / "share" / "ufw", root / "etc" / "ufw"
    for rules in [*(share / "iptables").glob("*.rules"), share / "ufw.conf"]:
        shutil.copy(rules, settings)  # as the package's script does
    defaults = root / "etc" / "default" / "ufw"
    # The kernel's settings are not the packet filter's.
    defaults.write_text(re.sub("^IPT_SYSCTL=.*", "IPT_SYSCTL=", defaults.read_text(), flags=re.MULTILINE))
    programs = folder / "programs"
    programs.mkdir()
    command = programs / "ufw"
    place = shlex.quote(str(root))
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={place}/usr/lib/python3/dist-packages PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        f' exec /usr/bin/python3 {place}/usr/sbin/ufw --rootdir={place} --datadir={place} "$@"\n'
    )
    command.chmod(0o755)
    net.run("host", str(command), "--force", "enable")
    try:
        yield programs
    finally:
        net.run("host", str(command), "disable")
