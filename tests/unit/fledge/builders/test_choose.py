# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.played_builders import play, write_program
from support.remembering_monitor import RememberingMonitor
from volant.errors import ToolMissing
from volant.fledge.builders import find_builder

pytestmark = pytest.mark.usefixtures("home")
# What a builder that works does: it leaves an image, and names its storage driver when asked for it.
WORKS = 'case "$asked" in info*) echo overlay;; *) test -z "$image" || echo 1 > $image;; esac'
WORKS_IN_A_CHROOT = (
    'case "$asked" in info*) echo vfs;; *"--isolation chroot"*) echo 1 > $image;; rmi*) ;; '
    "*) echo 'anything at all, in any wording' >&2; exit 1;; esac"
)
REFUSES = "echo 'not here' >&2; exit 1"


def test_the_first_that_runs_a_step_is_taken_and_the_others_are_explained(
    bin_folder: Path, monitor: RememberingMonitor
) -> None:
    play(bin_folder, "docker", "echo; echo 'Cannot connect to the daemon' >&2; exit 1")
    play(bin_folder, "buildah", WORKS)
    found = find_builder("auto", monitor)
    assert (found.name, found.isolation, found.copies_layers) == ("buildah", "configured", False)
    assert found.note == "docker: Cannot connect to the daemon; podman: not installed"


def test_docker_comes_first_when_it_runs_a_step(bin_folder: Path, monitor: RememberingMonitor) -> None:
    play(bin_folder, "docker", WORKS)
    play(bin_folder, "podman", WORKS)
    assert (find_builder("auto", monitor).name, find_builder("podman", monitor).name) == ("docker", "podman")


def test_a_daemon_that_answers_and_runs_nothing_is_passed_over(
    bin_folder: Path, monitor: RememberingMonitor
) -> None:
    play(bin_folder, "docker", 'case "$asked" in info*) echo 27.0;; *) echo no cgroups >&2; exit 1;; esac')
    play(bin_folder, "podman", WORKS)
    found = find_builder("auto", monitor)
    assert (found.name, found.note) == ("podman", "docker: its daemon runs no step here: no cgroups")


def test_a_client_that_exits_0_without_a_server_does_not_answer(
    bin_folder: Path, monitor: RememberingMonitor
) -> None:
    play(bin_folder, "docker", "echo ''; echo 'permission denied on the socket' >&2; exit 0")
    with pytest.raises(ToolMissing, match="no image builder works on this machine") as caught:
        find_builder("auto", monitor)
    assert caught.value.details[0] == "docker: permission denied on the socket"
    with pytest.raises(ToolMissing, match="docker cannot be used"):
        find_builder("docker", monitor)


def test_steps_run_in_a_chroot_where_they_run_no_other_way(
    bin_folder: Path, monitor: RememberingMonitor
) -> None:
    play(bin_folder, "buildah", WORKS_IN_A_CHROOT)
    found = find_builder("buildah", monitor)
    assert (found.isolation, found.copies_layers) == ("chroot", True)
    assert found.describe() == (
        "buildah, steps in a chroot: no container runtime is installed (containers: apt-get install crun)"
    )
    write_program(bin_folder / "runc")
    assert "runc makes no container here: anything at all" in find_builder("buildah", monitor).describe()


def test_where_nothing_runs_one_line_says_what_to_install(
    bin_folder: Path, monitor: RememberingMonitor
) -> None:
    with pytest.raises(ToolMissing) as caught:
        find_builder("auto", monitor)
    assert caught.value.resolution.startswith("apt-get install buildah crun uidmap fuse-overlayfs; or build")
    play(bin_folder, "podman", REFUSES)
    with pytest.raises(ToolMissing) as caught:
        find_builder("podman", monitor)
    assert caught.value.details == ("podman: no container runtime is installed",)
    assert caught.value.resolution == "apt-get install crun"
