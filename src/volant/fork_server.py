# SPDX-License-Identifier: Apache-2.0
"""Programs of ours as forks of one small process that has loaded them: a Python that starts costs ten times as much.

Runs alone (`python -I -S -B fork_server.py SOCKET`), with the standard library only. SOCKET is one end of a SEQPACKET
pair; it ends with the other end. Each request is a JSON object: `program` (a file with a function `main`), its
`arguments`, `log` for its output, and `targets`, the numbers that it has for the descriptors that come along. The
answer is the process's number. Its parent is ours (clone(2), CLONE_PARENT), which so learns how it ends.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import json
import os
import signal
import socket
import sys
from types import ModuleType
from typing import Any, NoReturn

FAILED = 125
MESSAGE_LIMIT_BYTES = 1 << 17
MOST_DESCRIPTORS = 16
# Above whatever number a program asks for.
FIRST_SPARE_DESCRIPTOR = 200
CLONE_PARENT = 0x8000
CLONE_CALLS = {"x86_64": 56, "aarch64": 220}
_LIBC = ctypes.CDLL(None, use_errno=True)
_programs: dict[str, ModuleType] = {}


def load(path: str) -> ModuleType:
    """A program as a module; its file is read once."""
    if path not in _programs:
        specification = importlib.util.spec_from_file_location(f"program_{len(_programs)}", path)
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        _programs[path] = module
    return _programs[path]


def fork_sibling() -> int:
    """fork(2) whose child is our parent's."""
    call = CLONE_CALLS[os.uname().machine]
    pid = int(_LIBC.syscall(call, CLONE_PARENT | signal.SIGCHLD, None, None, None, None))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"clone: {os.strerror(number)}")
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    return pid


def settle(log: str, received: list[int], targets: list[int]) -> None:
    """A session, standard streams and descriptors of its own; nothing of the server's is left open."""
    os.setsid()
    spare = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, FIRST_SPARE_DESCRIPTOR) for descriptor in received]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.closerange(3, FIRST_SPARE_DESCRIPTOR)
    for descriptor, target in zip(spare, targets, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)


def run(program: ModuleType, request: dict[str, Any], received: list[int]) -> NoReturn:
    try:
        settle(request["log"], received, request["targets"])
        program.main(*request["arguments"])
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else FAILED)
    except BaseException as error:
        print(f"{request['program']}: {error!r}", file=sys.stderr, flush=True)
        os._exit(FAILED)
    sys.stdout.flush()
    os._exit(0)


def serve(channel: socket.socket) -> None:
    while True:
        message, received, _, _ = socket.recv_fds(channel, MESSAGE_LIMIT_BYTES, MOST_DESCRIPTORS)
        if not message:
            return
        try:
            request = json.loads(message)
            program = load(request["program"])
            pid = fork_sibling()
            if pid == 0:
                run(program, request, received)
            answer: dict[str, object] = {"pid": pid}
        except Exception as error:
            answer = {"error": str(error)}
        for descriptor in received:
            os.close(descriptor)
        channel.send(json.dumps(answer).encode())


def main(descriptor: str) -> None:
    # What ends our parent at a terminal ends us with it, by the end of the socket.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with socket.socket(fileno=int(descriptor)) as channel:
        try:
            serve(channel)
        except ConnectionError:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
