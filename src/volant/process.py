# SPDX-License-Identifier: Apache-2.0
"""The one module that starts programs.

Each call takes an argument list (never a shell line), gives a clean environment, closes standard input,
captures or streams the output, and turns a failure into our own exception with a command line that can be
pasted. A program runs in a process group of its own, which is ended as a whole when we leave early.
"""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from volant.errors import ToolFailed, ToolMissing

# What a tool may need from the caller's environment; everything else stays behind so that results do not
# depend on a locale, a proxy for something else or a developer's shell settings.
KEPT_VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME", "DBUS_SESSION_BUS_ADDRESS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT",
    "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "REGISTRY_AUTH_FILE", "BUILDAH_ISOLATION",
    "STORAGE_DRIVER", "SOURCE_DATE_EPOCH",
)  # fmt: skip


# What `start_tool` has started and nobody has left yet.
_running: set[subprocess.Popen[bytes]] = set()


def read_command(pid: int) -> bytes:
    """A process's arguments, each ended by NUL; empty for the kernel's own. OSError where there is none such.

    A process has none for an instant while it becomes another program, and a zombie for good: the first has a program,
    the second has not (proc(5), exe).
    """
    for _ in range(20):
        if command := Path(f"/proc/{pid}/cmdline").read_bytes():
            return command
        try:
            os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return b""
        time.sleep(0.005)
    return b""


def make_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: the kept variables of ours, a fixed locale and time zone, and `extra`."""
    environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    environment.update(LC_ALL="C.UTF-8", TZ="UTC")
    environment.update(extra or {})
    return environment


def find_tool(name: str) -> str | None:
    """Path of a program on PATH (system folders included even where a user's PATH lacks them), or None."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
    return shutil.which(name, path=path)


def require_tool(name: str, *, package: str = "") -> str:
    """Path of a program; ToolMissing, naming the package to install, where there is none."""
    found = find_tool(name)
    if found is None:
        raise ToolMissing(
            f"cannot run {name}: not found on this machine",
            resolution=f"install it, e.g. apt-get install {package or name}",
        )
    return found


def describe_command(arguments: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """A command as one pasteable shell line with each of `secrets` blotted out."""
    line = shlex.join(arguments)
    for secret in secrets:
        line = line.replace(secret, "***") if secret else line
    return line


def run_tool(
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    on_line: Callable[[str], None] | None = None,
    accepted_exit_codes: Sequence[int] = (0,),
    timeout_seconds: float | None = None,
    secrets: Sequence[str] = (),
    what: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its captured output (undecodable bytes survive as surrogates).

    With `on_line` standard output and error are merged and handed over line by line while the program runs;
    the last lines are kept for the error. `what` completes "cannot ..." in the error message. Raises
    ToolMissing or ToolFailed. KeyboardInterrupt ends the program's whole process group before it goes on
    upward.
    """
    what = what or f"run {Path(arguments[0]).name}"
    with start_tool(
        arguments, cwd=cwd, env=env, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stderr=subprocess.STDOUT if on_line else subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            if on_line is None:
                out, err = process.communicate(stdin, timeout=timeout_seconds)
            else:
                out, err = _stream_lines(process, on_line), b""
                process.wait(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            raise ToolFailed(
                f"cannot {what}: no end after {timeout_seconds:g} s",
                details=describe_command(arguments, secrets),
            ) from None
    stdout, stderr = (text.decode("utf-8", "surrogateescape") for text in (out, err))
    if process.returncode not in accepted_exit_codes:
        tail = (stderr.strip() or stdout.strip()).splitlines()[-20:]
        ended = (
            f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        )
        raise ToolFailed(
            f"cannot {what}: {Path(arguments[0]).name} ended with {ended}",
            details=[*tail, f"command: {describe_command(arguments, secrets)}"],
        )
    return subprocess.CompletedProcess(list(arguments), process.returncode, stdout, stderr)


def _stream_lines(process: subprocess.Popen[bytes], on_line: Callable[[str], None]) -> bytes:
    """Hand over each line as it comes and return the last 64 KiB."""
    assert process.stdout is not None
    kept: list[bytes] = []
    kept_bytes = 0
    for line in process.stdout:
        on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
        kept.append(line)
        kept_bytes += len(line)
        while kept_bytes > 65536 and len(kept) > 1:
            kept_bytes -= len(kept.pop(0))
    return b"".join(kept)


@contextmanager
def start_tool(
    arguments: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a process group of its own; on leaving, whatever still runs of the group is
    ended."""
    try:
        process = subprocess.Popen(
            list(arguments), cwd=cwd, env=make_environment(env), stdin=stdin, stdout=stdout, stderr=stderr,
            pass_fds=tuple(pass_fds), start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise _make_missing(arguments) from error
    with process:
        _running.add(process)
        try:
            yield process
        finally:
            _running.discard(process)
            if process.poll() is None:
                _end_group(process)


def start_detached(
    arguments: Sequence[str],
    log: Path,
    *,
    inherit: bool = False,
    pass_fds: Sequence[int] = (),
    descriptors: Mapping[int, int] | None = None,
) -> int:
    """Start a program that outlives us, in a session of its own, and return its process id.

    Standard output and error are appended to `log`. Of our other descriptors it gets those of `pass_fds` (under the
    same numbers), those of `descriptors` (its number → ours) and none that our own caller left open: a pipe would never
    end and a lock never be free. With `inherit` it gets our whole environment: it is a program of ours. The caller
    waits for it (as its parent) or leaves it alone. Raises ToolMissing.
    """
    environment = dict(os.environ) if inherit else make_environment()
    try:
        return os.posix_spawn(
            arguments[0], list(arguments), environment, setsid=True,
            # Python ignores SIGPIPE and a child would inherit that.
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM], setsigmask=[],
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
                *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in list_inheritable(pass_fds)),
                # Onto itself: stays open in the child without ever being inheritable here.
                *((os.POSIX_SPAWN_DUP2, descriptor, descriptor) for descriptor in pass_fds),
                *((os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in (descriptors or {}).items()),
            ],
        )  # fmt: skip
    except FileNotFoundError as error:
        raise _make_missing(arguments) from error


def list_inheritable(wanted: Sequence[int]) -> list[int]:
    """Our open descriptors that a child would get, beside the standard streams and those wanted."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own is closed by now
            if int(name) > 2 and int(name) not in wanted and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def run_in_terminal(arguments: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Run a program in the foreground, on our own standard streams and with our whole environment, for people.

    Returns its exit status, 128 plus the number where a signal ended it, as shells count. Raises ToolMissing.
    """
    try:
        status = subprocess.call(list(arguments), env={**os.environ, **(env or {})})
    except FileNotFoundError as error:
        raise _make_missing(arguments) from error
    return status if status >= 0 else 128 - status


def become_program(arguments: Sequence[str]) -> NoReturn:
    """Go on as another program: this process, its standard streams and environment are that program's now."""
    try:
        os.execv(arguments[0], list(arguments))  # noqa: S606  # an argument list, no shell line
    except FileNotFoundError as error:
        raise _make_missing(arguments) from error


def _make_missing(arguments: Sequence[str]) -> ToolMissing:
    name = Path(arguments[0]).name
    return ToolMissing(
        f"cannot run {name}: not found on this machine", resolution=f"install {name} or put it on PATH"
    )


@atexit.register
def _end_all() -> None:
    """What threads started that nobody waits for: they end with us, without leaving their contexts."""
    for process in list(_running):
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _end_group(process: subprocess.Popen[bytes], grace_seconds: float = 5.0) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=grace_seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
