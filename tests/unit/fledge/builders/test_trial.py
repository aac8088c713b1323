# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.played_builders import play, write_program
from support.remembering_monitor import RememberingMonitor
from volant.fledge.builders import trial as module
from volant.fledge.builders.trial import try_step

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def script(tmp_path: Path) -> str:
    """Works in a chroot only, and counts how often a step is tried."""
    return (
        f'case "$asked" in info*) echo overlay;; rmi*) echo "$asked" >> {tmp_path}/removed;; '
        f'*) echo run >> {tmp_path}/runs; case "$asked" in *chroot*) echo 1 > $image;; *) exit 1;; esac;; esac'
    )


def count(tmp_path: Path) -> int:
    return (tmp_path / "runs").read_text().count("run")


def test_a_trial_is_remembered_until_something_changes(
    bin_folder: Path,
    tmp_path: Path,
    script: str,
    monitor: RememberingMonitor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    builder = play(bin_folder, "buildah", script)
    first = try_step(builder, tmp_path, monitor, host_network=False)
    assert (first.isolation, first.storage_driver, first.is_remembered) == ("chroot", "overlay", False)
    assert count(tmp_path) == 2
    assert (tmp_path / "removed").read_text() == "rmi --force 1\n"
    again = try_step(builder, tmp_path, monitor, host_network=False)
    assert again == type(first)(first.isolation, first.fact, first.cure, first.storage_driver, True)
    assert count(tmp_path) == 2
    # Another network, an installed runtime, another setting, another boot: each is another machine.
    try_step(builder, tmp_path, monitor, host_network=True)
    assert count(tmp_path) == 4
    write_program(bin_folder / "crun")
    try_step(builder, tmp_path, monitor, host_network=False)
    assert count(tmp_path) == 6
    monkeypatch.setenv("STORAGE_DRIVER", "vfs")
    try_step(builder, tmp_path, monitor, host_network=False)
    assert count(tmp_path) == 8
    monkeypatch.setattr(module, "_read_boot", lambda: "another")
    try_step(builder, tmp_path, monitor, host_network=False)
    assert count(tmp_path) == 10


def test_a_trial_that_fails_is_not_remembered(
    bin_folder: Path, tmp_path: Path, monitor: RememberingMonitor
) -> None:
    builder = play(bin_folder, "buildah", f"echo run >> {tmp_path}/runs; exit 1")
    for _ in range(2):
        assert try_step(builder, tmp_path, monitor, host_network=False).isolation is None
    assert count(tmp_path) == 4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("trial")] == []


@pytest.mark.parametrize("document", ["", "{", "[]", '{"boot": 1}', '{"boot": "B", "trials": {"k": 1}}'])
def test_a_damaged_memory_costs_another_trial(
    bin_folder: Path, tmp_path: Path, script: str, monitor: RememberingMonitor, document: str
) -> None:
    builder = play(bin_folder, "buildah", script)
    memory = Path(os.environ["VOLANT_HOME"], "cache/fledge/trials.json")
    memory.parent.mkdir(parents=True)
    memory.write_text(document.replace("B", module._read_boot()))
    assert try_step(builder, tmp_path, monitor, host_network=False).isolation == "chroot"
    assert json.loads(memory.read_text())["trials"]


def test_an_isolation_that_a_person_named_is_the_only_one_tried(
    bin_folder: Path,
    tmp_path: Path,
    script: str,
    monitor: RememberingMonitor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BUILDAH_ISOLATION", "oci")
    assert (
        try_step(play(bin_folder, "buildah", script), tmp_path, monitor, host_network=False).isolation is None
    )
    assert count(tmp_path) == 1
