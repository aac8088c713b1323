# SPDX-License-Identifier: Apache-2.0
"""The host's file server against a guest that wants out, by the protocol itself, in the real process."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.folder_client import FolderClient, serve, text
from volant.volantd.folders.operations import SETTLED, SMALL_FILE, WANT_CONTENT, WATCHED
from volant.volantd.folders.wire import ATTRIBUTES, CHANGED, ENTRY, TREE, Operation
from volant.volantd.hypervisors.confine import find_landlock_version

OUTSIDE = "nobody in the guest may read this"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    (folder / "below").mkdir(parents=True)
    (folder / "file").write_text("content")
    (folder / "below" / "deep").write_text("deep")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text(OUTSIDE)
    return folder


@pytest.fixture
def guest(shared: Path, tmp_path: Path) -> Iterator[FolderClient]:
    with serve(tmp_path / "log", f"rw:{shared}") as client:
        yield client


def read(guest: FolderClient, handle: int = 1) -> bytes:
    return guest.ask(Operation.READ, struct.pack("<IQI", handle, 0, 1 << 16))


def test_files_are_read_and_written(guest: FolderClient, shared: Path) -> None:
    guest.open("file", os.O_RDONLY)
    assert read(guest) == b"content"
    assert guest.list() == (True, {"file", "below"})
    guest.create("new", mode=0o6755)
    guest.ask(Operation.WRITE, struct.pack("<IQ", 1, 0) + b"hello")
    assert (shared / "new").read_text() == "hello"
    # No program of the guest's making runs as the daemon's user.
    assert stat.S_IMODE((shared / "new").stat().st_mode) == 0o755
    guest.ask(Operation.SETATTR, struct.pack("<IIIQqq", 0, 1, 0o6711, 0, 0, 0) + text("new"))
    assert stat.S_IMODE((shared / "new").stat().st_mode) == 0o711
    guest.ask(Operation.RENAME, struct.pack("<I", 0) + text("new") + text("below/moved"))
    guest.ask(Operation.SYMLINK, text("/etc/passwd") + text("link"))
    guest.ask(Operation.LINK, text("file") + text("hard"))
    assert (shared / "below" / "moved").exists()
    assert guest.ask(Operation.READLINK, text("link")) == b"/etc/passwd"
    assert guest.stat("hard")[1] == 2


@pytest.mark.parametrize(
    "path", ["..", "../outside/secret", "below/../../outside", "/etc/passwd", "a//b", "."]
)
def test_paths_that_lead_out_are_refused(guest: FolderClient, path: str) -> None:
    for operation, body in (
        (Operation.STAT, text(path)),
        (Operation.LIST, struct.pack("<I", 0) + text(path)),
        (Operation.OPEN, struct.pack("<II", 1, os.O_RDONLY) + text(path)),
        (Operation.CREATE, struct.pack("<III", 1, os.O_RDWR | os.O_CREAT, 0o644) + text(path)),
        (Operation.LINK, text(path) + text("hard")),
        (Operation.RENAME, struct.pack("<I", 0) + text(path) + text("mine")),
        (Operation.RENAME, struct.pack("<I", 0) + text("file") + text(path)),
    ):
        with pytest.raises(OSError) as refused:
            guest.ask(operation, body)
        assert refused.value.errno == errno.EINVAL, operation


def test_links_are_never_followed(guest: FolderClient, shared: Path) -> None:
    (shared / "out").symlink_to("../outside")
    (shared / "secret").symlink_to("../outside/secret")
    (shared / "proc").symlink_to("/proc/self/root/etc")
    for path in ("out/secret", "proc/passwd"):
        with pytest.raises(OSError) as refused:
            guest.stat(path)
        assert refused.value.errno == errno.ELOOP
        with pytest.raises(OSError):
            guest.open(path, os.O_RDONLY)
    with pytest.raises(OSError) as refused:
        guest.open("secret", os.O_RDONLY)
    assert refused.value.errno == errno.ELOOP
    for body in (
        struct.pack("<IIIQqq", 0, 1, 0o777, 0, 0, 0) + text("secret"),
        struct.pack("<IIIQqq", 0, 2, 0, 0, 0, 0) + text("secret"),
    ):
        with pytest.raises(OSError):
            guest.ask(Operation.SETATTR, body)
    secret = shared.parent / "outside" / "secret"
    assert secret.read_text() == OUTSIDE
    assert stat.S_IMODE(secret.stat().st_mode) != 0o777


def test_a_race_between_folder_and_link_leads_nowhere(guest: FolderClient, shared: Path) -> None:
    """Somebody on the host (or the guest by another way) swaps a folder for a link, all the time."""
    (shared / "real").mkdir()
    (shared / "real" / "secret").write_text("harmless")
    ended = threading.Event()

    def swap() -> None:
        link, kept = shared / "swapped", shared / "real"
        while not ended.is_set():
            link.symlink_to("../outside")
            link.unlink()
            os.rename(kept, link)
            os.rename(link, kept)

    swapping = threading.Thread(target=swap)
    swapping.start()
    found = set()
    try:
        for _ in range(1000):
            try:
                guest.open("swapped/secret", os.O_RDONLY)
                found.add(read(guest))
            except OSError as problem:
                found.add(str(problem.errno).encode())
    finally:
        ended.set()
        swapping.join()
    assert OUTSIDE.encode() not in found
    assert str(errno.ELOOP).encode() in found or str(errno.ENOENT).encode() in found


def test_only_files_are_opened(guest: FolderClient, shared: Path) -> None:
    os.mkfifo(shared / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        before = Path.cwd()
        os.chdir(shared)
        listener.bind("socket")
        os.chdir(before)
    for name in ("fifo", "socket", "below"):
        with pytest.raises(OSError):
            guest.open(name, os.O_RDWR)
    for mode in (stat.S_IFCHR, stat.S_IFBLK):
        with pytest.raises(OSError) as refused:
            guest.ask(Operation.MKNOD, struct.pack("<I", mode | 0o666) + text("device"))
        assert refused.value.errno == errno.EPERM
    guest.ask(Operation.MKNOD, struct.pack("<I", stat.S_IFIFO | 0o600) + text("pipe"))
    assert stat.S_ISFIFO((shared / "pipe").lstat().st_mode)


def test_what_is_read_only_stays_as_it_is(shared: Path, tmp_path: Path) -> None:
    with serve(tmp_path / "log", f"ro:{shared}") as guest:
        guest.open("file", os.O_RDONLY)
        assert read(guest) == b"content"
        for operation, body in (
            (Operation.OPEN, struct.pack("<II", 2, os.O_RDWR) + text("file")),
            (Operation.OPEN, struct.pack("<II", 2, os.O_RDONLY | os.O_TRUNC) + text("file")),
            (Operation.CREATE, struct.pack("<III", 2, os.O_CREAT, 0o644) + text("new")),
            (Operation.MKDIR, struct.pack("<I", 0o755) + text("new")),
            (Operation.UNLINK, text("file")),
            (Operation.RMDIR, text("below")),
            (Operation.RENAME, struct.pack("<I", 0) + text("file") + text("new")),
            (Operation.SYMLINK, text("x") + text("new")),
            (Operation.LINK, text("file") + text("new")),
            (Operation.MKNOD, struct.pack("<I", stat.S_IFREG | 0o644) + text("new")),
            (Operation.SETATTR, struct.pack("<IIIQqq", 0, 1, 0o777, 0, 0, 0) + text("file")),
            (Operation.SETXATTR, struct.pack("<I", 0) + text("file") + text("user.x") + b"1"),
            (Operation.REMOVEXATTR, text("file") + text("user.x")),
            (Operation.ALLOCATE, struct.pack("<IIQQ", 1, 0, 0, 100)),
        ):
            with pytest.raises(OSError) as refused:
                guest.ask(operation, body)
            assert refused.value.errno == errno.EROFS, operation
    assert sorted(os.listdir(shared)) == ["below", "file"]


def test_a_single_file_is_all_there_is(shared: Path, tmp_path: Path) -> None:
    with serve(tmp_path / "log", f"rw:{shared / 'file'}") as guest:
        guest.open("", os.O_RDONLY)
        assert read(guest) == b"content"
        for path in ("file", "below", "below/deep"):
            with pytest.raises(OSError):
                guest.stat(path)
        # Editors write another file and rename it.
        (shared / "other").write_text("newer")
        (shared / "other").rename(shared / "file")
        guest.open("", os.O_RDONLY)
        assert read(guest) == b"newer"


def test_extended_attributes_are_the_users_own(guest: FolderClient, shared: Path) -> None:
    try:
        os.setxattr(shared / "file", "user.probe", b"1")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    body = struct.pack("<I", 0) + text("file") + text("user.mine") + b"value"
    guest.ask(Operation.SETXATTR, body)
    assert os.getxattr(shared / "file", "user.mine") == b"value"
    assert b"user.mine\0" in guest.ask(Operation.LISTXATTR, text("file") + text(""))
    for name in ("security.capability", "trusted.x", "system.posix_acl_access"):
        with pytest.raises(OSError):
            guest.ask(Operation.SETXATTR, struct.pack("<I", 0) + text("file") + text(name) + b"value")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<I", 1 << 31),
        struct.pack("<I", 0),
        struct.pack("<IIBB", 3, 1, 1, 0),
    ],
)
def test_what_no_agent_sends_ends_the_server(guest: FolderClient, data: bytes) -> None:
    guest.send(data)
    with pytest.raises((EOFError, ConnectionError)):
        guest.receive()


def test_nonsense_is_answered(guest: FolderClient) -> None:
    for operation in [*range(1, 24), 77, 255]:
        for body in (b"", b"\xff" * 7, b"\xff" * 64, text("x" * 300) * 3):
            try:
                guest.ask(operation, body)
            except OSError as problem:
                assert problem.errno
        with pytest.raises(OSError):
            guest.ask(operation, text("file"), folder=7)
    assert guest.stat("file")[3] == 7


def test_a_small_file_comes_with_its_opening(guest: FolderClient, shared: Path) -> None:
    assert guest.open("file", os.O_RDONLY | WANT_CONTENT)[ATTRIBUTES.size :] == b"content"
    assert guest.open("file", os.O_RDONLY)[ATTRIBUTES.size :] == b""
    (shared / "file").write_bytes(b"x" * (SMALL_FILE + 1))
    assert guest.open("file", os.O_RDONLY | WANT_CONTENT)[ATTRIBUTES.size :] == b""


def test_a_folder_in_which_names_have_just_come_is_not_settled(guest: FolderClient, shared: Path) -> None:
    flags = {}
    for name, age_seconds in (("below", 10), ("", 0)):
        written = time.time() - age_seconds
        os.utime(shared / name, (written, written))
        flags[name] = guest.ask(Operation.LIST, struct.pack("<I", 0) + text(name))[0]
    assert flags == {"below": WATCHED | SETTLED, "": WATCHED}


def test_folders_are_synced_by_their_path(guest: FolderClient) -> None:
    guest.ask(Operation.FSYNC, struct.pack("<II", 0, 0) + text("below"))
    for path, expected in (("file", errno.ENOTDIR), ("nothing", errno.ENOENT), ("../outside", errno.EINVAL)):
        with pytest.raises(OSError) as refused:
            guest.ask(Operation.FSYNC, struct.pack("<II", 0, 0) + text(path))
        assert refused.value.errno == expected


def test_open_files_are_bounded(guest: FolderClient) -> None:
    with pytest.raises(OSError) as refused:
        for handle in range(1, 3000):
            guest.open("file", os.O_RDONLY, handle)
    assert refused.value.errno == errno.EMFILE
    guest.ask(Operation.CLOSE, struct.pack("<I", 1))
    guest.open("file", os.O_RDONLY, 5000)


def test_changes_on_the_host_are_told_and_the_guests_own_are_not(guest: FolderClient, shared: Path) -> None:
    guest.list()
    guest.list("below")
    guest.create("mine")
    guest.ask(Operation.WRITE, struct.pack("<IQ", 1, 0) + b"hello")
    guest.ask(Operation.RENAME, struct.pack("<I", 0) + text("mine") + text("below/mine"))
    guest.ask(Operation.MKDIR, struct.pack("<I", 0o755) + text("folder"))
    guest.list("folder")
    guest.ask(Operation.RENAME, struct.pack("<I", 0) + text("folder") + text("renamed"))
    assert guest.settle() == []
    (shared / "file").write_text("changed")
    (shared / "below" / "theirs").write_text("")
    (shared / "renamed" / "within").write_text("")
    events = guest.settle()
    assert (0, CHANGED, b"", b"file") in events
    assert (0, ENTRY, b"below", b"theirs") in events
    assert (0, ENTRY, b"renamed", b"within") in events
    (shared / "renamed").rename(shared / "again")
    assert (0, TREE, b"renamed", b"") in guest.settle()


def test_it_has_rights_to_its_folder_alone(guest: FolderClient) -> None:
    status = Path(f"/proc/{guest.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    if os.geteuid() == 0:
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status


@pytest.mark.skipif(find_landlock_version() == 0, reason="this kernel has no Landlock")
def test_landlock_holds_where_the_code_would_not(shared: Path, tmp_path: Path) -> None:
    """The server's own rights, used by code that checks nothing."""
    escape = tmp_path / "escape.py"
    escape.write_text(
        "import importlib.util, os, sys\n"
        "def main(server, inside, outside):\n"
        "    found = importlib.util.spec_from_file_location('server', server)\n"
        "    module = importlib.util.module_from_spec(found)\n"
        "    found.loader.exec_module(module)\n"
        "    module.give_up_rights([(False, inside)])\n"
        "    open(inside + '/written', 'w').close()\n"
        "    for act in (lambda: open(outside), lambda: os.listdir('/etc'), lambda: open('/etc/x', 'w'),\n"
        "                lambda: os.link(outside, inside + '/linked'), lambda: os.execv('/bin/true', ['true'])):\n"
        "        try:\n"
        "            act()\n"
        "        except OSError:\n"
        "            continue\n"
        "        sys.exit(1)\n"
        "    sys.exit(0)\n"
    )
    from volant.forked_programs import start_forked
    from volant.volantd.folders import server

    outside = tmp_path / "outside" / "secret"
    pid = start_forked(str(escape), [server.__file__, str(shared), str(outside)], tmp_path / "log")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, (tmp_path / "log").read_text()
    assert (shared / "written").exists()
