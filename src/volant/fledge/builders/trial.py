# SPDX-License-Identifier: Apache-2.0
"""Whether a builder can run a step on this machine is found out by running one.

No message of a builder or of its runtime is read: what is missing (a runtime, user namespaces, ids, control groups
that nest) shows in a step that does not run. The step copies our agent, a static program, gives it to a user that is
not root, and starts it. How it ran is remembered until the machine boots again or something it relies on changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from volant.contract.agents import find_agent
from volant.errors import ToolFailed
from volant.fledge.builders.base import Builder, BuildRequest, Isolation
from volant.fledge.builders.failures import Transcript
from volant.fledge.builders.machine import Obstacle, find_obstacles, find_runtimes
from volant.fledge.builders.running import run_builder
from volant.fledge.known_digests import find_cache_folder
from volant.process import find_tool
from volant.progress import Monitor

DOCKERFILE = """\
FROM scratch
COPY --chown=1234:77 kestrel /kestrel
RUN ["/kestrel", "version"]
"""
LIMIT_SECONDS = 180.0
# What of the environment leads a builder elsewhere.
_VARIABLES = (
    "PATH", "HOME", "BUILDAH_ISOLATION", "STORAGE_DRIVER", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF",
    "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """`isolation`: how a step runs, None if it does not; `fact` and `cure`: why not as the builder is configured."""

    isolation: Isolation | None
    fact: str = ""
    cure: str = ""
    storage_driver: str = ""
    is_remembered: bool = False


def try_step(builder: Builder, folder: Path, monitor: Monitor, *, host_network: bool) -> Trial:
    """How a step runs with this builder, from memory where nothing has changed. `folder` takes scratch files."""
    memory = _Memory(builder, host_network)
    remembered = memory.read()
    if remembered is not None:
        return remembered
    trial = _run_trial(builder, folder, monitor, host_network=host_network)
    if trial.isolation is not None:
        memory.write(trial)
    return trial


def repeat_trial(builder: Builder, request: BuildRequest, folder: Path, monitor: Monitor) -> Trial | None:
    """Another trial after a build failed; None where the builder was tried a moment ago."""
    if not builder.is_remembered:
        return None
    fresh = replace(builder, isolation="configured")
    trial = _run_trial(fresh, folder, monitor, host_network=request.host_network)
    memory = _Memory(fresh, request.host_network)
    if trial.isolation is None:
        memory.forget()
    else:
        memory.write(trial)
    return trial


def _run_trial(builder: Builder, parent: Path, monitor: Monitor, *, host_network: bool) -> Trial:
    said = ""
    monitor.step(f"try a step with {builder.name}")
    # A person who names an isolation means it.
    isolations = ("configured",) if "BUILDAH_ISOLATION" in os.environ else builder.isolations
    with tempfile.TemporaryDirectory(prefix="trial-", dir=parent) as name:
        folder = Path(name)
        context = folder / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        machine = platform.machine()
        agent = find_agent("arm64" if machine in ("aarch64", "arm64") else "amd64")
        (context / "kestrel").write_bytes(agent.read_bytes())
        (context / "kestrel").chmod(0o755)
        request = BuildRequest(context / "Dockerfile", context, host_network=host_network, use_cache=False)
        for isolation in isolations:
            attempt = replace(builder, isolation=isolation)
            failure = _run_step(attempt, request, folder, monitor)
            if failure is None:
                fact, cure = _explain(builder, said) if said else ("", "")
                return Trial(isolation, fact, cure, _read_driver(attempt, monitor))
            said = said or failure
    fact, cure = _explain(builder, failure or said)
    return Trial(None, fact, cure)


def _run_step(builder: Builder, request: BuildRequest, folder: Path, monitor: Monitor) -> str | None:
    """Build the trial image and remove it; the last line of a failure, or None."""
    transcript = Transcript()
    environment = {"TMPDIR": str(folder), "BUILDKIT_PROGRESS": "plain"}
    arguments = builder.build_arguments(request, folder)
    try:
        code = run_builder(
            builder, arguments, transcript.keep, monitor, env=environment, limit_seconds=LIMIT_SECONDS
        )
    except ToolFailed as error:
        return error.what
    image_id = folder / "image-id"
    if code or not image_id.is_file():
        return transcript.find_reason() or f"exit code {code}"
    removal = builder.remove_arguments(image_id.read_text().strip())
    run_builder(builder, removal, transcript.keep, monitor, env=environment, limit_seconds=LIMIT_SECONDS)
    image_id.unlink()
    return None


def _read_driver(builder: Builder, monitor: Monitor) -> str:
    command = builder.driver_arguments()
    transcript = Transcript()
    if not command or run_builder(builder, command, transcript.keep, monitor, limit_seconds=LIMIT_SECONDS):
        return ""
    return transcript.last_line()


def _explain(builder: Builder, said: str) -> tuple[str, str]:
    """Why a step does not run as the builder is configured, and what helps: by what this machine lacks."""
    if builder.name == "docker":
        return f"its daemon runs no step here: {said}", "see 'docker run'"
    obstacles: Sequence[Obstacle] = find_obstacles()
    if obstacles:
        return obstacles[0].fact, obstacles[0].cure
    if not find_runtimes():
        return "no container runtime is installed", "apt-get install crun"
    return f"{find_runtimes()[0]} makes no container here: {said}", ""


# -- memory ----------------------------------------------------------------------------------------------


class _Memory:
    """What earlier trials of this boot found: a file of JSON, {"boot": ..., "trials": {key: [...]}}.

    Nothing here may fail a build: a memory that cannot be read or written only costs another trial.
    """

    def __init__(self, builder: Builder, host_network: bool) -> None:
        self._path = find_cache_folder() / "trials.json"
        self._boot = _read_boot()
        self._key = _make_key(builder, host_network)

    def read(self) -> Trial | None:
        isolation, fact, cure, driver = self._load().get(self._key, ("", "", "", ""))
        if isolation not in ("configured", "chroot"):
            return None
        return Trial("chroot" if isolation == "chroot" else "configured", fact, cure, driver, True)

    def write(self, trial: Trial) -> None:
        self._store(
            {
                **self._load(),
                self._key: (trial.isolation or "", trial.fact, trial.cure, trial.storage_driver),
            }
        )

    def forget(self) -> None:
        self._store({key: trial for key, trial in self._load().items() if key != self._key})

    def _load(self) -> dict[str, tuple[str, str, str, str]]:
        try:
            document = json.loads(self._path.read_text())
            if document["boot"] != self._boot:
                return {}
            trials = {}
            for key, (isolation, fact, cure, driver) in document["trials"].items():
                trials[str(key)] = (str(isolation), str(fact), str(cure), str(driver))
            return trials
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def _store(self, trials: dict[str, tuple[str, str, str, str]]) -> None:
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            partial.write_text(json.dumps({"boot": self._boot, "trials": trials}))
            partial.replace(self._path)


def _read_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def _make_key(builder: Builder, host_network: bool) -> str:
    """Digest of all that decides how a step runs: who builds, with which programs, files and variables."""
    places = [builder.program]
    for name in builder.relies_on:
        places.append(os.path.expanduser(name) if "/" in name else find_tool(name) or name)
    facts = {
        "builder": builder.name,
        "user": os.geteuid(),
        "host network": host_network,
        "variables": {name: os.environ.get(name) for name in _VARIABLES},
        "files": [_identify(place) for place in places],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _identify(place: str) -> list[object]:
    try:
        status = os.stat(place)
    except OSError:
        return [place]
    return [place, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode]
