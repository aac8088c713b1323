# SPDX-License-Identifier: Apache-2.0
"""The namespace and its holder for real: found again, entered again, and nothing of it in the host's own."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.errors import ToolFailed
from volant.volantd.network.shared.namespace import Namespace
from volant.volantd.network.shared.network import GATEWAY, find_obstacle, make_net

pytestmark = pytest.mark.skipif(find_obstacle() is not None, reason="no shared network on this host")


@pytest.fixture
def namespace(short_path: Path) -> Iterator[Namespace]:
    made = Namespace(short_path, short_path / "log", make_net())
    try:
        made.enter()
    except ToolFailed as error:
        pytest.skip(f"{error.what}: {error.details}")
    holder = made.enter().pid
    yield made
    made.close()
    for pid in {holder, find_pid(short_path)}:
        end(pid)


def find_pid(folder: Path) -> int:
    other = Namespace(folder, folder / "log", make_net())
    try:
        return other.enter().pid
    finally:
        other.close()


def end(pid: int) -> None:
    """Kill a holder and wait until it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    os.kill(pid, signal.SIGKILL)
    select.select([pidfd], [], [], 20)
    os.close(pidfd)


def test_another_daemon_finds_it_and_a_killed_holder_is_followed(
    namespace: Namespace, short_path: Path
) -> None:
    first = namespace.enter()
    tap = namespace.open_tap("vtaptest")
    listener = namespace.open_socket(socket.SOCK_DGRAM)
    listener.bind((str(GATEWAY), 0))
    second = Namespace(short_path, short_path / "log", make_net())
    assert (second.enter().pid, second.is_new) == (first.pid, False)
    second.close()
    end(first.pid)
    after = namespace.enter()
    assert after.pid != first.pid
    assert after.inode == first.inode
    with listener, namespace.open_socket(socket.SOCK_DGRAM) as caller:
        caller.sendto(b"still here", listener.getsockname())
        assert listener.recv(100) == b"still here"
    os.close(tap)


def test_what_is_in_there_is_nowhere_else(namespace: Namespace) -> None:
    tap = namespace.open_tap("vtaptest")
    assert not Path("/sys/class/net/vtaptest").exists()
    with pytest.raises(ToolFailed, match="shared network"):
        namespace.open_tap("vtaptest")
    os.close(tap)
    # The device went with its descriptor.
    os.close(namespace.open_tap("vtaptest"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, pytest.raises(OSError):
        here.bind((str(GATEWAY), 0))


def test_a_program_that_fails_in_there_says_why(namespace: Namespace) -> None:
    namespace.run(["nft", "-f", "-"], "add a table", b"add table inet here\n")
    with pytest.raises(ToolFailed, match="cannot add nonsense") as caught:
        namespace.run(["nft", "-f", "-"], "add nonsense", b"add nonsense\n")
    assert any("syntax error" in line for line in caught.value.details)
