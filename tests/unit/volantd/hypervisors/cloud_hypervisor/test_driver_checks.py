# SPDX-License-Identifier: Apache-2.0
"""What every driver owes, of the one for Cloud Hypervisor with a fake of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.driver_checks import CHECKS, Behaviour, Check, Driver
from volant.volantd.hypervisors.base import VmSpec
from volant.volantd.hypervisors.cloud_hypervisor.driver import CloudHypervisor


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_it_is_a_driver(check: Check, program: Path, spec: VmSpec) -> None:
    def make_spec(behaviour: Behaviour) -> VmSpec:
        return replace(spec, extra_cmdline=() if behaviour == "stay" else (f"fake={behaviour}",))

    await check(Driver(CloudHypervisor(), make_spec))
