# SPDX-License-Identifier: Apache-2.0
"""A host of the tests' own: volantd's state in a folder made for one run, and the programs that work on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "tests"
PROGRAMS = Path(sys.executable).parent


class Host:
    """volantd's state in a folder of its own, and the programs that work on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        # What its programs are run by, as in a network of its own.
        self.prefix: list[str] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VOLANT_TEST_")},
            "VOLANT_HOME": str(home),
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
        }

    def run(
        self,
        *arguments: str,
        check: bool = True,
        cwd: Path | None = None,
        timeout: float = 240,
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, *arguments], cwd=cwd, env=self.environment, capture_output=True, text=True,
            timeout=timeout, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
        )  # fmt: skip
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def volar(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run("volar", *arguments, **options)

    def vm(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.volar("vms", "get", name, "--output", "json").stdout)
        return found

    def daemon_pid(self) -> int:
        return int(json.loads(self.volar("daemon", "status", "--output", "json").stdout)["pid"])

    def kill_daemon(self) -> None:
        """SIGKILL, and its end."""
        pid = self.daemon_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until("the daemon's end", lambda: has_ended(pid))

    def processes(self) -> list[int]:
        """Every process whose command line names this host's folder: the daemon and its hypervisors."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    environment = (entry / "environ").read_bytes() if b"volantd" in command else b""
                    if os.fsencode(self.home) in command + environment and int(entry.name) != os.getpid():
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        names = self.volar("vms", "list", "--output", "name", check=False).stdout.split()
        for name in names:
            self.volar("vms", "delete", name.removeprefix("vm/"), "--force", check=False)
        self.volar("daemon", "stop", check=False)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.home, ignore_errors=True)


def has_ended(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def fetch(url: str, timeout_seconds: float = 10) -> str:
    with urllib.request.urlopen(url, timeout=timeout_seconds) as reply:
        return str(reply.read().decode())


def wait_until(what: str, condition: Any, timeout_seconds: float = 60) -> Any:
    deadline = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_seconds:g} s in vain for: {what}")
        time.sleep(0.1)
