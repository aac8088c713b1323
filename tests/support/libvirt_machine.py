# SPDX-License-Identifier: Apache-2.0
"""A machine as KubeVirt has libvirt make it of a VirtualMachine: a q35 with PCI, disks by serial number, one NIC.

What libvirt adds (the channel of an agent that is not ours, a balloon) is there as far as a guest could stumble over
it. Secrets come as KubeVirt brings them: a disk with an ISO 9660 file system of their volume's files.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pycdlib import PyCdlib
from ruamel.yaml import YAML


def read_objects(folder: Path) -> dict[str, Any]:
    """What was exported, by kind."""
    documents = YAML(typ="safe", pure=True).load_all((folder / "kubevirt.yaml").read_text())
    return {document["kind"]: document for document in documents}


def unpack_image(layout: Path, target: Path) -> None:
    """A container's root, as a container engine makes it of an image layout."""

    def read(digest: str) -> bytes:
        return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    for layer in json.loads(read(entry["digest"]))["layers"]:
        content = read(layer["digest"])
        if layer["mediaType"].endswith("+gzip"):
            content = zlib.decompress(content, wbits=31)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                if (stream := archive.extractfile(member)) is not None:
                    path = target / member.name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(stream.read())


def write_secret_disk(target: Path, values: dict[str, str]) -> None:
    """As KubeVirt's xorrisofs makes it of a volume in which names are links into a folder of one generation: both are
    on the disk, links followed."""
    image = PyCdlib()
    image.new(interchange_level=3, vol_ident="cfgdata", joliet=3, rock_ridge="1.09")
    for number, folder in enumerate(("..2026_01_01", "..data")):
        image.add_directory(f"/DIR{number}", rr_name=folder, joliet_path=f"/{folder}")
    for number, (name, value) in enumerate(values.items()):
        content = value.encode()
        for place, joliet in (("", ""), ("/DIR0", "/..2026_01_01"), ("/DIR1", "/..data")):
            image.add_fp(
                io.BytesIO(content), len(content), f"{place}/FILE{number}.;1", rr_name=name,
                joliet_path=f"{joliet}/{name}",
            )  # fmt: skip
    with target.open("wb") as stream:
        image.write_fp(stream)
    image.close()


def make_arguments(
    machine: dict[str, Any],
    root: Path,
    disks: dict[str, Path],
    forwards: dict[int, int],
    console: Path,
    monitor: Path,
) -> list[str]:
    """QEMU's, from the template of a VirtualMachine. `root`: of the image's container; `disks`: files by their name;
    `forwards`: ports of loopback to the guest's, in place of a pod's masquerade, whose DHCP is like slirp's."""
    spec = machine["spec"]["template"]["spec"]
    domain = spec["domain"]
    boot = domain["firmware"]["kernelBoot"]
    (card,) = domain["devices"]["interfaces"]
    redirected = "".join(f",hostfwd=tcp:127.0.0.1:{port}-:{target}" for port, target in forwards.items())
    arguments = [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
        "-machine", "q35,accel=tcg,smm=off", "-cpu", "qemu64", "-m", domain["memory"]["guest"].removesuffix("i"),
        "-smp", f"1,sockets=1,cores={domain['cpu']['cores']},threads=1,maxcpus={domain['cpu']['cores']}",
        "-kernel", f"{root}{boot['container']['kernelPath']}", "-initrd", f"{root}{boot['container']['initrdPath']}",
        "-append", boot["kernelArgs"], "-serial", f"file:{console}",
        "-qmp", f"unix:{monitor},server=on,wait=off",
        "-device", "virtio-serial-pci-non-transitional", "-chardev", "null,id=agent",
        "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0",
        "-device", "virtio-balloon-pci-non-transitional", "-device", "virtio-rng-pci-non-transitional",
        "-netdev", f"user,id=default{redirected}",
        "-device", f"virtio-net-pci-non-transitional,netdev=default,mac={card['macAddress']},romfile=",
    ]  # fmt: skip
    for disk in domain["devices"]["disks"]:
        path = disks[disk["name"]]
        kind = "qcow2,discard=unmap" if path.suffix == ".qcow2" else "raw,readonly=on"
        arguments += ["-drive", f"if=none,id={disk['name']},file={path},format={kind}"]
        arguments += [
            "-device",
            f"virtio-blk-pci-non-transitional,drive={disk['name']},serial={disk['serial']}",
        ]
    return arguments


@contextmanager
def running(arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
