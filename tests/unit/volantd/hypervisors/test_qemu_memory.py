# SPDX-License-Identifier: Apache-2.0
"""Pages are copied as they are and holes stay holes; QEMU's part is an integration test."""

from __future__ import annotations

import os
from pathlib import Path

from volant.volantd.hypervisors.qemu_memory import keep_pages, open_shared_memory


def test_pages_are_copied_and_holes_stay_holes(tmp_path: Path) -> None:
    source = os.memfd_create("memory-backend-memfd")
    size = 64 << 20
    os.ftruncate(source, size)
    for offset, content in ((0, b"first"), (5 << 20, b"x" * 10_000), (size - 4096, b"last")):
        os.pwrite(source, content, offset)
    target = tmp_path / "memory"
    keep_pages(source, target)
    copied = target.stat()
    assert copied.st_size == size
    assert copied.st_blocks * 512 < 1 << 20
    assert copied.st_mode & 0o777 == 0o600
    with target.open("rb") as stream:
        assert stream.read() == os.pread(source, size, 0)
    os.close(source)


def test_the_shared_memory_of_a_process_is_found_by_its_name() -> None:
    other = os.memfd_create("something")
    assert open_shared_memory(os.getpid()) is None
    ram = os.memfd_create("memory-backend-memfd")
    os.pwrite(ram, b"page", 0)
    found = open_shared_memory(os.getpid())
    assert found is not None
    assert os.pread(found, 4, 0) == b"page"
    for descriptor in (other, ram, found):
        os.close(descriptor)
