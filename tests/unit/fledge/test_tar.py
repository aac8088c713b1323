# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from support.oci_images import make_entry, make_layer
from support.odd_tar import BIG_OWNER, END, ODD_LAYERS, make_header, make_pax
from volant.fledge.tar import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, TarEntry, TarError, read_entries


def read_all(archive: bytes, before: bytes = b"") -> list[TarEntry]:
    """Entries of a tar that lies behind `before` in a file."""
    with TemporaryFile() as file:
        file.write(before + archive)
        file.flush()
        return list(read_entries(file.fileno(), len(before), len(archive)))


def content_of(archive: bytes, entry: TarEntry) -> bytes:
    if entry.sparse is None:
        return archive[entry.offset : entry.offset + entry.size]
    content = bytearray(entry.size)
    for position, offset, length in entry.sparse:
        content[position : position + length] = archive[offset : offset + length]
    return bytes(content)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_and_field(format: int) -> None:
    archive = make_layer(
        make_entry("dir", tarfile.DIRTYPE, mode=0o1777, uid=5, gid=6, mtime=1_600_000_000),
        make_entry("dir/file", content=b"x" * 513, mode=0o4755),
        make_entry("dir/hard", tarfile.LNKTYPE, link="dir/file"),
        make_entry("dir/soft", tarfile.SYMTYPE, link="/etc/passwd"),
        make_entry("dev", tarfile.CHRTYPE, device=(5, 1)),
        make_entry("last", content=b"end"),
        format=format,
    )
    entries = read_all(archive)
    assert [entry.name.rstrip(b"/") for entry in entries] == [
        b"dir", b"dir/file", b"dir/hard", b"dir/soft", b"dev", b"last"
    ]  # fmt: skip
    folder, file, hard, soft, device, last = entries
    assert (folder.kind, folder.mode, folder.uid, folder.gid, folder.mtime) == (
        DIRECTORY,
        0o1777,
        5,
        6,
        1_600_000_000,
    )
    assert (file.kind, file.mode, content_of(archive, file)) == (REGULAR, 0o4755, b"x" * 513)
    assert (hard.kind, hard.link, soft.kind, soft.link) == (HARD_LINK, b"dir/file", SYMLINK, b"/etc/passwd")
    assert (device.major, device.minor) == (5, 1)
    assert content_of(archive, last) == b"end"


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_numbers(format: int) -> None:
    long = "d" * 120 + "/" + "n" * 200
    archive = make_layer(
        make_entry(long, content=b"1", uid=3_000_000, gid=4_000_000_000, mtime=2**33),
        make_entry("link", tarfile.SYMTYPE, link=long, mtime=-5),
        make_entry("non-utf8-\udcff" + "x" * 100),
        format=format,
    )
    first, second, third = read_all(archive)
    assert first.name == long.encode()
    assert (first.uid, first.gid, first.mtime) == (3_000_000, 4_000_000_000, 2**33)
    assert (second.link, second.mtime, second.mtime_nanoseconds) == (long.encode(), -5, 0)
    assert third.name == b"non-utf8-\xff" + b"x" * 100


def test_ustar_prefix() -> None:
    name = "p" * 120 + "/" + "n" * 90
    assert read_all(make_layer(make_entry(name), format=tarfile.USTAR_FORMAT))[0].name == name.encode()


@pytest.mark.parametrize(
    ("text", "seconds", "nanoseconds"),
    [("1.5", 1, 500_000_000), ("-1.5", -2, 500_000_000), ("-0.25", -1, 750_000_000), ("7", 7, 0),
     ("1600000000.1234567899", 1_600_000_000, 123_456_789), ("-3.0", -3, 0)],
)  # fmt: skip
def test_pax_times(text: str, seconds: int, nanoseconds: int) -> None:
    entry = read_all(make_layer(make_entry("f", pax={"mtime": text})))[0]
    assert (entry.mtime, entry.mtime_nanoseconds) == (seconds, nanoseconds)


