# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from support.vm_records import make_record
from volant.errors import InvalidInput
from volant.volantd.vms.meta_data import make_meta_data


def test_without_a_document_name_and_instance_are_told() -> None:
    assert make_meta_data(make_record(), " \n") == {"local-hostname": "my-vm", "instance-id": "1f2e"}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("- a\n", "no mapping"),
        ("1: a\n", "no mapping"),
        ("a: [", "while parsing"),
        ("a: &a [x, x]\nb: &b [*a, *a]\n", "holds an alias"),
        ("a: " + "[" * 20_000, "nested more than 20 deep"),
        ("a:\n " + "- " * 20_000, "nested more than 20 deep"),
        ("a: " + "x" * (1 << 16), "more than 65,536"),
    ],
)
def test_a_hostile_document_is_refused_with_a_reason(document: str, reason: str) -> None:
    with pytest.raises(InvalidInput, match=r"cloud_init\.meta_data of plugin system") as caught:
        make_meta_data(make_record(), document)
    assert reason in str(caught.value)
