# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.memory_fleet import open_fleet
from volant.errors import Conflict
from volant.volantd.vms.definition import NewVm


async def test_no_vm_is_called_as_another_ones_id_is(tmp_path: Path) -> None:
    """Whoever asks for that one by its id would get this one, and delete it."""
    async with open_fleet(tmp_path) as fleet:
        one = await fleet.create(NewVm(name="one", plugin="web", network="vsock", start=False))
        with pytest.raises(Conflict, match="the name is taken"):
            await fleet.create(NewVm(name=one.id, plugin="web", network="vsock", start=False))
        assert [vm.name for vm in fleet.list_all()] == ["one"]
