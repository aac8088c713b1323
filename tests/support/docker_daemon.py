# SPDX-License-Identifier: Apache-2.0
"""A Docker daemon for one test: unpacked from Debian's packages, never installed, so that no script of theirs starts a
daemon or touches the host's network. It runs in network, mount and process namespaces of its own; its data, its socket
and its control groups go with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.unpacked_packages import unpack_packages

PACKAGES = ("docker.io", "containerd", "runc", "libdevmapper1.02.1")
START_SECONDS = 60


@dataclass(frozen=True)
class DockerDaemon:
    """A daemon that answers. `environment` leads the docker command, and fledge, to it."""

    pid: int
    environment: dict[str, str]

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command in the daemon's network namespace, whose loopback its builds share."""
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *map(str, arguments)], cwd=cwd, text=True,
            env=self.environment, capture_output=True, timeout=800, check=False,
        )  # fmt: skip

    def fledge(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "volant.fledge.cli", *arguments, cwd=cwd)


def unpack_docker() -> Path:
    return unpack_packages("docker", PACKAGES)


@contextmanager
def start_docker(folder: Path) -> Iterator[DockerDaemon]:
    """A daemon with all its files in `folder`, an empty one with a short path, which goes with it."""
    root = unpack_docker()
    (folder / "tmp").mkdir()
    socket = folder / "docker.sock"
    environment = {
        "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}", "HOME": str(folder),
        "LD_LIBRARY_PATH": f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu",
        "DOCKER_HOST": f"unix://{socket}", "TMPDIR": str(folder / "tmp"), "VOLANT_HOME": str(folder / "home"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }  # fmt: skip
    group = f"volant-test-{os.getpid()}"
    # /run is the namespace's own: the daemon keeps its plugins' sockets there wherever it is told to live.
    script = 'ip link set lo up && mount -t tmpfs tmpfs /run && exec dockerd "$@"'
    namespaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    options = [
        "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--bridge=none", "--group=root",
        f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/docker.pid",
        f"--host=unix://{socket}", f"--cgroup-parent={group}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*namespaces, "sh", "-c", script, "sh", *options], env=environment, stdout=log, stderr=log
        )
    try:
        daemon = DockerDaemon(_wait_for_child(process), environment)
        try:
            _wait_for_answer(daemon, process, folder / "log")
            yield daemon
        finally:
            # unshare itself lets no SIGTERM through; as the first process of its namespace dockerd takes all with it.
            os.kill(daemon.pid, signal.SIGTERM)
            process.wait(timeout=30)
    finally:
        process.kill()
        for left in Path("/sys/fs/cgroup").glob(f"*/{group}"):
            left.rmdir()
        shutil.rmtree(folder)


def _wait_for_child(process: subprocess.Popen[bytes]) -> int:
    """The process id of what `unshare` runs."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := children.read_text().split():
            return int(found[0])
        time.sleep(0.01)
    raise AssertionError("unshare started nothing")


def _wait_for_answer(daemon: DockerDaemon, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if daemon.run("docker", "info", "--format", "{{.ServerVersion}}").stdout.strip():
            return
        time.sleep(0.1)
    raise AssertionError(f"dockerd does not answer: {log.read_text()[-2000:]}")
