# SPDX-License-Identifier: Apache-2.0
"""Limits of VMs, on a folder that plays the kernel's; the kernel itself is asked by `make test-kvm`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.volantd.hypervisors import groups
from volant.volantd.hypervisors.base import EndKind, VmSpec
from volant.volantd.hypervisors.endings import KnownEnd
from volant.volantd.hypervisors.host_process import ExitStatus
from volant.volantd.hypervisors.qemu_ending import explain_end

SPEC = VmSpec(
    id="1f", name="web", architecture="amd64", machine="q35", accelerator="kvm", vcpu=2, memory_mb=256, disks=(),
    nics=(), socket_folder=Path("/vm"), console_log=Path("/vm/log"), hypervisor_log=Path("/vm/log"),
)  # fmt: skip


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own").write_text("9:name=systemd:/\n0::/\n")
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    monkeypatch.setattr(groups, "ROOT", tmp_path)
    monkeypatch.setattr(groups, "OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(groups, "SYSTEMD", tmp_path / "systemd")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    groups.find_parent.cache_clear()
    groups.enter_group(SPEC, 41)  # without systemd nobody is asked
    yield tmp_path
    groups.find_parent.cache_clear()


def test_a_vm_has_a_group_with_its_limits(host: Path) -> None:
    group = groups.make_group(SPEC)
    assert group == host / "volant" / "1f"
    assert (host / "volant" / "cgroup.subtree_control").read_text() == "+cpu +memory +pids +io"
    assert {path.name: path.read_text() for path in group.iterdir()} == {
        "cpu.max": "300000 100000", "cpu.weight": "200", "memory.max": str(768 << 20), "memory.oom.group": "1",
        "pids.max": "514",
    }  # fmt: skip
    groups.join_group("1f", 41, [41, 42])
    assert (group / "cgroup.procs").read_text() == "42"
    groups.join_group("none", 41, [41])


def test_what_the_kernel_ended_for_memory_is_told(host: Path) -> None:
    group = groups.make_group(SPEC)
    assert group is not None
    assert not groups.was_killed_for_memory("1f")
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 1\n")
    assert groups.was_killed_for_memory("1f")
    end = explain_end(KnownEnd(ExitStatus(signal="SIGKILL"), memory_full=True), "")
    assert (end.kind, "more memory than its limit" in end.reason) == (EndKind.CRASHED, True)


def test_idle_groups_go_and_files_stay(host: Path) -> None:
    parent = host / "volant"
    (parent / "idle").mkdir(parents=True)
    (parent / "cgroup.procs").touch()
    groups.remove_idle(parent)
    assert [path.name for path in parent.iterdir()] == ["cgroup.procs"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda host: (host / "cgroup.controllers").unlink(), "no control groups of version 2"),
        (lambda host: (host / "cgroup.controllers").write_text("cpu pids io"), "have no memory"),
        (lambda host: (host / "own").write_text("0::/docker/1f\n"), "runs in the control group /docker/1f"),
        (lambda host: (host / "volant").touch(), ""),
    ],
)
def test_where_there_can_be_none_nothing_fails(host: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    change(host)
    obstacle = groups.find_obstacle()
    assert obstacle is None if not reason else reason in str(obstacle)
    assert groups.make_group(SPEC) is None
    groups.join_group("1f", 1, [1])
    assert not groups.was_killed_for_memory("1f")
