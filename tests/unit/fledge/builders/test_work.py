# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.played_builders import play
from support.remembering_monitor import RememberingMonitor
from volant.errors import StorageFull, ToolFailed, ToolMissing
from volant.fledge.builders import BuildRequest, export_image, make_image
from volant.progress import SilentMonitor


def request(home: Path, **fields: object) -> BuildRequest:
    return BuildRequest(home / "Dockerfile", home, **fields)  # type: ignore[arg-type]


def test_what_podman_is_asked_for(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path
) -> None:
    builder = play(
        bin_folder,
        "podman",
        f'echo "$@" > {tmp_path}/asked; env > {tmp_path}/env; echo sha256:1 > {tmp_path}/image-id',
    )
    asked = request(
        home, target="last", platform="linux/arm64", build_args={"TOKEN": "s3cret", "PATH": "/x"}, host_network=True,
        extra_contexts={"kestrel": home}, ignore_file=home / "i",
    )  # fmt: skip
    assert make_image(builder, asked, tmp_path, monitor) == "sha256:1"
    arguments = (tmp_path / "asked").read_text()
    for part in (
        "build --format docker", " --layers ", "--force-rm", "--target last", "--platform linux/arm64",
        "--network host",
        f"--build-context kestrel={home}", f"--ignorefile {home}/i", "--build-arg TOKEN ", "--build-arg PATH=/x",
    ):  # fmt: skip
        assert part in arguments, part
    assert "s3cret" not in arguments
    assert "TOKEN=s3cret" in (tmp_path / "env").read_text()
    assert "--timestamp" not in arguments


def test_a_given_epoch_is_passed_on(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    builder = play(bin_folder, "buildah", f'echo "$@" > {tmp_path}/asked; echo 1 > {tmp_path}/image-id')
    make_image(builder, request(home), tmp_path, monitor)
    assert (tmp_path / "asked").read_text().startswith("bud --format docker")
    assert "--timestamp 1700000000" in (tmp_path / "asked").read_text()


def test_docker_with_and_without_buildx(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path
) -> None:
    script = f'test "$1 $2" = "buildx version" && exit {{}}; echo "$@" > {tmp_path}/asked; echo 1 > {tmp_path}/image-id'
    make_image(play(bin_folder, "docker", script.format(0)), request(home), tmp_path, monitor)
    assert (tmp_path / "asked").read_text().startswith("buildx build --load")
    old = play(bin_folder, "docker", script.format(1))
    make_image(old, request(home), tmp_path, monitor)
    assert (tmp_path / "asked").read_text().startswith("build --file")
    with pytest.raises(ToolMissing, match="needs docker's buildx"):
        make_image(old, request(home, extra_contexts={"kestrel": home}), tmp_path, monitor)
    with pytest.raises(ToolMissing, match=r"does not read Dockerfile\.dockerignore"):
        make_image(old, request(home, ignore_file=home / "Dockerfile.dockerignore"), tmp_path, monitor)


def test_a_failing_step_is_named_and_secrets_are_not_told(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path
) -> None:
    builder = play(
        bin_folder, "podman",
        "echo 'STEP 1/2: FROM x'; echo 'STEP 2/2: RUN make all'; echo got $API_KEY; echo 'make: no rule' >&2\n"
        "echo 'Error: building at STEP \"RUN make all\": exit status 2'; exit 2",
    )  # fmt: skip
    for listener in (monitor, SilentMonitor()):
        with pytest.raises(ToolFailed) as caught:
            make_image(builder, request(home, build_args={"API_KEY": "hunter2"}), tmp_path, listener)
        assert caught.value.what == "cannot build Dockerfile: step 'RUN make all' failed (exit status 2)"
        assert "hunter2" not in str(caught.value) + monitor.text
        told = monitor.text + "\n" + str(caught.value) if listener is monitor else str(caught.value)
        # Told once: as it comes where somebody sees it come, in the error otherwise.
        for line in ("STEP 2/2: RUN make all\n", "got ***\n", "make: no rule\n"):
            assert told.count(line) == 1, told
    assert "building at STEP" not in monitor.text + str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "The command '/bin/sh -c make all' returned a non-zero code: 2",
            "step 'RUN make all' failed (exit status 2)",
        ),
        (
            'ERROR: failed to solve: process "/bin/sh -c make all" did not complete successfully: exit code: 2',
            "step 'RUN make all' failed (exit code: 2)",
        ),
        ("Error: something else", "podman ended with exit code 1"),
    ],
)
def test_how_each_builder_tells_its_failing_step(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path, line: str, expected: str
) -> None:
    (tmp_path / "told").write_text(line)
    builder = play(bin_folder, "podman", f"cat {tmp_path}/told; exit 1")
    with pytest.raises(ToolFailed) as caught:
        make_image(builder, request(home), tmp_path, monitor)
    assert caught.value.what == f"cannot build Dockerfile: {expected}"


