# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from volant.errors import NotFound
from volant.fledge.recipe import load_recipe
from volant.volar.client import Client
from volant.volar.compose import plugins
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Build, Service, Stack
from volant.volar.compose.plugins import (
    choose_pull,
    find_dockerfile,
    find_plugins,
    make_recipe,
    name_plugin,
)
from volant.volar.compose.side_by_side import Row


def test_a_build_is_a_recipe_that_fledge_takes(tmp_path: Path) -> None:
    project = Project("p", tmp_path, Stack.model_validate({}), {"FROM_SHELL": 'a "quoted" one'}, ())
    build = Build.model_validate(
        {"context": str(tmp_path), "args": {"A": 1, "FROM_SHELL": None, "NOWHERE": None}, "target": "final",
         "platforms": ["linux/amd64", "linux/arm64"]}
    )  # fmt: skip
    (tmp_path / "fledge.toml").write_text(
        make_recipe("p-web", tmp_path / "other" / "Dockerfile", project, build)
    )
    runtime = load_recipe(tmp_path / "fledge.toml").plugin.runtime
    assert runtime.build_args == {"A": "1", "FROM_SHELL": 'a "quoted" one'}
    assert (runtime.target, runtime.platform) == ("final", "linux/amd64")
    assert (runtime.source, runtime.context) == (str(tmp_path / "other/Dockerfile"), str(tmp_path))


def test_names_and_files(tmp_path: Path) -> None:
    assert name_plugin("p", "Web.API") == "p-web-api"
    assert find_dockerfile(tmp_path) == "Dockerfile"
    (tmp_path / "Containerfile").touch()
    assert find_dockerfile(tmp_path) == "Containerfile"
    policies = ("always", "never", "if_not_present", None)
    services = [Service.model_validate({"pull_policy": word}) for word in policies]
    assert [choose_pull(service) for service in services] == ["always", "never", "missing", "missing"]


class Daemon:
    """Has these plugins."""

    def __init__(self, *there: str) -> None:
        self.there = there

    def get_plugin(self, reference: str) -> dict[str, str]:
        for each in self.there:
            if reference in (each, each.partition(":")[0]):
                return dict(zip(("name", "version"), each.split(":"), strict=True))
        raise NotFound("there is none")


def test_what_is_missing_is_made_once_and_alike_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {
        "there": {"image": "redis:7"},
        "built": {"build": "./there"},
        "web": {"build": "."},
        "worker": {"build": "."},
        "api": {"build": "./api"},
        "cache": {"image": "nginx:1"},
        "proxy": {"image": "docker.io/library/nginx:1"},
    }
    stack = Stack.model_validate({"services": services})
    project = Project("p", tmp_path, stack, {}, ())
    seen: list[list[str]] = []

    def make_rows(rows: Sequence[Row]) -> dict[str, str]:
        seen.extend([name for name, _ in row] for row in rows)
        return {name: f"{name}:new" for row in rows for name, _ in row}

    monkeypatch.setattr(plugins, "make_rows", make_rows)
    client = cast("Client", Daemon("redis:0.1.0+7", "p-built:0.1.0"))
    found = find_plugins(client, project, list(services), build=False, pull=None)
    assert seen == [["web", "worker"], ["api"], ["cache"]]
    assert found == {
        "there": "redis:0.1.0+7", "built": "p-built:0.1.0", "web": "web:new", "worker": "worker:new",
        "api": "api:new", "cache": "cache:new", "proxy": "cache:new",
    }  # fmt: skip
    seen.clear()
    find_plugins(client, project, ["there", "built"], build=True, pull="always")
    assert seen == [["there"], ["built"]]
