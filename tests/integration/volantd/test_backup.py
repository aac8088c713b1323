# SPDX-License-Identifier: Apache-2.0
"""All of a daemon's state into one file and back: on another host, in place of another state, or not at all."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.daemon_process import VOLAR, Daemon, create, start_daemon, wait_until
from support.plugin_files import make_data_plugin

DISK = b"the plugin's own"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with start_daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def filled() -> Iterator[Daemon]:
    """For tests that leave it as it was, with its backup."""
    with start_daemon() as daemon:
        fill(daemon)
        take_backup(daemon)
        yield daemon


@contextlib.contextmanager
def start_empty() -> Iterator[Daemon]:
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp")))
    try:
        daemon.start()
        yield daemon
    finally:
        print((daemon.home / "daemon.log").read_text())
        daemon.close()


def volar(daemon: Daemon, *arguments: str, stdin: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    with open(stdin or os.devnull, "rb") as stream:
        return subprocess.run(
            [*VOLAR, *arguments], env=daemon.environment, capture_output=True, stdin=stream, timeout=120
        )


def qemu_io(disk: Path, command: str) -> str:
    done = subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", command, str(disk)], check=True, capture_output=True, text=True
    )
    return done.stdout


def fill(daemon: Daemon) -> None:
    """A VM that runs, one with a disk that it wrote to, one that never ran, a snapshot and a secret."""
    assert daemon.call("POST", "/plugins", make_data_plugin(content=DISK))[0] == 201
    assert daemon.call("PUT", "/secrets/key", {"value_base64": "c2VjcmV0"})[0] == 200
    create(daemon, "live", env={"A": "b"}, labels={"tier": "web"}, secrets=[{"name": "key"}])
    create(daemon, "disk", plugin="data", restart="no")
    assert daemon.call("POST", "/vms/disk/stop", {"force": True})[0] == 200
    qemu_io(find_disk(daemon), "write -P 0x41 65536 4096")
    assert daemon.call("POST", "/vms/disk/snapshots", {"name": "before"})[0] == 201
    qemu_io(find_disk(daemon), "write -P 0x42 131072 4096")
    create(daemon, "new", start=False)


def find_disk(daemon: Daemon, name: str = "disk") -> Path:
    return daemon.home / "vms" / daemon.vm(name)["id"] / "root.qcow2"


def take_backup(daemon: Daemon, *options: str, name: str = "backup.tar") -> Path:
    archive = daemon.home / name
    done = volar(daemon, "system", "backup", str(archive), *options)
    assert done.returncode == 0, done.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    assert list((daemon.home / "backups").iterdir()) == []
    return archive


def list_state(daemon: Daemon) -> dict[str, Any]:
    """What people see of a state."""
    vms = {vm["name"]: vm for vm in daemon.call("GET", "/vms")[1]}
    fixed = ("id", "plugin", "resources", "ip", "ports", "secrets", "labels", "restart", "created_at")
    return {
        "vms": {name: {key: vm[key] for key in fixed} for name, vm in vms.items()},
        "plugins": [{**plugin, "vms": 0} for plugin in daemon.call("GET", "/plugins")[1]],
        "secrets": daemon.call("GET", "/secrets")[1],
        "snapshots": [{**snapshot, "size_bytes": 0} for snapshot in daemon.call("GET", "/snapshots")[1]],
    }


def read_files(home: Path) -> dict[str, bytes]:
    """Everything that a state is made of, but for what changes by itself."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for place in ("vms", "plugins", "snapshots", "layers", "secrets.key")
        for path in (home / place, *(home / place).rglob("*"))
        if path.is_file() and path.suffix != ".log"
    }


def test_a_backup_of_running_vms_is_the_same_state_elsewhere(filled: Daemon) -> None:
    archive = filled.home / "backup.tar"
    assert filled.vm("live")["status"] == "running"
    names = subprocess.run(
        ["tar", "-tf", str(archive)], check=True, capture_output=True, text=True
    ).stdout.split()
    assert (names[0], names[-3:]) == ("backup.json", ["volant.db", "digests", "result.json"])
    with start_empty() as other:
        done = volar(other, "system", "restore", str(archive))
        assert done.returncode == 0, done.stderr
        assert b": 3 VMs, 2 plugins, 1 secrets" in done.stdout
        assert list_state(other) == list_state(filled)
        assert not (other.home / "lost+found").exists() and not (other.home / "restore").exists()
        live = other.vm("live")
        assert (live["status"], "restored from the backup of" in live["status_reason"]) == ("stopped", True)
        # Every layer stands on files of the new place, and reads as it did.
        disk = find_disk(other)
        chain = subprocess.run(
            ["qemu-img", "info", "--backing-chain", str(disk)], capture_output=True, text=True
        )
        assert str(filled.home) not in chain.stdout and chain.stdout.count("image: ") == 3
        for pattern in ("read -P 0x41 65536 4096", "read -P 0x42 131072 4096"):
            assert "Pattern verification failed" not in qemu_io(disk, pattern)
        for name in ("live", "disk", "new"):
            assert other.call("POST", f"/vms/{name}/start")[0] == 200
            wait_until(lambda name=name: other.vm(name)["status"] == "running")
        copy = {"name": "copy", "snapshot": "before"}
        assert other.call("POST", "/vms", copy)[0] == 201
        assert "Pattern verification failed" in qemu_io_shared(
            find_disk(other, "copy"), "read -P 0x42 131072 4096"
        )
        assert "Pattern verification failed" not in qemu_io_shared(
            find_disk(other, "copy"), "read -P 0x41 65536 4096"
        )


