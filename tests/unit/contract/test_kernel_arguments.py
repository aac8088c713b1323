# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.contract.kernel_arguments import MOST_CHARACTERS, check_kernel_arguments, split_kernel_arguments


def test_parameters_keep_their_quotes() -> None:
    text = '  loglevel=7 virtio_blk.num_request_queues=1 dyndbg="file a.c +p; file b.c +p" "x=1 2"  '
    assert split_kernel_arguments(text) == (
        "loglevel=7", "virtio_blk.num_request_queues=1", 'dyndbg="file a.c +p; file b.c +p"', '"x=1 2"',
    )  # fmt: skip
    assert check_kernel_arguments(text) == text.strip()
    assert split_kernel_arguments("   ") == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("init=/bin/sh", "hold init: volantd sets it"),
        ("a=b rdinit=/bin/sh", "hold rdinit"),
        ("root=/dev/vda", "hold root"),
        ('"init=/bin/sh"', "hold init"),
        ('in"it"=/bin/sh', "hold init"),
        ("tsc-early-khz=1", "hold tsc-early-khz"),
        ("console=null", "hold console"),
        ("panic=0", "hold panic"),
        ("initrd=0x1,2", "hold initrd"),
        ("quiet -- check-config", "hold --: "),
        ("a=1\0b", r"hold '\\x00'"),
        ("a=1\nb=2", r"hold '\\n'"),
        ("a=1\tb=2", r"hold '\\t'"),
        ("a=é", "plain ASCII"),
        ('a="b', "that nothing closes"),
        ("a" * (MOST_CHARACTERS + 1), "are 1501 characters"),
    ],
)
def test_what_would_be_read_otherwise_or_is_ours_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        split_kernel_arguments(text)


def test_what_only_looks_like_ours_is_taken() -> None:
    assert len(split_kernel_arguments("rootwait initcall_debug systemd.unit=x panic_on_oops=1 tsc_x=1")) == 5
