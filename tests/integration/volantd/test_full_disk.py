# SPDX-License-Identifier: Apache-2.0
"""The host's disk is full to the last block: what frees space works, and what happens meanwhile is not forgotten."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon_process import Daemon, create, wait_until
from support.plugin_files import make_plugin


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """With its home on a small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("a file system that is full needs a mount")
    home = Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "volant-test", str(home)], check=True)
    daemon = Daemon(home)
    try:
        daemon.start()
        assert daemon.call("POST", "/plugins", make_plugin())[0] == 201
        yield daemon
    finally:
        with contextlib.suppress(OSError):
            print((home / "daemon.log").read_text())
        daemon.close()
        subprocess.run(["umount", "--lazy", str(home)], check=True)
        shutil.rmtree(home, ignore_errors=True)


def fill(folder: Path) -> Path:
    """Take every block there is, with the daemon's log as well: it writes, too."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while stream.write(b"x" * size):
                    pass
    return filler


def test_vms_are_stopped_and_deleted_on_a_full_disk(daemon: Daemon) -> None:
    for name in ("one", "two", "three"):
        create(daemon, name, restart="no")
    filler = fill(daemon.home)
    for _ in range(60):  # until the room that the database's log has by chance is used up, too
        daemon.call("PUT", "/secrets/s", {"value_base64": "eA=="})
    fill(daemon.home / "run")
    assert daemon.call("POST", "/vms/one/stop")[1]["status"] == "stopped"
    assert daemon.call("DELETE", "/vms/two?force=true")[0] == 204
    assert daemon.call("DELETE", "/vms/one")[0] == 204
    os.kill(daemon.vm("three")["hypervisor"]["pid"], signal.SIGKILL)
    wait_until(lambda: daemon.vm("three")["status"] == "failed")
    daemon.kill(signal.SIGTERM)
    fill(daemon.home / "vms")
    daemon.start()
    assert [vm["name"] for vm in daemon.call("GET", "/vms")[1]] == ["three"]
    filler.unlink()
    wait_until(lambda: (daemon.home / "reserve").exists())
