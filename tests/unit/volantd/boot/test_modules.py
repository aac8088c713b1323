# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import lzma
import zlib
from pathlib import Path

import pytest
import zstandard

from volant.errors import InvalidInput
from volant.volantd.boot.modules import order_modules, read_dependencies, want_modules


def module(depends: str) -> bytes:
    return b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0retpoline=Y\0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A kernel's modules, each compressed in another of the kernel's ways."""
    drivers = tmp_path / "kernel/drivers"
    drivers.mkdir(parents=True)
    (drivers / "virtio.ko").write_bytes(module(""))
    (drivers / "virtio_ring.ko.gz").write_bytes(zlib.compress(module("virtio"), wbits=31))
    (drivers / "virtio_blk.ko.xz").write_bytes(lzma.compress(module("virtio,virtio_ring")))
    (drivers / "virtio-rng.ko.zst").write_bytes(zstandard.compress(module("virtio_ring,rng-core")))
    (tmp_path / "modules.builtin").write_text(
        "kernel/drivers/char/hw_random/rng-core.ko\nkernel/lib/crc.ko\n"
    )
    return tmp_path


def test_each_comes_after_what_it_needs(tree: Path) -> None:
    ordered = order_modules(tree, ["virtio_blk", "virtio_rng"])
    assert [file.archive_name for file in ordered] == [
        "virtio.ko", "virtio_ring.ko", "virtio_blk.ko", "virtio_rng.ko",
    ]  # fmt: skip
    assert [read_dependencies(file.read()) for file in ordered][1:3] == [
        ["virtio"],
        ["virtio", "virtio_ring"],
    ]


def test_dashes_and_underscores_are_one(tree: Path) -> None:
    assert order_modules(tree, ["virtio-rng"])[-1].name == "virtio_rng"


def test_built_in_needs_no_file(tree: Path) -> None:
    assert order_modules(tree, ["crc", "rng_core"]) == []
    assert order_modules(None, ["virtio_blk"]) == []


def test_a_kernel_without_a_driver_is_refused(tree: Path) -> None:
    with pytest.raises(InvalidInput, match="no driver virtio_net"):
        order_modules(tree, ["virtio_net"])


def test_a_guest_gets_the_drivers_of_its_machine() -> None:
    assert "virtio_mmio" in want_modules("mmio", network=True)
    assert "virtio_pci" in want_modules("pci", network=True)
    assert "virtio_net" not in want_modules("mmio", network=False)
    # One transport or the other: with both, CID 2 would lead out of a guest whose agent answers it inside.
    assert "vsock_loopback" in want_modules("mmio", network=True)
    assert "vmw_vsock_virtio_transport" not in want_modules("mmio", network=True)
    with_device = want_modules("pci", network=True, has_vsock_device=True)
    assert "vsock_loopback" not in with_device
    assert "vmw_vsock_virtio_transport" in with_device
