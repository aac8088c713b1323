# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.kubernetes.exec_channels import make_status
from volant.kubernetes.stream_protocols import FIRST, NEWEST, choose_protocol, keep_offer, write_end


@pytest.mark.parametrize(
    ("offer", "chosen"),
    [
        ("v5.channel.k8s.io, v4.channel.k8s.io", NEWEST),
        ("channel.k8s.io,v4.channel.k8s.io", "v4.channel.k8s.io"),
        ("channel.k8s.io", FIRST),
        ("base64.channel.k8s.io", NEWEST),
        ("", NEWEST),
    ],
)
def test_the_newest_that_is_offered_is_spoken(offer: str, chosen: str) -> None:
    assert choose_protocol(offer) == chosen


def test_an_offer_is_kept_where_only_we_look() -> None:
    given = [(b"host", b"node"), (b"x-offered-protocols", b"forged"), (b"sec-websocket-protocol", b"a, b")]
    assert keep_offer(given) == [(b"host", b"node"), (b"x-offered-protocols", b"a, b")]


def test_the_first_protocol_tells_of_failures_alone() -> None:
    assert write_end(NEWEST, make_status(0)) == make_status(0)
    assert write_end(FIRST, make_status(0)) is None
    assert write_end(FIRST, make_status(7)) == b"command terminated with non-zero exit code: exit status 7"
