# SPDX-License-Identifier: Apache-2.0
"""Empty volumes, checked by e2fsck, dumpe2fs and debugfs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

import pytest

from volant.errors import InvalidInput
from volant.filesystems.empty import write_empty_ext4
from volant.process import run_tool

NAME = UUID("12345678-1234-4234-8234-123456789abc")


@pytest.mark.parametrize("size_bytes", [16 << 20, 100 << 20, (1 << 30) + 4096, 20 << 30])
def test_an_empty_volume_is_sound_and_takes_no_room(tmp_path: Path, size_bytes: int) -> None:
    volume = tmp_path / "volume.img"
    write_empty_ext4(volume, size_bytes, label="data", uuid=NAME, timestamp=1_700_000_000)
    run_tool(["e2fsck", "-fn", str(volume)])
    assert volume.stat().st_size == size_bytes
    assert volume.stat().st_blocks * 512 < (8 << 20) + size_bytes // 1000
    assert volume.stat().st_mode & 0o777 == 0o600
    told = run_tool(["dumpe2fs", "-h", str(volume)]).stdout
    facts = {name: value.strip() for name, _, value in (line.partition(":") for line in told.splitlines())}
    assert (facts["Filesystem UUID"], facts["Filesystem volume name"]) == (str(NAME), "data")
    assert {"has_journal", "metadata_csum", "64bit"} <= set(facts["Filesystem features"].split())
    assert facts["Filesystem state"] == "clean"
    root = run_tool(["debugfs", "-R", "ls -l /", str(volume)]).stdout.split()
    assert "lost+found" in root and root.count("(2)") == 3


def test_names_are_what_tells_volumes_apart(tmp_path: Path) -> None:
    def digest(**facts: object) -> str:
        write_empty_ext4(tmp_path / "v", 32 << 20, **facts)  # type: ignore[arg-type]
        return hashlib.sha256((tmp_path / "v").read_bytes()).hexdigest()

    assert digest(uuid=NAME) == digest(uuid=NAME)
    assert len({digest(), digest(uuid=NAME), digest(uuid=UUID(int=7)), digest(label="x")}) == 4


def test_what_is_written_into_it_stays_sound(tmp_path: Path) -> None:
    volume, content = tmp_path / "volume.img", tmp_path / "content"
    content.write_bytes(b"x" * 3_000_000)
    write_empty_ext4(volume, 64 << 20, uuid=NAME)
    run_tool(["debugfs", "-w", "-R", f"write {content} file", str(volume)])
    run_tool(["e2fsck", "-fn", str(volume)])
    run_tool(["resize2fs", str(volume), "128M"])
    run_tool(["e2fsck", "-fn", str(volume)])


def test_a_volume_too_small_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="too small"):
        write_empty_ext4(tmp_path / "v", 1 << 20)
    assert list(tmp_path.iterdir()) == []
