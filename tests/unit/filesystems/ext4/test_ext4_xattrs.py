# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import struct

import pytest

from volant.errors import InvalidInput
from volant.filesystems.ext4.xattrs import convert_acl, make_xattr_block, plan_xattrs

CAPABILITY = (b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
ACL = b"\2\0\0\0" + b"".join(
    struct.pack("<HHI", tag, permissions, identity)
    for tag, permissions, identity in (
        (1, 6, 0xFFFFFFFF), (2, 4, 1000), (4, 4, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 4, 0xFFFFFFFF)
    )
)  # fmt: skip


def test_a_capability_lies_in_the_inode() -> None:
    stored = plan_xattrs((CAPABILITY,))
    assert not stored.block_attributes
    assert stored.inode_area[:4] == bytes.fromhex("000002ea")
    length, index, offset = struct.unpack_from("<BBH", stored.inode_area, 4)
    assert (length, index) == (10, 6)
    assert stored.inode_area[20:30] == b"capability"
    assert stored.inode_area[4 + offset :][:20] == CAPABILITY[1]


def test_what_does_not_fit_the_inode_goes_to_a_block_sorted_as_the_kernel_wants_it() -> None:
    stored = plan_xattrs(((b"user.bb", b"1" * 90), (b"user.a", b"2" * 90), (b"trusted.x", b"3" * 90)))
    assert [(item.index, item.name) for item in stored.block_attributes] == [(1, b"a"), (1, b"bb"), (4, b"x")]
    block = make_xattr_block(stored.block_attributes, 3, 99, 0)
    assert len(block) == 4096
    assert struct.unpack_from("<III", block) == (0xEA020000, 3, 1)


def test_acls_are_stored_in_the_short_form() -> None:
    assert convert_acl(ACL) == bytes.fromhex("01000000 01000600 02000400e8030000 04000400 10000400 20000400")


@pytest.mark.parametrize("value", [b"", b"\1\0\0\0", b"\2\0\0\0\1"])
def test_a_value_that_is_no_acl_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidInput):
        convert_acl(value)


def test_too_much_and_unknown_name_spaces_are_refused() -> None:
    with pytest.raises(InvalidInput, match="larger than 4 KiB"):
        plan_xattrs(((b"user.a", bytes(5000)),))
    with pytest.raises(InvalidInput, match="name space"):
        plan_xattrs(((b"os2.a", b""),))
