# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import tarfile

import pytest

from support.exported_machines import make_document
from volant.errors import InvalidInput
from volant.volar.export.boot_stream import read_boot_files


def pack(**contents: bytes) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    stream.seek(0)
    return stream


def test_files_follow_the_document() -> None:
    sent = {"boot.json": json.dumps(make_document()).encode(), "vmlinuz": b"kernel" * 1000, "disk": b""}
    document, files = read_boot_files(pack(**sent))
    assert document == make_document()
    assert [(file.name, file.size_bytes, b"".join(file.content)) for file in files] == [
        ("vmlinuz", 6000, b"kernel" * 1000),
        ("disk", 0, b""),
    ]


def test_a_stream_that_is_cut_short_is_an_error() -> None:
    whole = pack(**{"boot.json": json.dumps(make_document()).encode(), "disk": bytes(100_000)}).getvalue()
    _, files = read_boot_files(io.BytesIO(whole[:50_000]))
    with pytest.raises(InvalidInput, match="cut short"):
        for file in files:
            b"".join(file.content)


def test_anything_else_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"does not begin with boot\.json"):
        read_boot_files(pack(disk=b"x"))
