# SPDX-License-Identifier: Apache-2.0
"""volar run -i, -t and volar attach with a real VM: its workload's own input, output and terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from support.busybox_image import make_busybox_tar
from support.host import Host, wait_until

BOOT_SECONDS = 300


class Terminal:
    """A volar that has a terminal of its own, of 99 columns and 33 rows."""

    def __init__(self, host: Host, *line: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (33, 99))
        os.set_blocking(self._ours, False)
        self._process = subprocess.Popen(
            ["volar", *line], env=host.environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        self._said = b""

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def wait_for(self, pattern: bytes, seconds: float = 120) -> None:
        """It is forgotten then: the next one is looked for in what comes after it."""

        def is_said() -> bool:
            with suppress(OSError):  # nothing now, or the other side is closed
                self._said += os.read(self._ours, 4096)
            found = re.search(pattern, self._said)
            if found is not None:
                self._said = self._said[found.end() :]
            return found is not None

        wait_until(f"{pattern!r}", is_said, seconds)

    def wait(self) -> int:
        return self._process.wait(120)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@contextmanager
def open_terminal(host: Host, *line: str) -> Iterator[Terminal]:
    terminal = Terminal(host, *line)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture(scope="module")
def image(host: Host, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a plugin that runs a shell."""
    folder = tmp_path_factory.mktemp("shell") / "shell"
    folder.mkdir()
    make_busybox_tar(folder / "busybox.tar")
    (folder / "Dockerfile").write_text('FROM scratch\nADD busybox.tar /\nCMD ["/bin/sh"]\n')
    host.run("fledge", "build", str(folder / "Dockerfile"), "--output", str(folder / "shell.tar.gz"))
    host.volar("plugins", "install", str(folder / "shell.tar.gz"))
    return "shell"


def test_a_workload_has_this_terminal_and_is_left_and_come_back_to(host: Host, image: str) -> None:
    with open_terminal(host, "run", "-it", "--name", "typed", image) as terminal:
        terminal.wait_for(rb"# ", BOOT_SECONDS)  # written before anybody was there
        terminal.type(b"busybox stty size; busybox tty\n")
        terminal.wait_for(rb"33 99\r\n")
        terminal.wait_for(rb"/dev/pts/\d+\r\n")
        terminal.type(b'echo be"gun"; sleep 1000\n')
        terminal.wait_for(rb"begun")
        terminal.type(b"\x03")  # ends the program there, and nothing here
        terminal.type(b"kept=$((6*7)); echo se't'\n")
        terminal.wait_for(rb"set\r\n")
        terminal.type(b"\x10\x11")
        terminal.wait_for(rb"left typed, which runs on")
        assert terminal.wait() == 0
    vm = host.vm("typed")
    assert (vm["status"], vm["stdin"], vm["tty"]) == ("running", True, True)
    with open_terminal(host, "attach", "typed") as terminal:
        terminal.type(b"echo it-is-$kept; exit 3\n")
        terminal.wait_for(rb"it-is-42\r\n")
        assert terminal.wait() == 3
    wait_until("its end", lambda: host.vm("typed")["status"] == "stopped")
    assert "it-is-42" in host.volar("logs", "typed").stdout
    host.volar("rm", "typed")


def test_what_is_piped_in_is_its_input_and_its_outputs_stay_apart(host: Host, image: str) -> None:
    lines = "".join(f"line {number}\n" for number in range(20_000))
    done = subprocess.run(
        ["volar", "run", "-i", "--rm", "--name", "piped", image, "--", "/bin/sh", "-c", "cat; echo over >&2; exit 7"],
        env=host.environment, input=lines, capture_output=True, text=True, timeout=BOOT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stdout == lines
    assert "over\n" in done.stderr
    assert host.volar("get", "piped", check=False).returncode == 4


def test_what_has_no_input_is_answered_with_what_works(host: Host, image: str) -> None:
    host.volar("vms", "create", "plain", "--plugin", image, "--no-start")
    refused = host.volar("attach", "plain", check=False)
    assert refused.returncode != 0
    assert "made without an input" in refused.stderr
    assert "volar logs -f plain" in refused.stderr
    host.volar("rm", "plain")
