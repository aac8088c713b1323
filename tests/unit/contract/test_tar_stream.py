# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest

from support.odd_tar import BIG_OWNER, END, ODD_LAYERS, make_header, make_pax
from volant.contract.tar_stream import Entry, TarStream
from volant.errors import InvalidInput


def read_all(archive: bytes) -> list[Entry]:
    return list(TarStream(io.BytesIO(archive)).entries())


@pytest.mark.parametrize("layer", ["numbers-behind-nul", "v7-folder-with-a-size", "pax-size-with-zeros"])
def test_odd_headers_are_read_as_layers_are(layer: str) -> None:
    assert read_all(ODD_LAYERS[layer]) == [Entry("file", 7)]


def test_the_folder_of_an_old_header_is_part_of_the_name() -> None:
    header = make_header(b"disk", uid=BIG_OWNER, tail=b"some/folder")
    assert read_all(header + END) == [Entry("some/folder/disk", 0)]


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (ODD_LAYERS["gnu-magic-with-neither"], "neither times nor a folder"),
        (make_header(b"f", b"\xff" * 12) + END, "negative size"),
        (make_header(b"f", b"9999999999x\0") + END, "no number"),
        (make_pax(b"14 size=0x0007\n") + make_header(b"f") + END, "PAX header is malformed"),
        (make_pax(b"11 size=-7\n") + make_header(b"f") + END, "is no number"),
        (b"no tar" * 1000, "checksum is wrong"),
    ],
)
def test_what_cannot_be_read_is_refused(archive: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=f"cannot read the plugin archive: .*{reason}"):
        read_all(archive)
