# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from support.vm_records import make_record
from volant.contract.manifest import Manifest
from volant.errors import Conflict
from volant.volantd.plugins.store import StoredPlugin
from volant.volantd.settings import Settings
from volant.volantd.vms.boot_files import find_left_out, make_plugin_record, make_settings, open_boot_files
from volant.volantd.vms.keys import make_private_key
from volant.volantd.vms.record import AttachedFolder, AttachedSecret, AttachedVolume, StoredFile, VmRecord


def make_plugin(payload: Path) -> StoredPlugin:
    manifest = Manifest.model_validate(
        {"name": "web", "version": "1.0.0", "workload": {"env": {"MODE": "plain"}, "port": 80}}
    )
    return StoredPlugin(
        manifest=manifest, kind="rootfs", boot="kernel", format="raw", payload=payload, enabled=True, files={}
    )


def make_settings_of(home: Path) -> Settings:
    kernel = home / "vmlinux"
    kernel.write_bytes(b"\x7fELF")
    return Settings(state_dir=home, runtime_dir=home, kernel=kernel)


def make_vm(**definition: object) -> VmRecord:
    return replace(make_record(**definition), control_key=make_private_key(), host_key="a private key")


def test_settings_are_for_a_machine_that_no_volantd_knows(tmp_path: Path) -> None:
    vm = make_vm(
        env={"WHO": "ana"}, command=["serve"], volumes=[AttachedVolume(name="v", id="1", target="/data")],
        placed_files=[StoredFile(path="/etc/a"), StoredFile(path="/run/key", secret_port=9001)],
    )  # fmt: skip
    made = make_settings(vm, make_plugin(tmp_path), ["virtio_blk.ko"])
    assert (made.vm_id, made.control.host_key, made.control.authorized_keys) == ("", "", [])
    (card,) = made.network.interfaces
    assert (card.mac, card.mode) == (vm.mac, "dhcp")
    assert made.workload.env == {"MODE": "plain"}, "its own variables come from the disk of files"
    (mount,) = made.mounts
    assert (mount.serial, mount.fstype, mount.read_only) == ("environment", "iso9660", True)
    assert made.environment_folders == [mount.target]
    assert made.workload.command == ["serve"]
    assert [file.path for file in made.files] == ["/etc/a"]
    assert "private key" not in made.model_dump_json()


def test_a_plugin_is_exported_the_same_each_time(tmp_path: Path) -> None:
    plugin = make_plugin(tmp_path)
    first, second = (make_settings(make_plugin_record(plugin), plugin, []) for _ in range(2))
    assert first == second
    assert first.mounts == [] == first.environment_folders


def test_what_is_of_this_host_is_named() -> None:
    vm = make_vm(
        volumes=[AttachedVolume(name="goods", id="1", target="/data")],
        mounts=[AttachedFolder(source="/srv", target="/app")], secrets=[AttachedSecret(name="key")],
    )  # fmt: skip
    left_out = ["volume goods at /data", "/srv of this host at /app", "secret key"]
    assert find_left_out(vm) == left_out


def test_a_stream_is_a_document_and_the_files_that_boot(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(b"disk" * 1000)
    settings = make_settings_of(tmp_path)
    vm = make_vm(
        env={"WHO": "ana"}, secrets=[AttachedSecret(name="key")], kernel_arguments="volant.trial",
        disk_size_bytes=1 << 30,
    )  # fmt: skip
    with pytest.raises(Conflict, match="has what stays on this host"):
        open_boot_files(vm, make_plugin(payload), settings, None, leaves_out=False)
    opened = open_boot_files(vm, make_plugin(payload), settings, None, leaves_out=True)
    stream = io.BytesIO(b"".join(opened.chunks()))
    assert all(file.closed for _, file in opened.files)
    with tarfile.open(fileobj=stream) as archive:
        contents = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert list(contents) == ["boot.json", "vmlinuz", "initrd", "disk"]
    document = json.loads(contents["boot.json"])
    assert document["environment"] == {"WHO": "ana"}
    assert document["left_out"] == ["secret key"]
    assert document["disk_bytes"] == 1 << 30
    assert document["kernel_arguments"].endswith(" volant.trial")
    assert contents["vmlinuz"] == b"\x7fELF"
    assert contents["disk"] == b"disk" * 1000
    assert b'"vm_id":""' in contents["initrd"]
    assert not list(tmp_path.rglob("*export*"))


def test_disks_of_a_plugin_stay_here_too(tmp_path: Path) -> None:
    payload = tmp_path / "payload"
    payload.write_bytes(b"disk")
    plugin = make_plugin(payload)
    disk = {"name": "goods", "target": "/goods"}
    manifest = Manifest.model_validate({**plugin.manifest.model_dump(exclude_none=True), "disks": [disk]})
    plugin = replace(plugin, manifest=manifest)
    settings = make_settings_of(tmp_path)
    with pytest.raises(Conflict, match="disk goods of the plugin"):
        open_boot_files(make_plugin_record(plugin), plugin, settings, None, leaves_out=False)
    opened = open_boot_files(make_plugin_record(plugin), plugin, settings, None, leaves_out=True)
    assert opened.document["left_out"] == ["disk goods of the plugin"]
    b"".join(opened.chunks())