def qemu_io_shared(disk: Path, command: str) -> str:
    done = subprocess.run(
        ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", command, str(disk)], capture_output=True, text=True
    )
    return done.stdout


def test_a_state_is_replaced_only_when_that_is_said_and_kept_aside_then(daemon: Daemon) -> None:
    fill(daemon)
    archive = take_backup(daemon)
    before = list_state(daemon)
    refused = volar(daemon, "system", "restore", str(archive))
    assert (refused.returncode, b"--replace" in refused.stderr) == (5, True)
    create(daemon, "later", labels={"of": "later"})
    refused = volar(daemon, "system", "restore", str(archive), "--replace")
    assert (refused.returncode, b"volar vms stop later live" in refused.stderr) == (5, True)
    for name in ("live", "later"):
        assert daemon.call("POST", f"/vms/{name}/stop", {"force": True})[0] == 200
    later = daemon.vm("later")["id"]
    done = volar(daemon, "system", "restore", "-", "--replace", stdin=archive)
    assert done.returncode == 0, done.stderr
    assert list_state(daemon) == before
    kept = daemon.home / "lost+found" / "state-replaced"
    assert (kept / "vms" / later / "vm.json").is_file() and (kept / "volant.db").is_file()
    assert daemon.process is not None and daemon.process.poll() is None  # the same process goes on


def test_without_plugins_their_vms_wait_for_them(filled: Daemon) -> None:
    archive = take_backup(filled, "--without-plugins", name="without.tar")
    with tarfile.open(archive) as opened:
        assert not [name for name in opened.getnames() if name.startswith("plugins/")]
    with start_empty() as other:
        done = volar(other, "system", "restore", str(archive))
        assert (done.returncode, b"install these plugins again" in done.stderr) == (0, True)
        assert b"data:1.0.0, web:1.0.0" in done.stderr
        assert other.call("POST", "/plugins", make_data_plugin(content=DISK))[0] == 200
        assert other.call("POST", "/vms/disk/start")[0] == 200


def test_what_is_not_whole_changes_nothing(filled: Daemon) -> None:
    content = (filled.home / "backup.tar").read_bytes()
    begin = content.index(b"SQLite format 3")
    changed = [content[:place] + b"#" + content[place + 1 :] for place in (begin + 4096, len(content) // 2)]
    cut = [content[: len(content) * part // 4] for part in range(4)]
    with start_empty() as other:
        for candidate in (*cut, content[:-4096], *changed, b"no archive" * 100):
            status, reply = other.call("POST", "/system/restore", candidate)
            assert status == 422 and reply["code"] == "invalid_input", (status, reply)
            assert reply["error"].startswith("cannot restore the backup: ")
            assert list((other.home / "restore").glob("*")) == []
        assert other.call("GET", "/vms")[1] == other.call("GET", "/plugins")[1] == []


def test_a_disk_that_stands_on_a_file_of_the_host_is_refused(daemon: Daemon) -> None:
    fill(daemon)
    disk = find_disk(daemon)
    subprocess.run(
        ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", str(disk)], check=True
    )
    archive = take_backup(daemon)
    with start_empty() as other:
        done = volar(other, "system", "restore", str(archive))
        assert (done.returncode, b"stands on /etc/passwd" in done.stderr) == (3, True), done.stderr
        assert other.call("GET", "/vms")[1] == []


@pytest.mark.parametrize("seed", range(3))
def test_a_restore_is_all_or_nothing_whenever_the_daemon_is_killed(filled: Daemon, seed: int) -> None:
    archive = filled.home / "backup.tar"
    expected = list_state(filled)
    with start_empty() as other:
        empty = list_state(other)
        sending = subprocess.Popen(
            [*VOLAR, "system", "restore", str(archive)],
            env={**other.environment, "VOLANT_NO_AUTOSTART": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: (other.home / "restore").exists() or sending.poll() is not None)
        time.sleep(random.Random(seed).random() * 0.25)
        other.kill(signal.SIGKILL)
        sending.kill()
        sending.communicate()
        other.start()
        found = list_state(other)
        assert found in (empty, expected)
        assert not (other.home / "restore").exists()
        if found == expected:
            assert read_files(other.home).keys() >= {"secrets.key"}
            assert other.call("POST", "/vms/disk/start")[0] == 200


def test_a_client_that_goes_leaves_nothing(filled: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(filled.socket))
        stream.sendall(b"GET /api/v1/system/backup HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stream.recv(10)
    wait_until(lambda: list((filled.home / "backups").glob("*")) == [])
    assert filled.vm("live")["status"] == "running"
