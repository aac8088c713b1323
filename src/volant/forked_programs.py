# SPDX-License-Identifier: Apache-2.0
"""Starts programs of ours that outlive us, without the time that a Python takes to start: forks of `fork_server`.

There is one server a process, made with the first program that is asked for. It ends with us; what it started stays.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from volant import fork_server
from volant.errors import ToolFailed
from volant.process import list_inheritable, make_environment

ANSWER_SECONDS = 30.0


class ForkServer:
    """The process and our end of its socket; blocking, some milliseconds a call."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(ANSWER_SECONDS)
        program = [sys.executable, "-I", "-S", "-B", fork_server.__file__]
        with theirs:
            self.pid = os.posix_spawn(
                program[0], [*program, str(theirs.fileno())], make_environment(), setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in list_inheritable(())),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno()),
                ],
            )  # fmt: skip

    def start(self, program: str, arguments: Sequence[str], log: Path, descriptors: Mapping[int, int]) -> int:
        """The number of the new process. OSError where the server is gone."""
        request = {
            "program": program, "arguments": list(arguments), "log": str(log), "targets": list(descriptors),
        }  # fmt: skip
        socket.send_fds(self._channel, [json.dumps(request).encode()], list(descriptors.values()))
        answer = json.loads(self._channel.recv(4096) or b"{}")
        if "pid" in answer:
            return int(answer["pid"])
        if "error" in answer:
            raise ToolFailed(f"cannot start {Path(program).stem}: {answer['error']}")
        raise ConnectionResetError("the fork server has ended")

    def close(self) -> None:
        self._channel.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


_server: ForkServer | None = None


def start_forked(
    program: str, arguments: Sequence[str], log: Path, *, descriptors: Mapping[int, int] | None = None
) -> int:
    """Run `main` of the file `program` in a process of its own, our child in a session of its own, and return its id.

    Output is appended to `log`; of our descriptors it gets `descriptors` (its number, below 200 → ours). Raises
    ToolFailed.
    """
    global _server
    for is_last in (False, True):
        if _server is None:
            _server = ForkServer()
            atexit.register(_server.close)
        try:
            return _server.start(program, arguments, log, descriptors or {})
        except OSError as error:
            # Somebody has killed it: another one does as well.
            _server.close()
            _server = None
            if is_last:
                raise ToolFailed(f"cannot start {Path(program).stem}: {error}") from error
    raise AssertionError("unreachable")


@contextmanager
def listen_privately(place: Path, kind: socket.SocketKind) -> Iterator[socket.socket]:
    """The UNIX socket on which a program that is about to start is asked, by this user alone; an older one goes."""
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, kind) as listener:
        listener.bind(str(place))
        place.chmod(0o600)
        listener.listen(8)
        yield listener


def reap_ended(children: list[int]) -> None:
    """Take those out that have ended, and those that are not ours to wait for."""
    for pid in list(children):
        with suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        children.remove(pid)
