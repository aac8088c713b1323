# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import InvalidInput, NotFound, VolantError
from volant.volar.compose.files import choose_files, find_files
from volant.volar.compose.loading import Project, load_project


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def load(folder: Path, name: str | None = "p", **environment: str) -> Project:
    return load_project(find_files(folder), name=name, environment=environment)


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"])
def test_the_usual_names_are_found_from_below_with_their_overrides(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("services: {a: {image: i}}")
    override = tmp_path / name.replace(".y", ".override.y")
    override.write_text("services: {a: {image: j}}")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_files(below) == [tmp_path / name, override]
    assert load(below).stack.services["a"].image == "j"


def test_files_are_named_by_option_or_variable(tmp_path: Path) -> None:
    assert choose_files(["b.yaml"], {"COMPOSE_FILE": "c"}, tmp_path) == [tmp_path / "b.yaml"]
    assert choose_files([], {"COMPOSE_FILE": "c:d"}, tmp_path) == [tmp_path / "c", tmp_path / "d"]
    assert choose_files([], {"COMPOSE_FILE": "c;d", "COMPOSE_PATH_SEPARATOR": ";"}, tmp_path)[1].name == "d"
    with pytest.raises(NotFound, match="compose file"):
        find_files(write(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("folder", "written", "given", "environment", "name"),
    [
        ("My App.2", "", None, {}, "myapp2"),
        ("x", "name: ${STAGE}-shop\n", None, {"STAGE": "test"}, "test-shop"),
        ("x", "name: file\n", None, {"COMPOSE_PROJECT_NAME": "variable"}, "variable"),
        ("x", "name: file\n", "option", {"COMPOSE_PROJECT_NAME": "variable"}, "option"),
    ],
)
def test_a_stack_has_a_name(
    tmp_path: Path, folder: str, written: str, given: str | None, environment: dict[str, str], name: str
) -> None:
    place = write(
        tmp_path / folder, compose__yaml=f"{written}services: {{a: {{image: '$COMPOSE_PROJECT_NAME'}}}}"
    )
    project = load(place, given, **environment)
    assert (project.name, project.stack.services["a"].image) == (name, name)


def test_variables_come_from_the_shell_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, compose__yaml="services: {a: {image: '$A-$B-$C'}}", __env="A=file\nB=file\n")
    project = load(tmp_path, A="shell")
    assert project.stack.services["a"].image == "shell-file-"
    assert project.warnings == ("variable C is not set, and counts as empty",)
    (tmp_path / "other").write_text("A=other\nC=other")
    named = load_project(find_files(tmp_path), env_files=[tmp_path / "other"], environment={}, name="p")
    assert named.stack.services["a"].image == "other--other"


def test_a_later_file_adds_and_replaces(tmp_path: Path) -> None:
    write(
        tmp_path,
        compose__yaml="""
services:
  a:
    image: one
    command: [x, y]
    environment: [A=1, B=1]
    ports: ["8080:80", "90"]
    volumes: ["v:/data", "w:/logs"]
    dns: [1.1.1.1]
    labels: {l: "1"}
    healthcheck: {test: old, interval: 5s}
    depends_on: [b]
  b: {image: b, ports: ["1:1"], environment: {GONE: "1", KEPT: "1"}}
volumes: {v: , w: }
""",
        compose__override__yaml="""
services:
  a:
    command: z
    environment: {B: 2, C: 3}
    ports: ["8080:80", "8081:80"]
    volumes: ["w:/data"]
    dns: [2.2.2.2]
    labels: [m=2]
    healthcheck: {test: [CMD, new]}
    depends_on: {b: {condition: service_healthy}}
  b:
    ports: !override ["2:2"]
    environment: {GONE: !reset null}
""",
    )
    services = load(tmp_path).stack.services
    a, b = services["a"], services["b"]
    assert (a.image, a.command, a.labels) == ("one", ["z"], {"l": "1", "m": "2"})
    assert a.environment == {"A": "1", "B": "2", "C": "3"}
    assert [(port.published, port.target) for port in a.ports] == [("8080", 80), (None, 90), ("8081", 80)]
    assert [(volume.source, volume.target) for volume in a.volumes] == [("w", "/data"), ("w", "/logs")]
    assert a.dns == ["1.1.1.1", "2.2.2.2"]
    assert a.healthcheck is not None
    assert (a.healthcheck.test, a.healthcheck.interval) == (["CMD", "new"], 5.0)
    assert a.depends_on["b"].condition == "service_healthy"
    assert ([port.target for port in b.ports], b.environment) == ([2], {"KEPT": "1"})


def test_a_service_extends_another_with_the_paths_of_its_own_file(tmp_path: Path) -> None:
    write(tmp_path / "base", base__yaml="services: {x: {extends: y, command: a}, y: {env_file: e, build: .}}")
    write(
        tmp_path,
        compose__yaml="services: {a: {extends: {file: base/base.yaml, service: x}, command: b, env_file: f}}",
    )
    service = load(tmp_path).stack.services["a"]
    assert service.command == ["b"]
    assert [file.path for file in service.env_file] == [str(tmp_path / "base/e"), str(tmp_path / "f")]
    assert service.build is not None
    assert service.build.context == str(tmp_path / "base")


def test_what_is_included_counts_its_paths_from_its_own_folder(tmp_path: Path) -> None:
    write(
        tmp_path / "part",
        compose__yaml="services: {db: {image: 'db:$V', env_file: e}}\nvolumes: {d: }",
        __env="V=1",
    )
    write(
        tmp_path, compose__yaml="include: [part/compose.yaml]\nservices: {a: {image: 'a', depends_on: [db]}}"
    )
    services = load(tmp_path).stack.services
    assert (services["db"].image, services["db"].env_file[0].path) == ("db:1", str(tmp_path / "part/e"))
    assert load(tmp_path, V="2").stack.services["db"].image == "db:2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("services: [a]", "services"),
        ("services: {a: {imagee: x}}", "services.a.imagee: there is no such key"),
        ("services: {a: {image: [x]}}", "services.a.image"),
        ("services: {a: {image: x, ports: ['x']}}", "services.a.ports: 'x' is not a port"),
        (
            "services: {a: {image: x, depends_on: {b: {condition: soon}}}}",
            "services.a.depends_on.b.condition",
        ),
        ("services: {a: {image: x, stop_grace_period: soon}}", "not a duration"),
        ("services: {a: {image: x, restart: maybe}}", "services.a.restart"),
        ("services: {a: {image: x}, b: {image: '${B:?name it}'}}", "name it"),
        ("services: {a: {image: x}}\nservices: {}", "services"),
        ("a: [", "YAML"),
        ("- a", "no services"),
        ("services: {a: {extends: b}}", "lacks"),
        ("services: {a: {extends: a}}", "extends itself"),
        ("services: {a: {extends: b}, b: {extends: a}}", "extends itself"),
        ("services: {a: {extends: {file: none.yaml, service: a}}}", "none.yaml"),
        ("include: [compose.yaml]", "includes itself"),
        ("include: [none.yaml]", "none.yaml"),
        ("services: {a: !!python/object/apply:os.system [id]}", "YAML"),
        ("x: &a [1]\nservices: {a: {image: " + "[" * 3000 + "]" * 3000 + "}}", "cannot"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, compose__yaml=text)
    with pytest.raises(VolantError) as caught:
        load(tmp_path)
    assert words in str(caught.value)


def test_two_parts_may_not_define_one_thing(tmp_path: Path) -> None:
    write(tmp_path / "one", compose__yaml="services: {a: {image: x}}")
    write(tmp_path, compose__yaml="include: [one/compose.yaml]\nservices: {a: {image: y}}")
    with pytest.raises(InvalidInput, match=r"services\.a is defined here, too"):
        load(tmp_path)


def test_extensions_are_dropped_and_ours_are_kept(tmp_path: Path) -> None:
    write(
        tmp_path,
        compose__yaml="""
x-all: &all {image: i, x-volant: {cpus: 2, memory: 1g}}
services: {a: {<<: *all, x-other: {b: 1}}}
""",
    )
    service = load(tmp_path).stack.services["a"]
    assert (service.volant.cpus, service.volant.memory) == (2, 1 << 30)


def test_a_mode_is_octal_with_and_without_quotes(tmp_path: Path) -> None:
    secrets = "[{source: s, mode: 0400}, {source: t, mode: '0440'}]"
    write(tmp_path, compose__yaml=f"services: {{a: {{image: i, scale: 10, secrets: {secrets}}}}}")
    service = load(tmp_path).stack.services["a"]
    assert [secret.mode for secret in service.secrets] == [0o400, 0o440]
    assert service.scale == 10
