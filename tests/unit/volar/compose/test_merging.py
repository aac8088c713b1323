# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from volant.volar.compose.merging import Tree, merge_files, merge_services

trees = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.recursive(
        st.integers() | st.text(), lambda inner: st.dictionaries(st.sampled_from(["a", "b"]), inner)
    ),
)


def test_mappings_merge_and_lists_grow() -> None:
    below = {"services": {"a": {"dns": ["1"], "labels": {"l": "1"}}}}
    above = {"services": {"a": {"dns": ["2", "1"], "labels": {"m": "2"}}, "b": {}}}
    assert merge_files(below, above, []) == {
        "services": {"a": {"dns": ["1", "2"], "labels": {"l": "1", "m": "2"}}, "b": {}}
    }


def test_commands_are_replaced_in_services_alone() -> None:
    service, other = {"command": ["a"], "entrypoint": ["b"]}, {"command": ["c"]}
    assert merge_services(service, other, []) == {"command": ["c"], "entrypoint": ["b"]}
    assert merge_files({"command": ["a"]}, other, []) == {"command": ["a", "c"]}


def test_what_is_reset_goes_before_the_rest_comes() -> None:
    below = {"services": {"a": {"ports": [{"target": 1}], "environment": {"A": "1", "B": "2"}}}}
    above = {"services": {"a": {"ports": [{"target": 2}]}}}
    places = [
        ("services", "a", "ports"),
        ("services", "a", "environment", "A"),
        ("services", "gone", "x"),
        ("x", "y"),
    ]
    assert merge_files(below, above, places) == {
        "services": {"a": {"ports": [{"target": 2}], "environment": {"B": "2"}}}
    }
    assert below["services"]["a"]["environment"] == {"A": "1", "B": "2"}, "the earlier file stays as it was"


@given(trees, trees)
def test_the_later_file_counts(below: Tree, above: Tree) -> None:
    merged = merge_files(below, above, [])
    assert set(merged) == set(below) | set(above)
    assert merge_files(merged, above, []) == merged
    assert merge_files({}, above, []) == above
