# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from volant.errors import InvalidInput, NotFound
from volant.fledge.recipe import Recipe, describe_keys, find_line, load_recipe, read_recipe

GUIDE = """\
[plugin]
name = "nginx-alpine"
version = "1.0.0"
description = "NGINX web server on Alpine Linux"

[plugin.runtime]
type = "oci"
source = "Dockerfile"

[plugin.manifest]
workload.type = "http"
workload.port = 80

resources.vcpu = 1
resources.memory_mb = 256
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "fledge.toml"
    path.write_text(text)
    return path


def problems_of(folder: Path, text: str) -> list[str]:
    recipe, problems = read_recipe(write(folder, text))
    assert recipe is None
    return [f"{problem.line}: {problem.message} ({problem.resolution})" for problem in sorted(problems)]


def test_the_guides_recipe(home: Path) -> None:
    recipe = load_recipe(write(home, GUIDE))
    assert (recipe.plugin.name, recipe.plugin.version) == ("nginx-alpine", "1.0.0")
    assert recipe.plugin.runtime.qcow2_compression
    assert recipe.plugin.manifest.workload.port == 80
    assert recipe.plugin.manifest.resources.memory_mb == 256


def test_a_recipe_without_runtime_has_its_defaults(home: Path) -> None:
    recipe = load_recipe(write(home, '[plugin]\nname = "wordpress"\nversion = "6.4.0"\n'))
    runtime = recipe.plugin.runtime
    assert (runtime.type, runtime.format, runtime.compression, runtime.builder) == (
        "oci",
        "qcow2",
        "zstd",
        "auto",
    )


@pytest.mark.guide("11-4")
def test_all_problems_at_once_each_with_its_line(home: Path) -> None:
    text = (
        GUIDE.replace('type = "oci"', 'typ = "oci"')
        .replace('"1.0.0"', '"1"')
        .replace("workload.port", "port")
    )
    assert problems_of(home, text) == [
        "3: plugin.version = '1' is not allowed (a semantic version in quotes, e.g. \"1.0.0\")",
        "7: unknown key plugin.runtime.typ (did you mean 'type'?)",
        "12: unknown key plugin.manifest.port (it belongs at plugin.manifest.workload.port)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "0: plugin is missing (begin the file with [plugin], name = \"...\" and version = \"...\")"),
        ("[plugin]\nname = nginx\n", "2: not TOML: Invalid value (strings want quotes, tables are [like.this])"),
        ('[plugin]\nname = "Web"\nversion = "1.0.0"\n', "2: plugin.name = 'Web' is not allowed (lowercase letters,"),
        ('[plugin]\nname = "a"\nversion = "1.0.0"\nruntime.disk_size = "10GB"\n', "4: plugin.runtime.disk_size"),
        ('[plugin]\nname = "a"\nversion = "1.0.0"\nmanifest.workload.port = "80"\n', "4: plugin.manifest.workload.po"),
        ('[plugin]\nname = "a"\nversion = "1.0.0"\nruntime.build_script = "x"\n', "4: plugin.runtime: build_script is"),
        ('[plugin]\nname = "a"\nversion = "1.0.0"\n[mappings]\n"gone" = "/x"\n', "5: mappings: no such file: gone"),
        (
            '[plugin]\nname = "a"\nversion = "1.0.0"\n[[plugin.manifest.disks]]\nname = "d"\nsource = "./d.img"\n',
            "4: plugin.manifest.disks.0.source = './d.img': is no URL, and further disks are not packed into a plugin",
        ),
        ('[plugin]\nname = "a"\nversion = "1.0.0"\n[plugins]\n', "4: unknown key plugins (did you mean 'plugin'?)"),
    ],
)  # fmt: skip
def test_one_problem(home: Path, text: str, expected: str) -> None:
    (told,) = problems_of(home, text)
    assert told.startswith(expected)


def test_disks_that_vms_are_made_with(home: Path) -> None:
    disk = '[[plugin.manifest.disks]]\nname = "data"\ntarget = "/var/lib/postgresql/data"\nsize = "20G"\n'
    recipe = load_recipe(write(home, f'[plugin]\nname = "db"\nversion = "1.0.0"\n{disk}'))
    disks = recipe.plugin.manifest.disks
    assert [(disk.name, disk.target, disk.size, disk.source) for disk in disks] == [
        ("data", "/var/lib/postgresql/data", "20G", None)
    ]


def test_a_mapping_must_stay_in_the_guest(home: Path) -> None:
    (home / "page").write_text("")
    text = '[plugin]\nname = "a"\nversion = "1.0.0"\n[mappings]\npage = "/srv/../../page"\n'
    assert problems_of(home, text)[0].startswith("5: mappings: '/srv/../../page' is not an absolute path")


def test_an_error_names_the_file_and_exits_3(home: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read recipe fledge\.toml: one problem") as caught:
        load_recipe(write(home, GUIDE + "[other]\n"))
    assert caught.value.details == ("fledge.toml:16: unknown key other (known here: plugin, mappings)",)


def test_a_missing_recipe_says_how_to_get_one(home: Path) -> None:
    with pytest.raises(NotFound, match="no such file") as caught:
        load_recipe(home / "fledge.toml")
    assert "fledge init" in caught.value.resolution


def test_find_line_reads_tables_dotted_and_quoted_keys() -> None:
    text = '[a]\nb.c = 1\n[a."d e"]\nf = 2\n[[g]]\nh = 3\n'
    assert find_line(text, ("a", "b", "c")) == 2
    assert find_line(text, ("a", "d e", "f")) == 4
    assert find_line(text, ("g", "h")) == 6
    assert find_line(text, ("a", "missing")) == 1
    assert find_line(text, ("z",)) == 0


def test_every_key_is_described_and_defaults_are_toml() -> None:
    rows = {row.key: row for row in describe_keys()}
    assert {
        "plugin.name",
        "plugin.runtime.qcow2_compression",
        "plugin.manifest.workload.port",
        "mappings",
    } <= set(rows)
    assert rows["plugin.name"].default == "required"
    for row in rows.values():
        if row.default not in ("required", "–"):
            tomllib.loads(f"x = {row.default}")


def test_descriptions_cover_what_is_fledges_own() -> None:
    own = [row for row in describe_keys() if not row.key.startswith("plugin.manifest.")]
    assert all(row.meaning for row in own), [row.key for row in own if not row.meaning]


def test_the_model_is_frozen() -> None:
    recipe = Recipe.model_validate({"plugin": {"name": "a", "version": "1.0.0"}})
    with pytest.raises(ValueError, match="frozen"):
        recipe.plugin.name = "b"


def test_a_recipe_nested_without_end_is_a_problem(home: Path) -> None:
    (home / "fledge.toml").write_text("a = " + "[" * 50_000)
    assert [str(problem) for problem in read_recipe(home / "fledge.toml")[1]] == [
        "fledge.toml: not TOML: nested too deeply"
    ]
