# SPDX-License-Identifier: Apache-2.0
"""docker, podman and buildah behind one interface: build a Dockerfile, hand over the image as an archive.

A builder is taken when it *answers*, not when its program is on PATH: a docker client without its daemon is
of no use. The three differ in little, and this module is all that knows where.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from volant.errors import StorageFull, ToolFailed, ToolMissing, VolantError
from volant.fledge.epoch import read_epoch
from volant.fledge.order import BuilderChoice
from volant.process import describe_command, find_tool, run_tool, start_tool
from volant.progress import Monitor

BuilderName = Literal["docker", "podman", "buildah"]
ORDER: tuple[BuilderName, ...] = ("docker", "podman", "buildah")
PROBES: dict[BuilderName, tuple[str, ...]] = {
    "docker": ("info", "--format", "{{.ServerVersion}}"),
    "podman": ("info", "--format", "{{.Version.Version}} {{.Store.GraphDriverName}}"),
    "buildah": ("info", "--format", "{{.store.GraphDriverName}}"),
}
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|AUTH|PRIVATE|(^|_)KEY", re.IGNORECASE)
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
DOTS = re.compile(r"\s*\d+K [ .]+ +\d+% ")
# What a container runtime says when it cannot make a container on this machine at all (nested containers,
# cgroups in hybrid mode, no namespaces). The Dockerfile is not at fault then, and chroot isolation needs
# none of it.
RUNTIME_REFUSES = re.compile(
    r"from \S+ creating container for|OCI runtime error|cgroups in hybrid mode|"
    r"error running container: .*(clone|unshare|namespace)|(crun|runc)( |: ).*(cgroup|namespace|permission denied)",
    re.IGNORECASE,
)

# A base that cannot be had: nothing in the Dockerfile's steps is to be mended then.
NO_BASE = re.compile(
    r"initializing source|pinging container registry|pull access denied|manifest unknown|failed to resolve source|"
    r"no such image|error pulling image",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class BuildRequest:
    """What a builder is asked for. `build_args` may hold secrets; `extra_contexts` are named build contexts."""

    dockerfile: Path
    context: Path
    ignore_file: Path | None = None
    target: str | None = None
    platform: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    extra_contexts: Mapping[str, Path] = field(default_factory=dict)
    host_network: bool = False


@dataclass(frozen=True)
class Builder:
    """`note`: why not the ones before it. `copies_layers`: its storage copies the whole tree for every step."""

    name: BuilderName
    program: str
    note: str = ""
    copies_layers: bool = False


def find_builder(choice: BuilderChoice) -> Builder:
    """The builder asked for, or the first that answers; ToolMissing tells why none does."""
    reasons: list[str] = []
    for name in ORDER if choice == "auto" else (choice,):
        program = find_tool(name)
        if program is None:
            reasons.append(f"{name}: not installed")
            continue
        answers, said = _probe(name, program)
        if answers:
            return Builder(name, program, "; ".join(reasons), copies_layers=said.endswith("vfs"))
        reasons.append(f"{name}: {said}")
    if choice != "auto":
        raise ToolMissing(
            f"cannot build the Dockerfile: {choice} does not answer",
            details=reasons,
            resolution="mend it, or leave --builder out to take the first that answers",
        )
    raise ToolMissing(
        "cannot build the Dockerfile: no image builder answers",
        details=reasons,
        resolution="install one (apt-get install buildah), or build the image elsewhere and give it with "
        "--docker-archive image.tar",
    )


def _probe(name: BuilderName, program: str) -> tuple[bool, str]:
    """Whether the builder answers, and its answer or its reason in one line."""
    try:
        answer = run_tool([program, *PROBES[name]], timeout_seconds=20, accepted_exit_codes=range(256))
    except ToolFailed as error:
        return False, error.what
    if answer.returncode == 0 and answer.stdout.strip():
        return True, answer.stdout.strip()
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    ended = f"'{name} {PROBES[name][0]}' ended with exit code {answer.returncode}"
    return False, lines[-1].strip()[:200] if lines else ended


def make_image(builder: Builder, request: BuildRequest, folder: Path, monitor: Monitor) -> str:
    """Run the build, its output told line by line; returns the image's id. `folder` takes the builder's scratch."""
    if builder.name == "docker":
        _run_build(builder, _docker_arguments(builder, request, folder), request, folder, monitor)
    else:
        _build_with_containers_storage(builder, request, folder, monitor)
    return (folder / "image-id").read_text().strip()


def export_image(builder: Builder, image_id: str, target: Path) -> None:
    """Write an image of the builder's store as a docker-archive; its layers are not compressed."""
    reference = image_id.removeprefix("sha256:")
    commands: dict[BuilderName, list[str]] = {
        "docker": [builder.program, "save", "--output", str(target), image_id],
        "podman": [
            builder.program,
            "save",
            "--quiet",
            "--format",
            "docker-archive",
            "--output",
            str(target),
            reference,
        ],
        "buildah": [builder.program, "push", "--quiet", reference, f"docker-archive:{target}"],
    }
    what = f"take the built image out of {builder.name}"
    try:
        run_tool(commands[builder.name], env={"TMPDIR": str(target.parent)}, what=what)
    except ToolFailed as error:
        raise _recognize(error) from None


