# SPDX-License-Identifier: Apache-2.0
"""A hypervisor that a guest has taken over: what it can still do, tried by a program in its place."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from volant.errors import ToolFailed
from volant.process import run_tool
from volant.volantd.hypervisors import confine
from volant.volantd.hypervisors.base import DiskDrive, StreamNic, VmSpec
from volant.volantd.hypervisors.confinement import (
    Confinement,
    choose_user,
    find_confinement,
    make_confined_arguments,
    make_launcher,
    make_probe_command,
)

PYTHON = os.path.realpath(sys.executable)
pytestmark = [
    pytest.mark.skipif(confine.find_landlock_version() == 0, reason="this kernel has no Landlock"),
    pytest.mark.skipif(not PYTHON.startswith("/usr/"), reason="the intruder is the system's Python"),
]

INTRUDER = """
import json, os, signal, socket, sys
state, own, port, daemon = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def attempt(action, *arguments):
    try:
        action(*arguments)
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "done"

def read(path):
    with open(path, "rb") as stream:
        stream.read(1)

def write(path):
    with open(path, "r+b") as stream:
        stream.write(b"x")

def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))

def listen(path):
    socket.socket(socket.AF_UNIX).bind(path)

def connect(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.connect(address)

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(json.dumps({
    "needed": {
        "own disk": attempt(write, f"{own}/root.qcow2"),
        "payload": attempt(read, f"{state}/plugins/payload"),
        "boot archive": attempt(read, f"{own}/boot.cpio"),
        "console log": attempt(write, f"{own}/console.log"),
        "socket": attempt(listen, f"{own}/qmp.sock"),
        "network": attempt(connect, f"{own}/net.sock"),
        "randomness": attempt(read, "/dev/urandom"),
    },
    "forbidden": {
        "other VM's disk": attempt(read, f"{state}/vms/bb/root.qcow2"),
        "other VM's folder": attempt(os.listdir, f"{state}/vms/bb"),
        "database": attempt(read, f"{state}/volant.db"),
        "key of secrets": attempt(read, f"{state}/secrets.key"),
        "other plugin": attempt(read, f"{state}/plugins/other"),
        "payload written": attempt(write, f"{state}/plugins/payload"),
        "boot archive written": attempt(write, f"{own}/boot.cpio"),
        "own settings": attempt(read, f"{own}/vm.json"),
        "own settings removed": attempt(os.unlink, f"{own}/vm.json"),
        "own settings replaced": attempt(os.rename, f"{own}/console.log", f"{own}/vm.json"),
        "a file more": attempt(create, f"{own}/more"),
        "a folder more": attempt(os.mkdir, f"{own}/more"),
        "passwords": attempt(read, "/etc/shadow"),
        "users": attempt(read, "/etc/passwd"),
        "tmp": attempt(create, f"{state}/../intruder"),
        "TCP to the host": attempt(connect, ("127.0.0.1", port)),
        "abstract socket": attempt(connect, "\\0volant-test-confinement"),
        "signal": attempt(os.kill, daemon, 0),
        "environment of the daemon": attempt(read, f"/proc/{daemon}/environ"),
        "memory of the daemon": attempt(read, f"/proc/{daemon}/mem"),
        "root": attempt(os.setuid, 0) if os.getuid() else "kept",
        "tap": attempt(read, "/dev/net/tun"),
    },
    "status": {name: status[name] for name in ("Uid", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs", "Groups")},
    "core": __import__("resource").getrlimit(__import__("resource").RLIMIT_CORE),
}))
"""


@pytest.fixture
def state(short_path: Path) -> Path:
    """A state folder of root's daemon with two VMs."""
    files = ("volant.db", "secrets.key", "plugins/payload", "plugins/other", "vms/bb/root.qcow2")
    own = ("root.qcow2", "boot.cpio", "console.log", "vm.json")
    state = short_path / "state"
    for name in (*files, *(f"vms/aa/{name}" for name in own)):
        (state / name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        (state / name).write_bytes(b"content")
        (state / name).chmod(0o400 if "plugins" in name else 0o600)
    state.chmod(0o700)
    short_path.chmod(0o755)
    return state


def make_spec(state: Path) -> VmSpec:
    own = state / "vms/aa"
    disk = DiskDrive(own / "root.qcow2", "qcow2", "root", backing=(state / "plugins/payload",))
    return VmSpec(
        id="aa", name="vm", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=1, memory_mb=128,
        disks=(disk,), nics=(StreamNic("52:54:00:00:00:01", own / "net.sock"),), socket_folder=own,
        console_log=own / "console.log",
        hypervisor_log=own / "hypervisor.log", initrd=own / "boot.cpio",
    )  # fmt: skip


def intrude(state: Path, confinement: Confinement) -> dict[str, Any]:
    spec = make_spec(state)
    with (
        socket.create_server(("127.0.0.1", 0)) as service,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as network,
    ):
        abstract.bind("\0volant-test-confinement")
        network.bind(str(spec.socket_folder / "net.sock"))
        (spec.socket_folder / "net.sock").chmod(0o600)
        abstract.listen()
        network.listen()
        facts = [str(state), str(spec.socket_folder), str(service.getsockname()[1]), str(os.getpid())]
        program = [PYTHON, "-I", "-S", "-c", INTRUDER, *facts]
        before = os.umask(0o077)  # as volantd has it
        try:
            done = run_tool([*make_launcher(), *make_confined_arguments(spec, program, state, confinement)])
        finally:
            os.umask(before)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("has_users", [True, False])
def test_an_intruder_has_this_vms_files_and_nothing_else(has_users: bool, state: Path) -> None:
    if has_users and not find_confinement().has_users:
        pytest.skip("this user cannot become another one")
    confinement = Confinement(has_users, confine.find_landlock_version())
    found = intrude(state, confinement)
    assert set(found["needed"].values()) == {"done"}, found["needed"]
    reached = {name: how for name, how in found["forbidden"].items() if how == "done"}
    assert reached == {}
    status = found["status"]
    assert status["NoNewPrivs"] == "1"
    assert {status[name].strip("0") for name in ("CapEff", "CapPrm", "CapAmb")} == {""}
    assert found["core"] == [0, 0]
    if os.geteuid() == 0:
        assert status["CapBnd"].strip("0") == ""
    if has_users:
        assert set(status["Uid"].split()) == {str(choose_user("aa"))}
        assert status["Groups"].strip() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_state_folder_stays_closed_to_all_users(state: Path) -> None:
    if not find_confinement().has_users:
        pytest.skip("this host gives VMs no users")
    intrude(state, find_confinement())
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / "vms/aa").stat().st_uid == choose_user("aa")
    assert (state / "vms/aa/vm.json").stat().st_uid == 0
    assert (state / "vms/bb/root.qcow2").stat().st_mode & 0o777 == 0o600
    assert (state / "plugins/other").stat().st_mode & 0o777 == 0o400


def test_without_landlock_a_user_of_its_own_still_sees_no_other_vm(state: Path) -> None:
    if not find_confinement().has_users:
        pytest.skip("this host gives VMs no users")
    found = intrude(state, Confinement(has_users=True, landlock=0))
    assert set(found["needed"].values()) == {"done"}, found["needed"]
    hidden = (
        "other VM's disk",
        "other VM's folder",
        "database",
        "key of secrets",
        "other plugin",
        "payload written",
    )
    assert {found["forbidden"][name] for name in hidden} <= {"FileNotFoundError", "PermissionError"}


def test_what_cannot_be_confined_is_not_started(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    launcher = [*make_launcher(), "--tap=no-such-device:100"]
    with pytest.raises(ToolFailed, match="exit code 125") as caught:
        run_tool([*launcher, "--", shutil.which("touch") or "", str(mark)])
    assert "cannot confine" in caught.value.details[0]
    assert not mark.exists()


def test_a_probe_dies_with_its_parent() -> None:
    parent = f"""
import os, subprocess
child = subprocess.Popen({make_probe_command(["/bin/sleep", "300"], [])!r})
while not os.path.realpath(f"/proc/{{child.pid}}/exe").endswith("sleep"):
    pass
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, timeout=60)
    pid = int(done.stdout)
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)  # the suite's own time limit ends this where it runs on
