# SPDX-License-Identifier: Apache-2.0
"""Which VMs are copies of a workload's template, and that the template knows none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.template_shapes import make_spec, make_support
from support.vm_records import make_record
from volant.contract.manifest import Manifest
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.templates.workload import Workload
from volant.volantd.vms.keys import make_private_key
from volant.volantd.vms.warm_workload import find_workload

SECRET = {"name": "key"}
VOLUME = {"name": "data", "id": "1", "target": "/data"}
OTHERWISE: list[dict[str, Any]] = [
    {"env": {"A": "b"}}, {"entrypoint": ["/bin/other"]}, {"command": ["other"]}, {"run_once": True},
    {"user_data_base64": "I2Nsb3VkLWNvbmZpZwo="}, {"secrets": [SECRET]}, {"volumes": [VOLUME]},
    {"disk_size_bytes": 1 << 34}, {"network": "bridged"}, {"network": "dhcp"},
]  # fmt: skip


def make_plugin(**manifest: Any) -> StoredPlugin:
    parsed = Manifest.model_validate({"name": "web", "version": "1.0.0", "warm": "workload", **manifest})
    return StoredPlugin(parsed, "rootfs", "kernel", "qcow2", Path("/payload"), True, {})


def find(folder: Path, plugin: StoredPlugin, name: str = "my_vm", **definition: Any) -> Workload | None:
    record = replace(
        make_record(**definition), id=f"id-of-{name}", name=name, control_key=make_private_key(),
        host_key=make_private_key(),
    )  # fmt: skip
    return find_workload(record, plugin, ["virtio.ko"], make_support(folder), make_spec(folder))


def test_two_vms_of_a_plugin_are_copies_of_one_that_knows_neither(tmp_path: Path) -> None:
    plugin = make_plugin(workload={"type": "http", "port": 80, "env": {"OF": "the plugin"}})
    first = find(tmp_path, plugin, "first", labels={"a": "b"}, ssh_keys=["ssh-ed25519 of-a-person"])
    second = find(tmp_path, plugin, "second")
    assert first is not None
    assert second is not None
    assert first.identify() == second.identify()
    assert first.keys != second.keys
    text = first.config.model_dump_json()
    assert "first" not in text
    assert "of-a-person" not in text
    assert '"OF":"the plugin"' in text


def test_a_plugin_that_does_not_say_so_has_none(tmp_path: Path) -> None:
    assert find(tmp_path, make_plugin(warm=None)) is None
    assert find(tmp_path, make_plugin(cloud_init={"user_data": {"content": "#cloud-config"}})) is None


@pytest.mark.parametrize("definition", OTHERWISE, ids=lambda definition: next(iter(definition)))
def test_what_the_workload_would_see_makes_it_another(tmp_path: Path, definition: dict[str, Any]) -> None:
    assert find(tmp_path, make_plugin(), **definition) is None
