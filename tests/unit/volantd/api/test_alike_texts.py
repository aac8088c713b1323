# SPDX-License-Identifier: Apache-2.0
"""Texts come back as they were, whatever the first one was; alike ones take little room."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from volant.volantd.api.alike_texts import LONGEST_PATTERN, AlikeTexts


def make_text(number: int) -> bytes:
    return json.dumps(
        {"id": f"{number:012x}", "name": f"vm-{number}", **{f"field-{n}": n for n in range(60)}}
    ).encode()


@pytest.mark.parametrize("first", [make_text(0), b"", b"x", b"\0" * 3, bytes(range(256)) * LONGEST_PATTERN])
def test_a_text_comes_back_as_it_was(first: bytes) -> None:
    texts = AlikeTexts()
    assert texts.get("0") is None
    expected = {"0": first, **{str(number): make_text(number) for number in range(1, 50)}, "none": b""}
    for key, text in expected.items():
        texts.put(key, text)
    assert {key: texts.get(key) for key in expected} == expected
    texts.put("7", b"another one")
    assert texts.get("7") == b"another one"


def test_one_that_was_discarded_is_there_no_more() -> None:
    texts = AlikeTexts()
    texts.put("a", make_text(1))
    assert "a" in texts
    texts.discard("a")
    texts.discard("never there")
    assert "a" not in texts
    assert texts.get("a") is None


def test_alike_ones_are_kept_in_a_fifth_of_their_size() -> None:
    tracemalloc.start()
    texts = AlikeTexts()
    texts.put("first", make_text(0))
    before, _ = tracemalloc.get_traced_memory()
    for number in range(100):
        texts.put(str(number), make_text(number))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < sum(len(make_text(number)) for number in range(100)) / 5