def test_pax_xattrs_may_be_binary_and_empty() -> None:
    entry = read_all(
        make_layer(make_entry("f", pax={"SCHILY.xattr.user.b": "a=b\nc", "SCHILY.xattr.user.a": ""}))
    )[0]
    assert entry.xattrs == ((b"user.a", b""), (b"user.b", b"a=b\nc"))


def test_global_pax_header_changes_nothing() -> None:
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"uid": "99"}
    ) as archive:
        archive.addfile(*make_entry("f")[:1])
    assert [entry.uid for entry in read_all(buffer.getvalue())] == [0]


def test_offsets_count_from_the_archive_and_content_from_the_descriptor() -> None:
    archive = make_layer(make_entry("a", content=b"A"), make_entry("b", content=b"B"))
    entries = read_all(archive, before=b"#" * 1000)
    assert [entry.header_offset for entry in entries] == [0, 1024]
    assert [entry.offset for entry in entries] == [1512, 2536]


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_formats_of_gnu_tar(version: str, tmp_path: Path) -> None:
    """Written by GNU tar itself, with more pieces than a header has room for."""
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        for piece in range(30):
            file.seek(piece * 100_000 + 4096 * (piece % 3))
            file.write(b"%04d" % piece * 1024)
        file.truncate(5_000_000)
    options = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
    subprocess.run(
        ["tar", "-C", tmp_path, "-cf", tmp_path / "t.tar", "-S", "--hole-detection=raw", *options, "sparse"],
        check=True,
    )
    archive = (tmp_path / "t.tar").read_bytes()
    (entry,) = read_all(archive)
    assert (entry.name, entry.kind, entry.size) == (b"sparse", REGULAR, 5_000_000)
    assert entry.sparse is not None and len(entry.sparse) >= 30
    assert len(archive) < 300_000
    assert content_of(archive, entry) == source.read_bytes()


def test_huge_sparse_file_is_only_a_number() -> None:
    one_piece = b"%011o\0%011o\0" % (0, 512)
    real_size = struct.pack(">BxxxQ", 0x80, 10 << 40)
    header = make_header(b"huge", b"00000001000\0", b"S", tail=bytes(41) + one_piece + bytes(73) + real_size)
    (entry,) = read_all(header + b"d" * 512 + END)
    assert (entry.size, entry.sparse) == (10 << 40, ((0, 512, 512),))


def test_types_without_content_ignore_their_size() -> None:
    archive = make_header(b"dir/", b"00000001000\0", b"5") + make_header(b"next") + END
    assert [entry.name for entry in read_all(archive)] == [b"dir/", b"next"]


def test_end_of_archive() -> None:
    file = make_header(b"f")
    assert len(read_all(file)) == 1, "an archive may end at a block boundary"
    assert len(read_all(file + END + b"garbage" * 512)) == 1, "what follows the end is not looked at"
    assert read_all(b"") == []
    with pytest.raises(TarError, match="zeros"):
        read_all(file + bytes(512) + file)


