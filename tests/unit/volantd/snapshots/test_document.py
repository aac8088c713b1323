# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from volant.volantd.snapshots.document import CARRIED, LEFT_OUT, SnapshotDocument
from volant.volantd.vms.record import VmDefinition, WorkloadSettings

DIGEST = "0" * 64
PLUGIN = {"name": "web", "version": "1.0.0", "checksum": f"sha256:{DIGEST}"}
MEMORY = {
    "architecture": "amd64", "machine": "microvm", "accelerator": "tcg", "kernel": "k", "nic": "stream",
    "has_modules": False, "has_pages": True, "control_key": "", "host_key": "", "hypervisor_version": "7.2",
    "traits": {},
}  # fmt: skip


def make(*files: tuple[str, int], **fields: Any) -> SnapshotDocument:
    return SnapshotDocument.model_validate(
        {
            "name": "then", "vm_name": "one", "plugin": PLUGIN, "resources": {"vcpu": 1, "memory_mb": 64},
            "network": "user", "created_at": "", "memory": None, **fields,
            "files": [{"name": name, "size": size, "sha256": DIGEST} for name, size in files],
        }
    )  # fmt: skip


def test_each_field_of_a_vm_is_in_the_document_or_named_as_left_out() -> None:
    fields = set(VmDefinition.model_fields)
    assert fields >= LEFT_OUT
    assert set(SnapshotDocument.model_fields) & fields == CARRIED
    assert make().workload.model_dump() == WorkloadSettings().model_dump()
    for name in CARRIED - {"resources", "network", "workload"}:
        assert getattr(make(), name) == VmDefinition.model_fields[name].get_default(call_default_factory=True)


def test_a_disk_and_a_memory_have_their_files() -> None:
    make(("disk.qcow2", 1))
    make(("disk.qcow2", 1), ("state", 1), ("memory", 64 << 20), memory=MEMORY)
    make(("state", 1), memory={**MEMORY, "has_pages": False})


@pytest.mark.parametrize(
    "files",
    [
        [("disk.qcow2", 1), ("disk.qcow2", 1)],
        [("state", 1)],
        [("state", 1), ("memory", 1)],
        [("state", 1 << 40), ("memory", 64 << 20)],
    ],
)
def test_files_that_do_not_go_together_are_refused(files: list[tuple[str, int]]) -> None:
    with pytest.raises(ValidationError, match="files: "):
        make(*files, memory=MEMORY)
