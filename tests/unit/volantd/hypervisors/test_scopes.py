# SPDX-License-Identifier: Apache-2.0
"""What systemd is asked for, by a program that plays busctl; systemd itself is asked by `make test-shutdown`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from volant.contract.finding import Finding
from volant.process import find_tool
from volant.volantd import doctor
from volant.volantd.hypervisors import groups, scopes
from volant.volantd.hypervisors.base import VmSpec

SPEC = VmSpec(
    id="1f", name="web", architecture="amd64", machine="q35", accelerator="kvm", vcpu=2, memory_mb=256, disks=(),
    nics=(), socket_folder=Path("/vm"), console_log=Path("/vm/log"), hypervisor_log=Path("/vm/log"),
)  # fmt: skip
MANAGER_GROUP = "user.slice/user-1000.slice/user@1000.service"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[list[str]]]]:
    """A user whose manager may share out what systemd gives by default; returns what busctl was told since."""
    group = tmp_path / "cgroup" / MANAGER_GROUP
    group.mkdir(parents=True)
    (group / "cgroup.controllers").write_text("cpu memory pids\n")
    monkeypatch.setattr(scopes, "ROOT", tmp_path / "cgroup")
    (tmp_path / "systemd").mkdir()
    monkeypatch.setattr(groups, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    told = tmp_path / "told"
    told.touch()
    busctl = tmp_path / "busctl"
    busctl.write_text(
        f"""#!/bin/sh
for word in "$@"; do printf '[%s]\\n' "$word"; done >>{told}; echo >>{told}
test -e {tmp_path}/refused && exit 1
case "$*" in *get-property*) echo 's "/{MANAGER_GROUP}"';; esac
"""
    )
    busctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def take() -> list[list[str]]:
        text = told.read_text()
        told.write_text("")
        calls = text.removesuffix("\n\n").split("\n\n")
        return [[word[1:-1] for word in call.splitlines()] for call in calls if call]

    scopes.find_controllers.cache_clear()
    groups.find_parent.cache_clear()
    yield take
    scopes.find_controllers.cache_clear()
    groups.find_parent.cache_clear()


def test_a_vm_becomes_a_scope_with_its_limits_and_its_network_joins(
    calls: Callable[[], list[list[str]]],
) -> None:
    assert groups.find_obstacle() is None
    assert groups.make_group(SPEC) is None
    calls()
    groups.enter_group(SPEC, 41)
    groups.join_group("1f", 41, [42, 43])
    begin = ["--user", "--quiet", "call", *scopes.MANAGER]
    started, joined = calls()
    assert started == [
        *begin, "StartTransientUnit", "ssa(sv)a(sa(sv))", "volant-1f-41.scope", "fail", "11",
        "Description", "s", "Volant VM web", "Slice", "s", "volant.slice",
        "Before", "as", "1", "volant-shutdown.service", "CollectMode", "s", "inactive-or-failed",
        "Delegate", "b", "true",
        "PIDs", "au", "1", "41", "CPUQuotaPerSecUSec", "t", "3000000", "CPUWeight", "t", "200",
        "MemoryMax", "t", str(768 << 20), "TasksMax", "t", "514", "IOWeight", "t", "100", "0",
    ]  # fmt: skip
    assert joined == [
        *begin,
        "AttachProcessesToUnit",
        "ssau",
        "volant-1f-41.scope",
        "",
        "2",
        "42",
        "43",
    ]


def test_the_doctor_says_what_a_users_manager_was_not_given(
    calls: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    (found,) = doctor.find_limits()
    assert (found.state, "systemd --user has no io to give" in found.fact) == ("ok", True)
    assert "Delegate=cpu io memory pids" in found.mend
    controllers = tmp_path / "cgroup" / MANAGER_GROUP / "cgroup.controllers"
    controllers.write_text("cpu io memory pids\n")
    scopes.find_controllers.cache_clear()
    assert doctor.find_limits() == [Finding("limits", "ok", "a control group with limits for each VM")]
    controllers.write_text("memory pids\n")
    scopes.find_controllers.cache_clear()
    assert "systemd --user has no cpu to give" in doctor.find_limits()[0].fact


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda host: (host / "refused").touch(), "systemd --user cannot be asked: loginctl enable-linger"),
        (lambda host: (host / "busctl").unlink(), "busctl is not installed"),
        (lambda host: (host / "cgroup" / MANAGER_GROUP / "cgroup.controllers").unlink(), "no control groups"),
    ],
)
def test_where_nobody_can_be_asked_vms_start_without_limits(
    calls: Callable[[], list[list[str]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    reason: str,
) -> None:
    change(tmp_path)
    monkeypatch.setattr(
        scopes, "find_tool", lambda name: find_tool(name) if (tmp_path / name).exists() else None
    )
    assert reason in str(groups.find_obstacle())
    groups.enter_group(SPEC, 41)
    groups.join_group("1f", 41, [42])
    assert not [call for call in calls() if "call" in call]
    assert reason in doctor.find_limits()[0].fact


def test_a_systemd_that_refuses_keeps_no_vm_from_running(
    calls: Callable[[], list[list[str]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert groups.find_obstacle() is None
    (tmp_path / "refused").touch()
    groups.enter_group(SPEC, 41)
    assert "VM web has no limits" in caplog.text
