# SPDX-License-Identifier: Apache-2.0
"""Programs of Debian packages that are unpacked and never installed: no script of theirs starts a daemon or changes
the host."""

from __future__ import annotations

import fcntl
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "tests"


def unpack_packages(name: str, packages: Sequence[str]) -> Path:
    """The folder `name` that they were unpacked into, fetched on first use."""
    target = CACHE / name
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{name}-") as draft:
                work = Path(draft)
                work.chmod(0o755)
                command = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages]
                subprocess.run(command, cwd=work, check=True, capture_output=True)
                for package in work.glob("*.deb"):
                    subprocess.run(["dpkg-deb", "-x", str(package), str(work / "root")], check=True)
                (work / "root").rename(target)
    return target
