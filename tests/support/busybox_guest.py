# SPDX-License-Identifier: Apache-2.0
"""Guests of a few files and busybox, which check themselves by a shell script and print a verdict."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from support.guest_harness import write_file

MOUNT_POINTS = ("dev", "proc", "sys", "run", "tmp", "etc")


# Each check is a name and a shell command; the machine powers off by the signal that people send to PID 1.
VERIFY = """#!/bin/sh
check() { if sh -c "$2" >/tmp/why 2>&1; then echo "PASS $1"; else echo "FAIL $1: $(tr '\\n' ' ' </tmp/why)"; fi; }
%s
echo verified
kill -TERM 1
"""


def make_script(checks: dict[str, str]) -> str:
    return VERIFY % "\n".join(f"check '{name}' '{command}'" for name, command in checks.items())


def assert_all_passed(console: str, checks: dict[str, str]) -> None:
    assert "FAIL" not in console, console
    passed = re.findall(r"PASS (.*)", console)
    assert passed == list(checks), console


def make_busybox_root(folder: Path) -> Path:
    for name in (*MOUNT_POINTS, "bin"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy("/bin/busybox", folder / "bin" / "busybox")
    listing = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
    for applet in listing.split():
        if applet != "busybox":
            (folder / "bin" / applet).symlink_to("busybox")
    return folder


def write_image(root: Path, command: list[str], **config: object) -> None:
    write_file(root, "etc/kestrel/image.json", json.dumps({"cmd": command, **config}))