@pytest.mark.parametrize(
    "line",
    [
        "Error: creating build container: initializing source docker://busybox:1.36: pinging container registry",
        "pull access denied for nosuch, repository does not exist or may require 'docker login'",
        "ERROR: failed to solve: nosuch:1: failed to resolve source metadata for docker.io/library/nosuch:1",
    ],
)
def test_a_base_that_cannot_be_had_is_what_to_look_at(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path, line: str
) -> None:
    (tmp_path / "told").write_text(line)
    with pytest.raises(ToolFailed) as caught:
        make_image(
            play(bin_folder, "podman", f"cat {tmp_path}/told; exit 125"), request(home), tmp_path, monitor
        )
    assert "base image's name" in caught.value.resolution


def test_a_machine_that_has_changed_since_the_trial_costs_one_more_build(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path
) -> None:
    builder = play(
        bin_folder, "buildah",
        f'echo "$asked" >> {tmp_path}/runs\n'
        'case "$asked" in *"--isolation chroot"*) echo 1 > $image; exit 0;; esac\n'
        "echo 'no more containers'; exit 1",
    )  # fmt: skip
    with pytest.raises(ToolFailed):
        make_image(builder, request(home), tmp_path, monitor)
    assert make_image(replace(builder, is_remembered=True), request(home), tmp_path, monitor) == "1"
    assert "steps no longer run here as they did; building again" in monitor.text


def test_a_step_that_fails_for_itself_is_not_run_again(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path
) -> None:
    builder = play(
        bin_folder, "buildah",
        'case "$asked" in rmi*|info*) exit 0;; *trial-*) echo 1 > $image; exit 0;; esac\n'
        f'echo run >> {tmp_path}/runs; exit 1',
    )  # fmt: skip
    with pytest.raises(ToolFailed):
        make_image(replace(builder, is_remembered=True), request(home), tmp_path, monitor)
    assert (tmp_path / "runs").read_text() == "run\n"


def test_progress_for_terminals_is_left_out(
    bin_folder: Path, home: Path, monitor: RememberingMonitor, tmp_path: Path
) -> None:
    script = (
        "printf '(Reading 5%%\\r\\033[91m(Reading done\\033[0m\\n'; echo '     0K .......... ..........  1%  289M 0s'\n"
        f"echo 1 > {tmp_path}/image-id"
    )
    make_image(play(bin_folder, "podman", script), request(home), tmp_path, monitor)
    assert monitor.lines == ["  (Reading done"]


def test_a_full_disk_has_its_own_error(bin_folder: Path, tmp_path: Path) -> None:
    builder = play(bin_folder, "podman", "echo 'write x: no space left on device' >&2; exit 125")
    with pytest.raises(StorageFull, match="cannot take the built image out of podman"):
        export_image(builder, "sha256:1", tmp_path / "image.tar", SilentMonitor())
