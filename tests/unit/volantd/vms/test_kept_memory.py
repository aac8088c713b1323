# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.volantd.hypervisors.base import MemoryImage, VmSpec
from volant.volantd.vms.kept_memory import (
    discard_memory,
    draft_memory,
    find_place,
    has_memory,
    keep_memory,
    read_memory,
    use_memory,
)
from volant.volantd.vms.record import WakeSource


@pytest.fixture
def source(tmp_path: Path) -> WakeSource:
    spec = VmSpec(
        id="1", name="one", architecture="amd64", machine="microvm", accelerator="tcg", vcpu=1, memory_mb=128, disks=(),
        nics=(), socket_folder=tmp_path, console_log=tmp_path / "c", hypervisor_log=tmp_path / "l",
    )  # fmt: skip
    image = MemoryImage(find_place(tmp_path))
    return WakeSource(image=image, spec=spec, control_key="a", host_key="b", traits={"devices": "x"})


def test_memory_is_there_whole_or_not_at_all(tmp_path: Path, source: WakeSource) -> None:
    with draft_memory(tmp_path) as hidden:
        (hidden / "state").write_text("half")
        assert not has_memory(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with draft_memory(tmp_path) as hidden:
        (hidden / "state").write_text("whole")
        keep_memory(hidden, tmp_path, source)
    assert [path.name for path in tmp_path.iterdir()] == ["memory"]
    assert read_memory(tmp_path) == source
    assert (find_place(tmp_path) / "wake.json").stat().st_mode & 0o777 == 0o600, "it holds keys"


def test_used_memory_is_not_found_again(tmp_path: Path, source: WakeSource) -> None:
    with draft_memory(tmp_path) as hidden:
        keep_memory(hidden, tmp_path, source)
    use_memory(tmp_path)
    assert not has_memory(tmp_path)
    assert read_memory(tmp_path) is None
    discard_memory(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    find_place(tmp_path).mkdir()
    (find_place(tmp_path) / "wake.json").write_text("{}")
    assert read_memory(tmp_path) is None
