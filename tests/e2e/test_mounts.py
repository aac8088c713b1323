# SPDX-License-Identifier: Apache-2.0
"""Folders of the host in one real VM: both ways, owners, links, and a daemon and a file server that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import Host, wait_until

MANY = 300
ROUNDS = 60
WRITER = (
    f"n=0; while [ $n -lt {ROUNDS} ]; do n=$((n + 1)); echo line $n >> /app/log; done; echo end >> /app/log"
)
# Prints the first name below /app of which inotify(7) says that its attributes have changed.
WATCHER = """
$folder = "/app"; $watch = syscall(294, 0); syscall(254, $watch, $folder, 4);
open(F, "<&=", $watch); sysread(F, $event, 4096); print unpack("x16 Z*", $event);
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("host") / "src"
    (folder / "many").mkdir(parents=True)
    for number in range(MANY):
        (folder / "many" / f"file{number}").write_text(f"{number}\n")
    (folder / "page").write_text("from the host\n")
    (folder.parent / "outside").write_text("of the host alone\n")
    (folder / "out").symlink_to("../outside")
    (folder.parent / "inner").mkdir()
    (folder.parent / "inner" / "file").write_text("from another folder\n")
    return folder


@pytest.fixture(scope="module")
def vm(host: Host, nginx_plugin: Path, source: Path) -> Iterator[str]:
    """With a folder and a volume that have their places in another folder."""
    host.volar("volumes", "create", "kept", "--size", "64M")
    mounts = [f"{source}:/app", f"{source.parent / 'inner'}:/app/inner", f"{source / 'page'}:/etc/page:ro"]
    arguments = [word for mount in mounts for word in ("--mount", mount)]
    host.volar("vms", "create", "mounted", "--plugin", "nginx", *arguments, "--volume", "kept:/app/kept")
    yield "mounted"
    host.volar("vms", "delete", "mounted", "--force", check=False)
    host.volar("volumes", "delete", "kept", check=False)


def run_in(host: Host, command: str) -> str:
    return host.volar("vms", "ssh", "mounted", command).stdout


def test_both_sides_write_and_see_what_the_other_wrote(host: Host, vm: str, source: Path) -> None:
    seen = run_in(
        host,
        "for n in $(seq 0 29); do cat /app/many/file$n; done | wc -l; ls /app/many | wc -l;"
        " cat /app/page; cat /app/many/* | wc -l; stat -c %U /app/page; cat /app/out || echo refused;"
        " echo x 2>/dev/null > /etc/page || echo read-only; cat /etc/page;"
        " mkdir /app/made; echo hello > /app/made/draft; mv /app/made/draft /app/made/file;"
        " ln -s file /app/made/link; cat /app/made/link; chmod 4711 /app/made/file",
    )
    assert seen.splitlines() == [
        "30", str(MANY), "from the host", str(MANY), "root", "refused", "read-only", "from the host", "hello",
    ]  # fmt: skip
    made = source / "made" / "file"
    assert made.read_text() == "hello\n"
    assert stat.S_IMODE(made.stat().st_mode) == 0o711
    assert made.stat().st_uid == os.geteuid()
    (source / "page").write_text("changed on the host\n")
    (source / "many" / "new").write_text("new\n")
    (source / "many" / "file0").unlink()
    # What the guest has in its caches is taken back when the host tells of the change.
    wait_until(
        "the host's changes",
        lambda: (
            run_in(host, "cat /app/page; ls /app/many | wc -l; cat /app/many/file0 || cat /app/many/new")
            == f"changed on the host\n{MANY}\nnew\n"
        ),
    )
    assert [mount["target"] for mount in host.vm(vm)["mounts"]] == ["/app", "/app/inner", "/etc/page"]
    assert run_in(host, "cat /app/inner/file; echo x > /app/kept/file; cat /app/kept/file") == (
        "from another folder\nx\n"
    )
    assert not list((source / "kept").iterdir())
    run_in(host, f"nohup perl -e '{WATCHER}' > /tmp/woken 2>/dev/null &")
    written = (source / "page").stat().st_mtime_ns

    def wake() -> bool:
        nonlocal written
        (source / "page").write_text("changed on the host\n")
        written = (source / "page").stat().st_mtime_ns
        return run_in(host, "cat /tmp/woken") == "page"

    wait_until("a program that watches", wake)
    assert (source / "page").stat().st_mtime_ns == written


def test_daemon_and_file_server_are_killed_and_nothing_is_lost(host: Host, vm: str, source: Path) -> None:
    run_in(host, f"nohup sh -c '{WRITER}' >/dev/null 2>&1 &")
    server = int((host.home / "vms" / host.vm(vm)["id"] / "folders.lock").read_text())
    os.kill(host.daemon_pid(), signal.SIGKILL)
    log = source / "log"
    wait_until("a line without a daemon", lambda: log.exists() and log.read_text().count("\n") > 1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(server, signal.SIGKILL)
    # Another daemon, which starts another file server. What the first one left may still take a connection, and end.
    wait_until("another daemon", lambda: host.volar("vms", "get", vm, check=False).returncode == 0)
    assert host.vm(vm)["status"] == "running"
    wait_until("the last line", lambda: log.read_text().endswith("end\n"), timeout_seconds=120)
    assert log.read_text().splitlines() == [*(f"line {number + 1}" for number in range(ROUNDS)), "end"]
    assert run_in(host, "cat /app/page") == "changed on the host\n"
    host.volar("vms", "stop", vm)
    assert host.vm(vm)["status"] == "stopped"
