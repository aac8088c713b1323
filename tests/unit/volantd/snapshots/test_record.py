# SPDX-License-Identifier: Apache-2.0
"""A snapshot that an older volant wrote is one still: a newer daemon wakes VMs from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.vm_records import make_record
from volant.volantd.hypervisors.base import StreamNic
from volant.volantd.settings import Settings
from volant.volantd.snapshots.record import Snapshot
from volant.volantd.vms.lifecycle import find_files
from volant.volantd.vms.waking import make_wake_spec

GOLDEN = Path(__file__).parents[3] / "golden" / "rows"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("snapshot-*.json")), ids=lambda path: path.name)
def test_snapshots_of_older_versions_are_read_and_woken_from(path: Path, tmp_path: Path) -> None:
    snapshot = Snapshot.model_validate_json(path.read_bytes())
    assert (snapshot.plugin_reference, snapshot.is_hidden) == ("nginx:1.0.0", False)
    wake = snapshot.wake
    assert wake is not None and wake.image.has_pages
    # What its agent does not know is not asked of it.
    assert (wake.takes_settings, wake.wakes_by_line, wake.hypervisor) == (True, False, "qemu")
    record = make_record()
    settings = Settings(state_dir=tmp_path, runtime_dir=tmp_path)
    nic = StreamNic(record.mac, tmp_path / "net.sock")
    spec = make_wake_spec(record, wake, find_files(settings, record.id), (nic,))
    assert (spec.id, spec.vcpu, spec.memory_mb, spec.wakes_from) == (record.id, 1, 256, wake.image)
    assert spec.kernel == wake.spec.kernel
    assert "devices" in wake.traits
