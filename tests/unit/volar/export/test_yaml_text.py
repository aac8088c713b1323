# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from support.exported_machines import VARIABLES, list_machines
from volant.volar.export.kubevirt import make_objects
from volant.volar.export.yaml_text import write_documents

# Readers of either version. Go's, which kubectl has, knows parts of the older one.
VERSIONS = [(1, 1), (1, 2)]


def read(text: str, version: tuple[int, int]) -> list[object]:
    yaml = YAML(typ="safe", pure=True)
    yaml.version = version
    return list(yaml.load_all(io.StringIO(text)))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_text_is_text_to_every_reader(version: tuple[int, int]) -> None:
    objects = [{"stringData": {**VARIABLES, "on": "off"}, "list": ["1", "no"], "number": 7, "truth": False}]
    assert read(write_documents(objects), version) == objects


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_text_survives(values: dict[str, str]) -> None:
    for version in VERSIONS:
        assert read(write_documents([values]), version) == [values]


def test_objects_follow_each_other() -> None:
    objects = make_objects(list_machines()["with variables"])
    text = write_documents(objects)
    assert text.startswith("---\n")
    assert read(text, (1, 2)) == objects
