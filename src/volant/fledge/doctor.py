# SPDX-License-Identifier: Apache-2.0
"""fledge doctor: whether and how this machine builds images, each finding with its cure."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from volant.contract.finding import Finding
from volant.errors import VolantError
from volant.fledge.builders import Builder
from volant.fledge.builders.choose import GET_A_BUILDER, KINDS, Refusal, examine_builder
from volant.fledge.builders.machine import (
    find_obstacles,
    find_range,
    find_runtimes,
    is_rootless,
    read_user_name,
)
from volant.fledge.builders.running import run_builder
from volant.fledge.guest import find_architectures
from volant.fledge.scratch_folder import make_scratch_folder
from volant.fledge.spool import find_spool_folder
from volant.process import find_tool, run_tool
from volant.progress import Monitor

LOW_SPACE_BYTES = 4 << 30
PROBE_SECONDS = 60.0
RUN_FOLDER = "/tmp"  # noqa: S108  # a folder of mkdtemp's


def examine(monitor: Monitor) -> list[Finding]:
    """All findings. Steps are tried where this boot has not seen them run yet, which takes seconds."""
    folder = find_temporary_folder()
    if folder.state == "missing":
        return [folder]  # nothing can be tried without one
    tried = [examine_builder(kind, monitor, host_network=False) for kind in KINDS]
    builders = [found for found in tried if isinstance(found, Builder)]
    refusals = [found for found in tried if isinstance(found, Refusal)]
    findings = [find_chosen_builder(builders, refusals)]
    findings += [describe_steps(builder) for builder in builders]
    findings += [describe_storage(builder, monitor) for builder in builders if builder.storage_driver]
    findings += find_user_rights(is_needed=not builders)
    return [*findings, folder, find_agents(), find_fetcher()]


def find_chosen_builder(builders: list[Builder], refusals: list[Refusal]) -> Finding:
    why = "; ".join(map(str, refusals))
    if builders:
        names = ", then ".join(builder.name for builder in builders)
        return Finding("image builder", "ok", f"{names} ({why})" if why else names)
    cures = [refusal.cure for refusal in refusals if refusal.cure]
    install = "" if any(refusal.is_installed for refusal in refusals) else GET_A_BUILDER
    cure = cures[-1] if cures else install or "see above"
    return Finding("image builder", "missing", f"Dockerfiles cannot be built: {why}", cure)


def describe_steps(builder: Builder) -> Finding:
    subject = f"steps of {builder.name}"
    if builder.isolation == "chroot":
        return Finding(subject, "limited", f"in a chroot: {builder.isolation_fact}", builder.isolation_cure)
    runtime = f", by {find_runtimes()[0]}" if builder.name != "docker" and find_runtimes() else ""
    return Finding(subject, "ok", f"in containers{runtime}")


def describe_storage(builder: Builder, monitor: Monitor) -> Finding:
    subject = f"storage of {builder.name}"
    if not builder.copies_layers:
        return Finding(subject, "ok", builder.storage_driver)
    fact = "vfs, which copies the whole image for every step"
    switch = 'set [storage] driver = "overlay" in ~/.config/containers/storage.conf, then '
    # podman's database keeps the driver; buildah only has images of the old one left.
    switch += "podman system reset" if builder.name == "podman" else "make the base images again"
    if can_use_overlay(builder, monitor):
        return Finding(subject, "limited", f"{fact}, though overlay works", switch)
    if find_tool("fuse-overlayfs") is None:
        return Finding(subject, "limited", fact, f"sudo apt-get install fuse-overlayfs; {switch}")
    return Finding(subject, "limited", f"{fact}; overlay does not work here", "let this user open /dev/fuse")


def can_use_overlay(builder: Builder, monitor: Monitor) -> bool:
    """Whether overlay storage works for this user, found out with a store of its own."""
    with ExitStack() as stack:
        name = make_scratch_folder(stack)
        # podman refuses a path of more than 50 characters for its runtime files.
        run = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="fledge-", dir=RUN_FOLDER, ignore_cleanup_errors=True)
        )
        place = ["--root", f"{name}/root", "--runroot", run, "--storage-driver", "overlay"]
        command = [builder.program, *place, "info"]
        code = run_builder(builder, command, lambda line: None, monitor, limit_seconds=PROBE_SECONDS)
        if os.geteuid() == 0:
            # Both leave a mount of the folder on itself.
            run_tool(["umount", "--lazy", f"{name}/root/overlay"], accepted_exit_codes=range(256))
        return code == 0


def find_user_rights(*, is_needed: bool) -> Iterator[Finding]:
    """User namespaces and ids, where podman and buildah need them. `is_needed`: nothing builds without."""
    if not is_rootless():
        return
    obstacles = find_obstacles()
    for obstacle in obstacles:
        yield Finding(obstacle.subject, "missing" if is_needed else "limited", obstacle.fact, obstacle.cure)
    if not obstacles:
        user = read_user_name()
        found = find_range(Path("/etc/subuid"), user)
        yield Finding(
            "user ids", "ok", f"{found[1]} from {found[0]} for {user}" if found else "this user's own"
        )


def find_temporary_folder() -> Finding:
    try:
        folder = find_spool_folder()
        with tempfile.TemporaryFile(dir=folder):
            pass
    except VolantError as error:
        return Finding("temporary files", "missing", error.what, error.resolution)
    except OSError as error:
        return Finding("temporary files", "missing", f"none can be made: {error.strerror}", "set TMPDIR")
    free = shutil.disk_usage(folder).free
    fact = f"{folder}, {free >> 30} GiB free"
    if free < LOW_SPACE_BYTES:
        return Finding("temporary files", "limited", fact, "free some space, or set TMPDIR")
    if not os.environ.get("TMPDIR") and str(folder) != "/var/tmp":  # noqa: S108  # a name, not a file
        return Finding("temporary files", "limited", f"{fact}; /var/tmp cannot be written", "set TMPDIR")
    return Finding("temporary files", "ok", fact)


def find_agents() -> Finding:
    try:
        return Finding("agent", "ok", ", ".join(find_architectures()))
    except VolantError as error:
        return Finding("agent", "missing", error.what, error.resolution)


def find_fetcher() -> Finding:
    found = find_tool("skopeo")
    if found is None:
        return Finding("skopeo", "limited", "not installed: --image cannot be used", "apt-get install skopeo")
    return Finding("skopeo", "ok", found)
