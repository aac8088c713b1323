# SPDX-License-Identifier: Apache-2.0
"""Compose files as people publish them, written anew: what `config` says of each is kept beside it.

After a change that is meant: VOLANT_WRITE_GOLDEN=1 pytest tests/unit/volar/compose/test_showing.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.errors import InvalidInput
from volant.volar.compose.files import find_files
from volant.volar.compose.loading import Project, load_project
from volant.volar.compose.planning import select_services
from volant.volar.compose.requests import make_requests
from volant.volar.compose.showing import show_config

STACKS = Path(__file__).parents[3] / "golden" / "compose"
NAMES = sorted(path.name for path in STACKS.iterdir())
GOLDEN = "config.golden"


def load(name: str) -> Project:
    return load_project(find_files(STACKS / name), environment={"GRAFANA_PASSWORD": "geheim"})


def test_there_are_twenty() -> None:
    assert len(NAMES) >= 20


@pytest.mark.parametrize("name", NAMES)
def test_config_is_as_it_was(name: str) -> None:
    shown = show_config(load(name)).replace(str(STACKS / name), "FOLDER")
    golden = STACKS / name / GOLDEN
    if os.environ.get("VOLANT_WRITE_GOLDEN"):
        golden.write_text(shown)
    assert shown == golden.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_config_is_a_compose_file_that_means_the_same(name: str, tmp_path: Path) -> None:
    project = load(name)
    (tmp_path / "compose.yaml").write_text(show_config(project).replace("$", "$$"))
    again = load_project([tmp_path / "compose.yaml"], environment={})
    assert again.stack.model_dump(exclude={"version", "include"}) == project.stack.model_dump(
        exclude={"version", "include", "name"}
    ) | {"name": project.name}


@pytest.mark.parametrize("name", NAMES)
def test_every_service_becomes_a_request(name: str) -> None:
    project = load(name)
    try:
        requests = make_requests(project, select_services(project.stack, [], ["*"]))
    except InvalidInput as error:
        raise AssertionError(str(error)) from error
    assert set(requests) == set(project.stack.services)
