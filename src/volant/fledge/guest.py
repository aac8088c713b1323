# SPDX-License-Identifier: Apache-2.0
"""Step 4 of the line: an image's tree → a tree that boots.

Adds the agent at /usr/local/bin/kestrel, the image's own settings at /etc/kestrel/image.json, the recipe's
mappings, and the folders that a boot mounts on, which `FROM scratch` images lack.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import stat
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from volant.contract.agents import Architecture, find_agent
from volant.contract.image_config import (
    AGENT_PATH,
    IMAGE_CONFIG_PATH,
    KESTREL_CONFIG_PATH,
    ImageConfig,
)
from volant.errors import ToolFailed, ToolMissing
from volant.filesystems.filetree import FileTree, Metadata
from volant.fledge.known_digests import KnownDigests, digest_file
from volant.fledge.local_files import LocalFiles, find_file, find_folder
from volant.fledge.problems import Problem, refuse
from volant.process import run_tool
from volant.progress import Monitor

ARCHITECTURES: tuple[Architecture, ...] = ("amd64", "arm64")
NOT_CHECKED = "the agent of this installation cannot be run on this machine"
# Mount points and the folder that programs take for granted, with their permissions.
FOLDERS = {
    "/dev": 0o755,
    "/proc": 0o555,
    "/sys": 0o555,
    "/run": 0o755,
    "/tmp": 0o1777,  # noqa: S108 - a path in the guest
    "/etc": 0o755,
}


def install_guest(
    tree: FileTree, config: ImageConfig, agent: Path, mappings: Sequence[tuple[Path, str]], stamp: int,
    stack: ExitStack, monitor: Monitor,
) -> None:  # fmt: skip
    """Make a merged tree bootable, in place. `stamp`: the modification time of everything added."""
    files = LocalFiles(tree, stack, stamp)
    for local, path in mappings:
        files.add_local(local, path)
    _install_agent(tree, files, agent, monitor)
    files.add_bytes(IMAGE_CONFIG_PATH, encode_image_config(config))
    for path, permissions in FOLDERS.items():
        find_folder(tree, path, Metadata(stat.S_IFDIR | permissions, mtime=stamp))
    for path in (*config.volumes, config.working_dir):
        find_folder(tree, path, Metadata(stat.S_IFDIR | 0o755, mtime=stamp))


def _install_agent(tree: FileTree, files: LocalFiles, agent: Path, monitor: Monitor) -> None:
    present = find_file(tree, AGENT_PATH)
    if present is not None:
        size = agent.stat().st_size
        if tree.size[present] == size and tree.read(present, size) == agent.read_bytes():
            tree.mode[present] |= 0o555
            return
        monitor.say(f"the image's {AGENT_PATH} is another build of the agent: replaced by this fledge's")
    files.add_open_file(AGENT_PATH, agent, 0o755)


def digest_agents(known: KnownDigests | None = None) -> str:
    """One digest for the agents of this installation."""
    digests = [digest_file(find_agent(architecture), known) for architecture in find_architectures()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def find_architectures() -> list[Architecture]:
    """The guest architectures that this installation has an agent for; ToolMissing where there is none at all."""
    found: list[Architecture] = []
    missing: ToolMissing | None = None
    for architecture in ARCHITECTURES:
        try:
            find_agent(architecture)
            found.append(architecture)
        except ToolMissing as error:
            missing = error
    if not found and missing is not None:
        raise missing
    return found


def encode_image_config(config: ImageConfig) -> bytes:
    """image.json: what the image says, without what it leaves at its default."""
    return (json.dumps(config.model_dump(exclude_defaults=True), indent=1, sort_keys=True) + "\n").encode()


# Of systemd, sysvinit, busybox, OpenRC and s6-overlay.
_INITS = frozenset({"init", "systemd", "openrc-init"})
# Where the agent knows them by itself and makes them process 1 of a place of their own (kestrel/internal/nested).
_INIT_FOLDERS = frozenset(
    map(PurePosixPath, ("/sbin", "/bin", "/lib/systemd", "/usr/sbin", "/usr/bin", "/usr/lib/systemd"))
)
_OVERLAY_MARKS = ("/package/admin/s6-overlay", "/etc/s6-overlay", "/etc/s6")
WANTS_TO_BE_INIT = "may want to be process 1, which the agent is"
INIT_ADVICE = f"if so, give the image a {KESTREL_CONFIG_PATH} with an exec entry that has init: true"


def is_unknown_init(program: str) -> bool:
    """Whether a command is an init system by its name that the agent does not know by its place."""
    path = PurePosixPath(program)
    return path.name in _INITS and path.parent not in _INIT_FOLDERS


def check_guest(tree: FileTree, config: ImageConfig, entrypoint: Sequence[str], monitor: Monitor) -> None:
    """Refuse a kestrel config that the agent would refuse; warn of what will not run."""
    node = find_file(tree, KESTREL_CONFIG_PATH)
    if node is not None:
        problems = check_kestrel_config(tree.read(node), f"{KESTREL_CONFIG_PATH} in the image")
        if problems is None:
            monitor.warn(f"{KESTREL_CONFIG_PATH} was not checked: {NOT_CHECKED}")
        elif problems:
            raise refuse(f"cannot use the image's {KESTREL_CONFIG_PATH}", problems)
    elif not (config.entrypoint or config.cmd or entrypoint):
        monitor.warn(
            "the image has no command and no kestrel config: the VM will boot and run nothing "
            f"(give CMD, {KESTREL_CONFIG_PATH} or workload.entrypoint)"
        )
    elif is_unknown_init(
        command := [*(entrypoint or config.entrypoint), *config.cmd][0]
    ) and not _has_s6_overlay(tree, command):
        monitor.warn(f"the image's command {command} {WANTS_TO_BE_INIT}: {INIT_ADVICE}")
    user = config.user.partition(":")[0]
    if user and not user.isdigit() and not _has_user(tree, user):
        monitor.warn(f"USER {user} is not in the image's /etc/passwd: its processes will not start")


def _has_s6_overlay(tree: FileTree, command: str) -> bool:
    return command == "/init" and any(tree.find(mark) is not None for mark in _OVERLAY_MARKS)


def _has_user(tree: FileTree, user: str) -> bool:
    node = find_file(tree, "/etc/passwd")
    if node is None:
        return False
    return any(line.startswith(os.fsencode(user) + b":") for line in tree.read(node).splitlines())


def check_kestrel_config(content: bytes, shown: str) -> list[Problem] | None:
    """What the agent itself says of a config; None where no agent is here that this machine can run."""
    machine: Architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "amd64"
    try:
        agent = find_agent(machine)
    except ToolMissing:
        return None
    with tempfile.NamedTemporaryFile(prefix="fledge-", suffix=".yaml") as copy:
        copy.write(content)
        copy.flush()
        try:
            answer = run_tool(
                [str(agent), "check-config", copy.name], accepted_exit_codes=(0, 1), timeout_seconds=20
            )
        except (ToolFailed, ToolMissing, OSError):
            return None
    problems: list[Problem] = []
    for line in answer.stdout.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        place = (int(said.get("line") or 0), int(said.get("column") or 0))
        problems.append(Problem(shown, *place, str(said.get("message")), str(said.get("resolution") or "")))
    return problems