@pytest.mark.parametrize(
    ("archive", "reason", "offset"),
    [
        (make_header(b"f") + b"\xffbroken" * 100, "checksum", 512),
        (make_header(b"f", b"00000002000\0") + b"x" * 100, "runs past the end", 0),
        (make_header(b"f", b"\x80" + b"\0" * 4 + b"\x3f" + b"\xff" * 6) + b"x" * 512, "runs past the end", 0),
        (make_header(b"f", b"\x80" + b"\xff" * 11), "63 bits", 0),
        (make_header(b"f", mtime=b"\x80\0\0\0" + b"\xff" * 8), "63 bits", 0),
        (make_header(b"f", b"\xff" * 12), "negative", 0),
        (make_header(b"f", b"9999999999x\0"), "no number", 0),
        (make_header(b"f", kind=b"Q"), "type", 0),
        (make_header(b"f", kind=b"M"), "type", 0),
        (make_header(b"f")[:300], "middle of a header", 0),
        (make_header(b"x", b"00000000020\0", b"x") + b"30 path=toolong\n".ljust(512, b"\0"), "PAX", 0),
        (make_header(b"x", b"00000000026\0", b"x") + b"8 path=\x00 no length here\n".ljust(512, b"\0"), "PAX", 0),
        (make_header(b"x", b"77777777777\0", b"x"), "too long", 0),
        (make_header(b"f", mtime=b"not a time!\0"), "no number", 0),
    ],
)  # fmt: skip
def test_damage_is_told_with_its_place(archive: bytes, reason: str, offset: int) -> None:
    with pytest.raises(TarError, match=reason) as caught:
        read_all(archive)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "pax",
    [
        {"GNU.sparse.map": "0,10,5,10", "GNU.sparse.size": "100"},
        {"GNU.sparse.map": "0,20", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0,10", "GNU.sparse.size": "100"},
        {"GNU.sparse.map": "0", "GNU.sparse.size": "100"},
        {"GNU.sparse.map": "0,20"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"},
        {"GNU.sparse.major": "7", "GNU.sparse.minor": "0"},
        {"size": "-1"},
        {"uid": "99999999999"},
        {"mtime": "1e9"},
        {"path": "a\0b"},
    ],
)
def test_lying_pax_headers(pax: dict[str, str]) -> None:
    with pytest.raises(TarError):
        read_all(make_layer(make_entry("f", content=b"x" * 20, pax=pax)))


FOLDER = b"usr/share/some/folder/" + b"deep/" * 15 + b"end/"


@pytest.mark.parametrize(
    ("layer", "name", "kind", "size", "owner"),
    [
        ("gnu-magic-with-a-folder", FOLDER + b"file", REGULAR, 7, (2_200_000, 0)),
        ("gnu-magic-with-a-short-folder", b"x" * 15 + b"/y/file", REGULAR, 7, (2_200_000, 0)),
        ("gnu-magic-with-times", b"file", REGULAR, 7, (0, 0)),
        ("gnu-magic-with-times-in-base-256", b"file", REGULAR, 7, (0, 0)),
        ("gnu-magic-with-a-folder-that-begins-like-a-time", b"14000000000/14000000001/x/file", REGULAR, 7, (0, 0)),
        ("gnu-magic-with-neither", b"file", REGULAR, 7, (0, 0)),
        ("star", FOLDER[:60] + b"/file", REGULAR, 7, (0, 0)),
        ("numbers-behind-nul", b"file", REGULAR, 7, (125, 100)),
        ("numbers-of-nul-alone", b"file", REGULAR, 7, (0, 0)),
        ("v7-folder-with-a-size", b"file", REGULAR, 7, (0, 0)),
        ("pax-size-with-zeros", b"file", REGULAR, 7, (0, 0)),
        ("pax-length-with-zeros", b"named", REGULAR, 7, (0, 0)),
        ("pax-header-at-the-end", b"file", REGULAR, 7, (0, 0)),
        ("pax-header-before-the-end", b"file", REGULAR, 7, (0, 0)),
        ("long-name-at-the-end", b"file", REGULAR, 7, (0, 0)),
    ],
)  # fmt: skip
def test_odd_headers_are_read_as_they_were_meant(
    layer: str, name: bytes, kind: int, size: int, owner: tuple[int, int]
) -> None:
    entry = read_all(ODD_LAYERS[layer])[-1]
    assert (entry.name, entry.kind, entry.size, (entry.uid, entry.gid)) == (name, kind, size, owner)
    assert content_of(ODD_LAYERS[layer], entry) == b"content"


def test_a_folder_of_seventh_edition_tar_has_no_content() -> None:
    folder, file = read_all(ODD_LAYERS["v7-folder-with-a-size"])
    assert (folder.name, folder.kind, folder.size) == (b"d/", DIRECTORY, 0)
    assert file.name == b"file"


def test_a_path_of_pax_wins_over_the_folder_in_the_header() -> None:
    archive = make_pax(b"14 path=a/bcd\n") + make_header(b"file", uid=BIG_OWNER, tail=b"some/folder") + END
    assert [entry.name for entry in read_all(archive)] == [b"a/bcd"]


@pytest.mark.parametrize(
    "pax", [b"16 size=0x0007\n", b"13 size=-007\n", b"12 uid=1_0_0\n", b"13 mtime=1__2\n"]
)
def test_numbers_of_pax_are_decimal(pax: bytes) -> None:
    with pytest.raises(TarError):
        read_all(make_pax(pax) + make_header(b"f") + END)


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ("gnu-magic-with-neither", "entry 'file', byte 0: its header has neither times nor a folder"),
        ("pax-header-at-the-end", "entry 'PaxHeaders/x', byte 1024: it is an extended header with no entry"),
        (
            "pax-header-before-the-end",
            "entry 'PaxHeaders/x', byte 1024: it is an extended header with no entry",
        ),
        ("long-name-at-the-end", "entry 'L', byte 1024: it is an extended header with no entry"),
    ],
)
def test_what_is_passed_over_is_told(layer: str, told: str) -> None:
    notes: list[str] = []
    with TemporaryFile() as file:
        file.write(ODD_LAYERS[layer])
        file.flush()
        list(
            read_entries(
                file.fileno(), 0, len(ODD_LAYERS[layer]),
                lambda reason, name, offset: notes.append(str(TarError(reason, name, offset))),
            )
        )  # fmt: skip
    (note,) = notes
    assert note.startswith(told)