def _recognize(error: ToolFailed) -> VolantError:
    """A builder's failure that has a better name: a full disk."""
    if any("no space left on device" in line.lower() for line in error.details):
        return StorageFull(
            error.what,
            details=error.details,
            resolution="free some space, or set TMPDIR to a folder with more of it",
        )
    return error


# -- arguments -------------------------------------------------------------------------------------------


def _common_arguments(request: BuildRequest, folder: Path) -> list[str]:
    arguments = ["--file", str(request.dockerfile), "--iidfile", str(folder / "image-id"), "--force-rm"]
    if request.host_network:
        arguments += ["--network", "host"]
    if request.target:
        arguments += ["--target", request.target]
    if request.platform:
        arguments += ["--platform", request.platform]
    for name, value in sorted(request.build_args.items()):
        # Values go by the environment, so that no process list shows them.
        arguments += ["--build-arg", name if _by_environment(name) else f"{name}={value}"]
    for name, path in sorted(request.extra_contexts.items()):
        arguments += ["--build-context", f"{name}={path}"]
    return arguments


def _by_environment(name: str) -> bool:
    """Whether a build argument may be set in the builder's own environment without changing the builder."""
    return not re.match(
        r"PATH$|HOME$|USER$|LOGNAME$|TMPDIR$|LD_|XDG_|DOCKER_|BUILDAH_|CONTAINER|STORAGE_|REGISTRY_|LC_|TZ$|GO",
        name,
    )


def _docker_arguments(builder: Builder, request: BuildRequest, folder: Path) -> list[str]:
    buildx = run_tool([builder.program, "buildx", "version"], accepted_exit_codes=range(256)).returncode == 0
    if request.extra_contexts and not buildx:
        raise ToolMissing(
            "cannot build the Dockerfile: COPY --from=kestrel needs docker's buildx plugin",
            resolution="install docker-buildx, use --builder podman or buildah, or drop that line: "
            "fledge puts the agent in anyway",
        )
    arguments = [builder.program, "buildx", "build", "--load", "--progress", "plain", "--provenance=false"]
    if not buildx:
        arguments = [builder.program, "build"]
    return [*arguments, *_common_arguments(request, folder), str(request.context)]


def _containers_arguments(builder: Builder, request: BuildRequest, folder: Path, isolation: str) -> list[str]:
    arguments = [builder.program, "build" if builder.name == "podman" else "bud", "--layers"]
    # Docker's format keeps HEALTHCHECK, which the OCI format has no place for.
    arguments += ["--format", "docker", *_common_arguments(request, folder)]
    if isolation:
        arguments += ["--isolation", isolation]
    if request.ignore_file is not None:
        arguments += ["--ignorefile", str(request.ignore_file)]
    if (epoch := read_epoch()) is not None:
        arguments += ["--timestamp", str(epoch)]
    return [*arguments, str(request.context)]


# -- running ---------------------------------------------------------------------------------------------


def _build_with_containers_storage(
    builder: Builder, request: BuildRequest, folder: Path, monitor: Monitor
) -> None:
    """podman and buildah: as they are configured first, in a chroot where their runtime makes no container here."""
    memory = _isolation_memory()
    isolation = "" if "BUILDAH_ISOLATION" in os.environ else memory.read()
    try:
        _run_build(
            builder, _containers_arguments(builder, request, folder, isolation), request, folder, monitor
        )
    except ToolFailed as error:
        if (
            isolation
            or "BUILDAH_ISOLATION" in os.environ
            or not RUNTIME_REFUSES.search("\n".join(error.details))
        ):
            raise
        monitor.say(
            f"{builder.name}: no container runtime works on this machine; building in a chroot instead"
        )
        _run_build(
            builder, _containers_arguments(builder, request, folder, "chroot"), request, folder, monitor
        )
        memory.write("chroot")


