# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as the HTML standard spells them."""

from __future__ import annotations

from volant.client.event_stream import EventReader

STREAM = b': hello\n\nid: 7\ndata: {"id": 7,\ndata:  "vm": "a"}\n\nid: x\ndata: {"id": 8}\r\n\r\ndata: {"cut"'


def test_data_is_joined_comments_are_not_and_what_is_cut_is_no_event() -> None:
    reader = EventReader()
    assert list(reader.read(STREAM.splitlines(keepends=True))) == [{"id": 7, "vm": "a"}, {"id": 8}]
    assert reader.last_id == 7
