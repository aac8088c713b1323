# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from volant.volantd.hypervisors.base import VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.traits import find_traits


def test_names_and_paths_are_no_part_of_it(spec: VmSpec, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: a processor\nflags\t\t: fpu vme\n")
    found = find_traits(spec, cpuinfo)
    assert found["processor"].startswith("a processor")
    disks = tuple(replace(disk, path=Path("/other"), backing=(Path("/below"),)) for disk in spec.disks)
    assert (
        find_traits(replace(spec, name="other", id="2", disks=disks, socket_folder=Path("/o")), cpuinfo)
        == found
    )
    assert find_traits(replace(spec, vcpu=3), cpuinfo)["devices"] != found["devices"]
    assert find_traits(replace(spec, disks=()), cpuinfo)["devices"] != found["devices"]