@dataclass(frozen=True)
class _IsolationMemory:
    """Remembers until the next boot that containers don't work here, to save the failing attempt."""

    path: Path
    boot: str

    def read(self) -> str:
        try:
            boot, _, isolation = self.path.read_text().strip().partition(" ")
        except OSError:
            return ""
        return isolation if boot == self.boot and isolation == "chroot" else ""

    def write(self, isolation: str) -> None:
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(f"{self.boot} {isolation}\n")


def _isolation_memory() -> _IsolationMemory:
    from volant.fledge.cache import find_cache_folder

    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "unknown"
    return _IsolationMemory(find_cache_folder() / "isolation", boot)


def _run_build(
    builder: Builder, arguments: Sequence[str], request: BuildRequest, folder: Path, monitor: Monitor
) -> None:
    secrets = tuple(
        value for name, value in request.build_args.items() if SECRET_NAME.search(name) and len(value) >= 4
    )
    kept: list[str] = []

    def tell(line: str) -> None:
        # Progress bars that were meant for a terminal: their last state, and none of wget's dots.
        line = COLOURS.sub("", line).rpartition("\r")[2]
        if DOTS.match(line):
            return
        for secret in secrets:
            line = line.replace(secret, "***")
        kept.append(line)
        del kept[:-400]
        monitor.say(f"  {line}")

    environment = {name: value for name, value in request.build_args.items() if _by_environment(name)}
    environment |= {"TMPDIR": str(folder), "BUILDKIT_PROGRESS": "plain", **_keep_loopback_off_proxies()}
    code = _stream(builder, arguments, environment, tell)
    if code:
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise _recognize(
            ToolFailed(
                f"cannot build {request.dockerfile.name}: {_failed_step(kept) or f'{builder.name} ended with {ended}'}",
                details=[*_last_lines(kept), f"command: {describe_command(arguments, secrets)}"],
                resolution="check the base image's name and tag, the network and, for a private registry, your login"
                if any(map(NO_BASE.search, kept))
                else f"mend the step and build again; finished steps stay in {builder.name}'s cache",
            )
        )


def _stream(
    builder: Builder, arguments: Sequence[str], environment: Mapping[str, str], tell: Callable[[str], None]
) -> int:
    # The steps inherit it, and the modes of what they make must not depend on who builds.
    umask = os.umask(0o022)
    with start_tool(arguments, env=environment, stderr=subprocess.STDOUT) as process:
        os.umask(umask)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tell(line.decode("utf-8", "replace").rstrip("\r\n"))
            return process.wait()
        except BaseException:
            if builder.name != "docker":
                _end_steps_first(process)
            raise


def _keep_loopback_off_proxies() -> dict[str, str]:
    """Builders hand their proxy settings to RUN steps, whose download of the agent has to stay on this machine."""
    if not any(name in os.environ for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")):
        return {}
    bypass = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    bypass = f"{bypass},127.0.0.1" if bypass else "127.0.0.1"
    return {"no_proxy": bypass, "NO_PROXY": bypass}


def _failed_step(lines: Sequence[str]) -> str:
    """The step that failed, in words, as each of the three builders tells it."""
    for line in reversed(lines):
        if match := re.search(r'(?:building|build error) at STEP "(.*?)": ?(.*)', line):
            return f"step '{_shorten(match[1])}' failed ({match[2].split(': ')[-1] or 'see below'})"
        if match := re.search(r"The command '/bin/sh -c (.*)' returned a non-zero code: (\d+)", line):
            return f"step 'RUN {_shorten(match[1])}' failed (exit status {match[2]})"
        if match := re.search(r'process "(?:/bin/sh -c )?(.*)" did not complete successfully: (.*)', line):
            return f"step 'RUN {_shorten(match[1])}' failed ({match[2]})"
    return ""


def _shorten(text: str, limit: int = 100) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _last_lines(lines: Sequence[str]) -> list[str]:
    """The output of the failing step, its end where it is long."""
    told = [line for line in lines if line.strip()]
    begin = max(
        (number for number, line in enumerate(told) if re.match(r"STEP \d+|Step \d+", line)), default=0
    )
    return told[begin:][-20:]


def _end_steps_first(process: subprocess.Popen[bytes], deadline_seconds: float = 8.0) -> None:
    """End what the builder runs, not the builder, which then takes its working containers away by itself.

    podman ends at once on SIGTERM and leaves containers and mounts behind; a step that fails it cleans up
    after.
    """
    deadline = time.monotonic() + deadline_seconds
    while process.poll() is None and time.monotonic() < deadline:
        for child in reversed(list(_descendants(process.pid))):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGTERM if time.monotonic() < deadline - 6 else signal.SIGKILL)
        time.sleep(0.05)


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield int(child)
                yield from _descendants(int(child))
