# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from volant.contract.finding import Finding
from volant.volantd import doctor
from volant.volantd.examination import Examination
from volant.volantd.hypervisors import accelerator, kvm_probe
from volant.volantd.network.host_firewall import Obstacle
from volant.volantd.settings import Settings


@pytest.fixture
def fledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.argv", [str(tmp_path / "volantd")])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path / "fledge"


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_fledge_finds_is_told_and_keeps_no_vm_from_running(fledge: Path) -> None:
    write(
        fledge,
        """test "$*" = "doctor --output json" || exit 9
        echo '[{"subject": "image builder", "state": "missing", "fact": "none", "mend": "install one"},
               {"subject": "agent", "state": "ok", "fact": "amd64", "mend": ""}]'; exit 1""",
    )
    assert doctor.find_builder_findings() == [
        Finding("fledge: image builder", "limited", "none", "install one")
    ]


@pytest.mark.parametrize(
    ("script", "fact"),
    [
        ("echo 'No module named pydantic' >&2; exit 2", "cannot run fledge: fledge ended with exit code 2"),
        ("echo nonsense", "its findings cannot be read: "),
    ],
)
def test_a_fledge_that_does_not_work_is_a_finding(fledge: Path, script: str, fact: str) -> None:
    write(fledge, script)
    (found,) = doctor.find_builder_findings()
    assert (found.subject, found.state, found.mend) == ("fledge", "limited", "fledge doctor")
    assert found.fact.startswith(fact)


def test_without_fledge_there_is_nothing_to_tell(fledge: Path) -> None:
    assert doctor.find_builder_findings() == []


@pytest.mark.parametrize(
    ("wanted", "state", "fact"),
    [
        ("auto", "limited", "tcg: no permission to open /dev/kvm"),
        (
            "kvm",
            "missing",
            "cannot use KVM, which VOLANT_ACCELERATOR asks for: no permission to open /dev/kvm",
        ),
    ],
)
def test_why_guests_do_not_run_on_kvm_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Literal["auto", "kvm"], state: str, fact: str
) -> None:
    cure = "add this user to the group kvm"
    obstacle = kvm_probe.Obstacle("no permission to open /dev/kvm", cure)
    monkeypatch.setattr(accelerator, "find_kvm_obstacle", lambda _architecture: obstacle)
    monkeypatch.setattr(accelerator, "measure_tsc_khz", lambda: 2_000_000)
    write(tmp_path / "qemu-system-x86_64", "echo QEMU emulator version 9.9.9")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    monkeypatch.setattr(doctor, "host_architecture", lambda: "amd64")
    settings = Settings(
        state_dir=tmp_path, runtime_dir=tmp_path, accelerator=wanted, kernel=tmp_path / "vmlinux"
    )
    found = doctor.find_accelerator(settings)
    assert found[0] == Finding("accelerator", state, fact, cure)  # type: ignore[arg-type]  # one of its words
    assert [finding.subject for finding in found[1:]] == (["user network"] if wanted == "auto" else [])


def test_what_stands_in_the_bridges_way_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "is_bridge_installed", lambda: False)
    assert [found.fact for found in doctor.examine_bridge()] == ["volant0 is gone"]
    monkeypatch.setattr(doctor, "is_bridge_installed", lambda: True)
    monkeypatch.setattr(doctor, "list_obstacles", lambda bridge: [Obstacle(f"{bridge}: no", "do this")])
    assert doctor.examine_bridge() == [Finding("bridged network", "limited", "volant0: no", "do this")]
    monkeypatch.setattr(doctor, "list_obstacles", lambda bridge: [])
    assert [found.state for found in doctor.examine_bridge()] == ["ok"]


def test_cloud_hypervisor_is_a_finding_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path, kernel=tmp_path / "vmlinux")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.find_cloud_hypervisor(settings) == []
    write(tmp_path / "cloud-hypervisor", "echo cloud-hypervisor v38.0.0")
    (found,) = doctor.find_cloud_hypervisor(settings)
    assert (found.subject, found.state) == ("cloud-hypervisor", "limited")
    assert "older than v51.0" in found.fact
    assert "install a newer one" in found.mend


def test_a_host_without_a_kernel_is_told_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    write(tmp_path / "cloud-hypervisor", "exit 1")
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    found = Examination(doctor.list_probes(settings)).find_all()
    subjects = [finding.subject for finding in found]
    assert subjects[:6] == ["qemu-system-x86_64", "qemu-img", "mke2fs", "ssh", "agent", "kernel"]
    assert not {"accelerator", "user network", "shared network", "cloud-hypervisor"} & set(subjects)
    assert found[5].mend.startswith("volar setup kernel")
