# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from volant.fledge.recipe import load_recipe
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Build, Service, Stack
from volant.volar.compose.plugins import choose_pull, find_dockerfile, make_recipe, name_plugin


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
