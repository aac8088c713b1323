# SPDX-License-Identifier: Apache-2.0
"""The real podman and buildah on machines that lack what they need: a build, or one line that says what to install."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.bare_machine import USER_ID, BareMachine, find_processes, fledge_command, give_to_user, make_home
from support.docker_daemon import unpack_docker

TOOLS = ("podman", "buildah", "busybox", "unshare", "setpriv", "newuidmap")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root hides programs in a namespace"),
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
]
DOCKERFILE = """\
FROM scratch
COPY busybox /bin/sh
RUN echo built > /greeting
CMD ["/bin/sh"]
"""
NO_RUNTIME = ("crun", "runc")


def write_project(folder: Path) -> Path:
    (folder / "web").mkdir()
    (folder / "web" / "Dockerfile").write_text(DOCKERFILE)
    shutil.copy(str(shutil.which("busybox")), folder / "web" / "busybox")
    return folder


@pytest.fixture
def home() -> Iterator[Path]:
    with make_home() as folder:
        yield write_project(folder)


@pytest.fixture
def user(home: Path) -> BareMachine:
    (home / "tmp").mkdir()
    give_to_user(home)
    return BareMachine(home, is_user=True, extra=(("TMPDIR", str(home / "tmp")),))


def test_without_a_runtime_the_first_build_of_a_fresh_machine_works(home: Path) -> None:
    machine = BareMachine(home, hidden=NO_RUNTIME)
    done = machine.fledge("build", ".", "--builder", "buildah", cwd=home / "web")
    assert done.returncode == 0, done.stderr
    said = "buildah, steps in a chroot: no container runtime is installed (containers: apt-get install crun)"
    assert f"builder: {said}\n" in done.stderr
    assert (home / "web" / "web.tar.gz").is_file()
    # podman itself wants a runtime even for `info`: it is passed over, or refused with what to install.
    assert machine.fledge("builder").stdout == "buildah\n"
    refused = machine.fledge("build", ".", "--builder", "podman", cwd=home / "web")
    assert refused.returncode == 7
    assert refused.stderr.endswith(
        "error: cannot build the Dockerfile: podman cannot be used\n"
        "  podman: no container runtime is installed\ntry: apt-get install crun\n"
    )


def test_a_runtime_that_works_is_used(home: Path) -> None:
    """runc makes containers where crun does not (control groups in hybrid mode, as on build machines)."""
    programs = home / "programs"
    programs.mkdir()
    shutil.copy(unpack_docker() / "usr" / "sbin" / "runc", programs / "runc")
    path = ("PATH", f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin")
    machine = BareMachine(home, hidden=("crun", "podman"), extra=(path,))
    done = machine.fledge("build", ".", cwd=home / "web")
    assert done.returncode == 0, done.stderr
    assert "builder: buildah (" in done.stderr
    assert "chroot" not in done.stderr
    # Without it the next build goes another way, at once.
    (programs / "runc").unlink()
    done = machine.fledge("build", ".", cwd=home / "web")
    assert "builder: buildah, steps in a chroot: no container runtime is installed" in done.stderr
    assert done.returncode == 0, done.stderr


def test_an_ordinary_user_builds_and_leaves_nothing(user: BareMachine) -> None:
    for builder in ("buildah", "podman"):
        done = user.fledge("build", ".", "--builder", builder, "--no-cache", cwd=user.folder / "web")
        assert done.returncode == 0, done.stderr
        assert user.run(builder, "images", "--quiet").stdout.split() != []
    assert user.run("buildah", "ps", "--all", "--quiet").stdout == ""
    doctor = user.fledge("doctor", "--output", "json")
    assert doctor.returncode == 0, doctor.stderr
    found = {finding["subject"]: (finding["state"], finding["fact"]) for finding in json.loads(doctor.stdout)}
    assert found["user ids"] == ("ok", "65536 from 200000 for volant-bare")
    # Debian's packages give a user vfs; what the doctor says of it is true, and its cure works.
    assert found["storage of buildah"] == found["storage of podman"]
    assert found["storage of podman"] == (
        "limited",
        "vfs, which copies the whole image for every step, though overlay works",
    )
    settings = user.folder / ".config" / "containers" / "storage.conf"
    settings.parent.mkdir(parents=True)
    settings.write_text('[storage]\ndriver = "overlay"\n')
    user.run("podman", "system", "reset", "--force")
    findings: list[dict[str, Any]] = json.loads(user.fledge("doctor", "-o", "json").stdout)
    stores = {finding["subject"]: finding for finding in findings}
    assert [stores[f"storage of {builder}"]["fact"] for builder in ("podman", "buildah")] == [
        "overlay",
        "overlay",
    ]


@pytest.mark.parametrize(
    ("changes", "fact", "cure"),
    [
        ({"hidden": ("newuidmap",)}, "newuidmap is not installed", "try: sudo apt-get install uidmap"),
        ({"subids": ""}, "/etc/subuid gives volant-bare no 65536 ids", "try: sudo usermod --add-subuids 100000-165535"),
        ({"subids": "200000:100"}, "/etc/subuid gives volant-bare no 65536 ids", "--add-subuids 200100-265635"),
        (
            {"has_user_namespaces": False}, "this user may not make user namespaces",
            "try: sudo sysctl -w user.max_user_namespaces=15000",
        ),
    ],
)  # fmt: skip
def test_what_an_ordinary_user_lacks_is_named_with_its_cure(
    user: BareMachine, changes: dict[str, object], fact: str, cure: str
) -> None:
    machine = replace(user, **changes)  # type: ignore[arg-type]
    done = machine.fledge("build", ".", "--builder", "buildah", cwd=user.folder / "web")
    assert done.returncode == 7, done.stderr
    assert f"\n  buildah: {fact}" in done.stderr
    assert cure in done.stderr
    assert not (user.folder / "web" / "web.tar.gz").exists()
    doctor = machine.fledge("doctor", "--output", "json")
    assert doctor.returncode == 1
    missing = [finding for finding in json.loads(doctor.stdout) if finding["state"] == "missing"]
    assert missing[0]["subject"] == "image builder"
    assert missing[1]["subject"].startswith("user ")
    assert missing[1]["fact"] == fact
    assert missing[0]["mend"] == missing[1]["mend"]
    assert cure.removeprefix("try: ") in missing[1]["mend"]
    assert list((user.folder / "tmp").iterdir()) == []


def test_folders_of_somebody_else_are_not_in_the_way(user: BareMachine) -> None:
    """`sudo -u` keeps root's runtime folder, and /var/tmp is not everybody's everywhere."""
    machine = replace(user, extra=(("XDG_RUNTIME_DIR", "/root"),), read_only="/var/tmp")
    before = set(Path("/tmp").iterdir())
    for builder in ("buildah", "podman", "podman"):
        done = machine.fledge("build", ".", "--builder", builder, "--no-cache", cwd=user.folder / "web")
        assert done.returncode == 0, done.stderr
    kept = Path(f"/tmp/podman-run-{USER_ID}")
    left = [path for path in set(Path("/tmp").iterdir()) - before if path.stat().st_uid == USER_ID]
    assert set(left) <= {kept}
    # podman keeps one process for a user, not one for each build.
    assert len(find_processes(user.folder)) <= 1
    shutil.rmtree(kept, ignore_errors=True)


def test_a_store_in_use_is_waited_for_with_a_word(home: Path) -> None:
    machine = BareMachine(home, hidden=("podman",))
    assert machine.fledge("builder").stdout == "buildah\n"
    shutil.rmtree(home / "volant")
    with ExitStack() as stack:
        for path in [*(home / "graph").glob("*.lock"), *(home / "graph").glob("*/*.lock")]:
            fcntl.lockf(stack.enter_context(path.open("r+")), fcntl.LOCK_EX)
        process = subprocess.Popen(
            machine.command(*fledge_command(), "builder"), cwd=home, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline() == "try a step with buildah ...\n"
        word = process.stderr.readline()
        assert word.startswith(f"buildah is busy: process {os.getpid()} ("), word
        stack.close()
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "buildah\n"), err


@pytest.mark.parametrize(("builder", "number"), [("buildah", signal.SIGTERM), ("podman", signal.SIGHUP)])
def test_an_interrupted_build_of_a_user_leaves_no_container(
    user: BareMachine, builder: str, number: signal.Signals
) -> None:
    (user.folder / "web" / "Dockerfile").write_text(f"{DOCKERFILE}RUN echo now sleeping; sleep 120\n")
    command = user.command(*fledge_command(), "build", ".", "--builder", builder)
    with subprocess.Popen(command, cwd=user.folder / "web", text=True, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("  now sleeping"):
                break
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(timeout=60) == 128 + number
    assert user.run("buildah", "ps", "--all", "--quiet").stdout == ""
    assert list((user.folder / "tmp").iterdir()) == []
