# SPDX-License-Identifier: Apache-2.0
"""How a start is told from its spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.template_shapes import make_spec
from volant.volantd.hypervisors.base import MemoryImage
from volant.volantd.vms.start_kind import find_start


def test_a_start_is_a_boot_or_woke_from_something(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    assert find_start(spec) == "boot"
    assert find_start(replace(spec, wakes_from=MemoryImage(tmp_path, has_pages=True))) == "snapshot"
    copied = MemoryImage(tmp_path, has_pages=True, is_copied=True)
    assert find_start(replace(spec, wakes_from=copied)) == "snapshot"
    assert find_start(replace(spec, wakes_from=replace(copied, is_template=True))) == "template"
    workload = replace(copied, is_template=True, has_workload=True)
    assert find_start(replace(spec, wakes_from=workload)) == "workload"
