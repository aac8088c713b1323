# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.remembering_monitor import RememberingMonitor
from volant.contract.finding import Finding
from volant.fledge import doctor as module
from volant.fledge.builders.choose import GET_A_BUILDER, Refusal
from volant.fledge.builders.containers import Buildah, Podman
from volant.fledge.builders.machine import Obstacle

ABSENT = Refusal("docker", "not installed", is_installed=False)


def test_the_builders_that_work_are_named_in_their_order() -> None:
    found = module.find_chosen_builder([Podman("/bin/podman"), Buildah("/bin/buildah")], [ABSENT])
    assert found == Finding("image builder", "ok", "podman, then buildah (docker: not installed)")


def test_without_one_the_cure_is_that_of_the_one_that_is_installed() -> None:
    assert module.find_chosen_builder([], [ABSENT]).mend == GET_A_BUILDER
    refused = Refusal("buildah", "newuidmap is not installed", "sudo apt-get install uidmap")
    found = module.find_chosen_builder([], [ABSENT, refused])
    assert (found.state, found.mend) == ("missing", "sudo apt-get install uidmap")


def test_a_chroot_and_copying_storage_are_limits(
    monitor: RememberingMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = Buildah(
        "/bin/buildah", isolation="chroot", isolation_fact="no runtime", isolation_cure="get one"
    )
    assert module.describe_steps(builder) == Finding(
        "steps of buildah", "limited", "in a chroot: no runtime", "get one"
    )
    vfs = replace(builder, storage_driver="vfs")
    monkeypatch.setattr(module, "can_use_overlay", lambda *_: False)
    monkeypatch.setattr(module, "find_tool", lambda name: None)
    assert module.describe_storage(vfs, monitor).mend.startswith("sudo apt-get install fuse-overlayfs; set")
    monkeypatch.setattr(module, "find_tool", lambda name: f"/bin/{name}")
    assert module.describe_storage(vfs, monitor).mend == "let this user open /dev/fuse"
    monkeypatch.setattr(module, "can_use_overlay", lambda *_: True)
    assert module.describe_storage(vfs, monitor).fact.endswith("for every step, though overlay works")
    podman = Podman("/bin/podman", storage_driver="vfs")
    assert module.describe_storage(podman, monitor).mend.endswith("then podman system reset")


def test_rights_of_users_are_missing_only_where_nothing_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_rootless", lambda: True)
    monkeypatch.setattr(module, "find_obstacles", lambda: [Obstacle("user ids", "none", "get some")])
    assert [finding.state for finding in module.find_user_rights(is_needed=True)] == ["missing"]
    assert [finding.state for finding in module.find_user_rights(is_needed=False)] == ["limited"]


def test_nothing_is_tried_without_a_place_for_temporary_files(
    tmp_path: Path, monitor: RememberingMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spool_folder", lambda: tmp_path / "gone")
    findings = module.examine(monitor)
    assert [(finding.subject, finding.state) for finding in findings] == [("temporary files", "missing")]