def mutations(archive: bytes, count: int) -> Iterator[bytes]:
    import random

    chosen = random.Random(7)
    for _ in range(count):
        changed = bytearray(archive)
        for _ in range(chosen.randint(1, 4)):
            changed[chosen.randrange(len(changed))] = chosen.choice((0, 0x20, 0x2F, 0x37, 0x80, 0xFF))
        if chosen.random() < 0.5:
            # A right checksum lets the change through to what comes after it.
            for start in range(0, len(changed) - 511, 512):
                if changed[start + 257 : start + 262] == b"ustar":
                    changed[start + 148 : start + 156] = b" " * 8
                    changed[start + 148 : start + 156] = b"%06o\0 " % sum(changed[start : start + 512])
        yield bytes(changed[: chosen.choice((len(changed), len(changed), chosen.randrange(len(changed))))])


def test_flipped_bits_end_in_an_error_or_in_entries_inside_the_archive() -> None:
    archive = make_layer(
        make_entry("dir", tarfile.DIRTYPE, pax={"SCHILY.xattr.user.a": "b", "mtime": "1.5"}),
        make_entry("n" * 200, content=b"x" * 700),
        make_entry("s", content=b"1\n0\n5\n".ljust(512, b"\0") + b"12345", pax={
            "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "100"}),
        make_entry("l", tarfile.LNKTYPE, link="m" * 150),
    )  # fmt: skip
    survived = 0
    for changed in mutations(archive, 1500):
        try:
            for entry in read_all(changed):
                pieces = entry.sparse if entry.sparse is not None else ((0, entry.offset, entry.size),)
                assert all(
                    offset >= 0 and offset + length <= len(changed) for _, offset, length in pieces if length
                )
                survived += 1
        except TarError as error:
            assert 0 <= error.offset <= len(changed)
    assert survived > 500


def test_reads_what_gnu_tar_writes_of_a_real_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "file").write_bytes(b"content")
    os.link(tmp_path / "x" / "file", tmp_path / "x" / "same")
    os.symlink("file", tmp_path / "x" / "soft")
    archive = subprocess.run(
        ["tar", "-C", tmp_path, "-cf", "-", "--sort=name", "--format=posix", "x"],
        check=True,
        capture_output=True,
    ).stdout
    found = [(entry.name, entry.kind, entry.link) for entry in read_all(archive)]
    assert found == [
        (b"x/", DIRECTORY, b""), (b"x/file", REGULAR, b""), (b"x/same", HARD_LINK, b"x/file"),
        (b"x/soft", SYMLINK, b"file"),
    ]  # fmt: skip
