# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.fledge.builders import machine


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_range_is_found_by_name_or_number_and_must_be_large_enough(tmp_path: Path) -> None:
    path = write(
        tmp_path / "subuid", f"# note\nother:100000:65536\nme:1:10\n{os.geteuid()}:300000:65536\nx\n"
    )
    assert machine.find_range(path, "me") == (300000, 65536)
    assert machine.find_range(path, "other") == (100000, 65536)
    assert machine.find_range(write(path, "me:1:65535\nme:1:\n"), "me") is None
    assert machine.find_range(tmp_path / "gone", "me") is None


def test_the_range_that_is_proposed_belongs_to_nobody(tmp_path: Path) -> None:
    path = write(tmp_path / "subuid", "a:165536:65536\nb:100000:65536\n")
    assert machine.find_free_range(path) == 231072
    assert machine.find_free_range(tmp_path / "gone") == 100000


def test_root_with_its_powers_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "is_rootless", lambda: False)
    assert machine.find_obstacles() == []


def test_missing_programs_come_before_missing_ranges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "find_tool", lambda name: None)
    assert [obstacle.cure for obstacle in machine.find_id_obstacles()] == ["sudo apt-get install uidmap"]
    plain = write(tmp_path / "newuidmap", "")
    monkeypatch.setattr(machine, "find_tool", lambda name: str(plain))
    assert "has no rights of its own" in next(machine.find_id_obstacles()).fact
    plain.chmod(0o4755)
    monkeypatch.setattr(machine, "find_range", lambda path, user: None)
    facts = [obstacle.fact for obstacle in machine.find_id_obstacles()]
    assert [fact.split()[0] for fact in facts] == ["/etc/subuid", "/etc/subgid"]
