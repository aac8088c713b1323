# SPDX-License-Identifier: Apache-2.0
"""What of a machine its memory holds on to: devices and processor, without names, paths and addresses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from volant.volantd.hypervisors.base import VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.configuration import make_vm_config
from volant.volantd.hypervisors.qemu_traits import read_processor

NOWHERE = Path("/nowhere")


def find_traits(spec: VmSpec, cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    nobody = replace(
        spec, socket_folder=NOWHERE, kernel=NOWHERE, initrd=NOWHERE, extra_cmdline=(), nics=(),
        disks=tuple(replace(disk, path=NOWHERE, backing=disk.backing and (NOWHERE,)) for disk in spec.disks),
    )  # fmt: skip
    config = json.dumps([make_vm_config(nobody, 0), len(spec.nics)], sort_keys=True)
    digest = hashlib.sha256(config.encode()).hexdigest()[:16]
    return {"devices": digest, "processor": read_processor(cpuinfo.read_text())}
