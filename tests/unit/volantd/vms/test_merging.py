# SPDX-License-Identifier: Apache-2.0
"""When the layers of a disk are merged; that what they hold stays is shown with a real QEMU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from volant.errors import ToolFailed
from volant.volantd.vms.disk_layers import prepare_layer
from volant.volantd.vms.disks import make_overlay
from volant.volantd.vms.merging import MOST_LAYERS, merge_disk
from volant.volantd.vms.running_vm import RunningVm


class Machine:
    def __init__(self, answer: bool | Exception) -> None:
        self.answer, self.asked = answer, list[tuple[int, Path]]()

    async def merge_layers(self, index: int, base: Path) -> bool:
        self.asked.append((index, base))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def make_vm(folder: Path, machine: Machine | None, layers: int) -> RunningVm:
    payload, disk = folder / "payload", folder / "root.qcow2"
    payload.write_bytes(bytes(1 << 20))
    make_overlay(disk, payload, "raw", None)
    for _ in range(layers):
        prepare_layer(disk, folder / "layers").put_in_place()
    monitor = SimpleNamespace(machine=machine) if machine is not None else None
    return cast(RunningVm, SimpleNamespace(id="1f2e", files=SimpleNamespace(disk=disk), monitor=monitor))


async def test_few_layers_stay_and_many_go_into_the_disk(tmp_path: Path) -> None:
    swept: list[Any] = []
    machine = Machine(True)
    (tmp_path / "few").mkdir()
    await merge_disk(make_vm(tmp_path / "few", machine, MOST_LAYERS), lambda: swept.append(1))
    assert (machine.asked, swept) == ([], [])
    (tmp_path / "many").mkdir()
    await merge_disk(make_vm(tmp_path / "many", machine, MOST_LAYERS + 1), lambda: swept.append(1))
    assert (machine.asked, swept) == ([(0, tmp_path / "many" / "payload")], [1])


@pytest.mark.parametrize("answer", [False, ToolFailed("QEMU does not want to")])
async def test_layers_that_were_not_merged_are_not_swept(tmp_path: Path, answer: bool | Exception) -> None:
    machine = Machine(answer)
    await merge_disk(make_vm(tmp_path, machine, MOST_LAYERS + 1), lambda: pytest.fail("swept"))
    assert len(machine.asked) == 1


async def test_a_vm_that_does_not_run_keeps_its_layers(tmp_path: Path) -> None:
    await merge_disk(make_vm(tmp_path, None, MOST_LAYERS + 1), lambda: pytest.fail("swept"))
