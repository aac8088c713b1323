# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import NotFound, UsageError
from volant.fledge.order import (
    ArchiveSource,
    CommandLine,
    DockerfileSource,
    MappingsSource,
    ReferenceSource,
    ScriptSource,
    make_order,
)  # fmt: skip

RECIPE = '[plugin]\nname = "web"\nversion = "1.0.0"\n[plugin.runtime]\n'


def write_recipe(folder: Path, runtime: str = "", rest: str = "", name: str = "fledge.toml") -> None:
    (folder / name).write_text(f"{RECIPE}{runtime}\n{rest}\n")


def test_the_recipe_here_builds_the_dockerfile_beside_it(home: Path) -> None:
    write_recipe(
        home, 'build_args = {A = "1", B = "2"}\ntarget = "last"\nqcow2_compression = false\ndisk_size = "2G"'
    )
    order = make_order(CommandLine(build_args={"B": "3"}))
    assert isinstance(order.source, DockerfileSource)
    assert order.source.path == Path("Dockerfile")
    assert order.source.build_args == {"A": "1", "B": "3"}
    assert (order.source.target, order.name, order.version) == ("last", "web", "1.0.0")
    assert (order.compression, order.disk_size_bytes) == (None, 2 << 30)


def test_paths_of_another_recipe_are_relative_to_it(home: Path) -> None:
    (home / "sub").mkdir()
    (home / "sub/page").write_text("")
    write_recipe(
        home / "sub", 'source = "web.Dockerfile"\ncontext = "src"', '[mappings]\npage = "/srv/page"', "o.toml"
    )
    order = make_order(CommandLine(config="sub/o.toml"))
    assert isinstance(order.source, DockerfileSource)
    assert (order.source.path, order.source.context) == (Path("sub/web.Dockerfile"), Path("sub/src"))
    assert order.mappings == ((Path("sub/page"), "/srv/page"),)


def test_a_source_on_the_command_line_overrides_the_recipes(home: Path) -> None:
    write_recipe(home)
    order = make_order(CommandLine(docker_archive="image.tar", format="raw", output="x.tar.gz"))
    assert order.source == ArchiveSource("docker-archive", Path("image.tar"))
    assert (order.name, order.format, order.output) == ("web", "raw", Path("x.tar.gz"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docker://docker.io/library/nginx:1.27", ReferenceSource("docker://docker.io/library/nginx:1.27")),
        ("nginx:1.27", ReferenceSource("docker://nginx:1.27")),
        ("docker-daemon:web:1.0", ReferenceSource("docker-daemon:web:1.0")),
        ("docker-archive:image.tar", ArchiveSource("docker-archive", Path("image.tar"))),
        ("oci:layout", ArchiveSource("oci", Path("layout"))),
        ("docker-archive:gone.tar:web:1.0", ReferenceSource("docker-archive:gone.tar:web:1.0")),
    ],
)
def test_references_in_a_recipe(home: Path, text: str, expected: object) -> None:
    (home / "image.tar").write_text("")
    (home / "layout").mkdir()
    write_recipe(home, f'source = "{text}"')
    assert make_order(CommandLine()).source == expected


def test_a_name_with_a_colon_may_still_be_a_file(home: Path) -> None:
    (home / "a:b").write_text("FROM scratch")
    write_recipe(home, 'source = "a:b"')
    assert isinstance(make_order(CommandLine()).source, DockerfileSource)


def test_initramfs_sources(home: Path) -> None:
    (home / "page").write_text("")
    write_recipe(home, 'type = "initramfs"', '[mappings]\npage = "/page"')
    assert make_order(CommandLine()).source == MappingsSource()
    write_recipe(home, 'type = "initramfs"\nbuild_script = "make.sh"')
    assert make_order(CommandLine()).source == ScriptSource(Path("make.sh"))
    (home / "Dockerfile").write_text("FROM scratch")
    write_recipe(home, 'type = "initramfs"', '[mappings]\npage = "/page"')
    assert isinstance(make_order(CommandLine()).source, DockerfileSource)


def test_without_a_recipe_the_folder_gives_the_name(home: Path) -> None:
    (home / "My App").mkdir()
    (home / "My App/Dockerfile").write_text("FROM scratch")
    for place in ("My App/Dockerfile", "My App"):
        order = make_order(CommandLine(place=place))
        assert isinstance(order.source, DockerfileSource)
        assert (order.name, order.version, order.source.context) == ("my-app", None, Path("My App"))


def test_a_folder_with_a_recipe_means_the_recipe(home: Path) -> None:
    (home / "web").mkdir()
    write_recipe(home / "web")
    assert make_order(CommandLine(place="web")).name == "web"


def test_nothing_to_build_from(home: Path) -> None:
    with pytest.raises(NotFound, match=r"neither fledge\.toml nor a Dockerfile"):
        make_order(CommandLine())


def test_two_sources_are_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="two sources"):
        make_order(CommandLine(docker_archive="a", image="b"))


def test_documents_named_by_path_are_taken_in(home: Path) -> None:
    (home / "user-data.yaml").write_text("#cloud-config\n")
    (home / "api.json").write_text("{}")
    write_recipe(
        home, rest='[plugin.manifest]\ncloud_init.user_data.path = "user-data.yaml"\nopenapi = "api.json"'
    )
    runtime = make_order(CommandLine()).runtime
    assert runtime is not None and runtime.cloud_init is not None
    assert runtime.cloud_init.user_data is not None
    assert runtime.cloud_init.user_data.content == "#cloud-config\n"
    assert runtime.openapi == "{}"


def test_a_tag_names_the_plugin_whatever_the_recipe_says(home: Path) -> None:
    write_recipe(home)
    order = make_order(CommandLine(tag="other:2.0.0+build.1"))
    assert (order.name, order.version) == ("other", "2.0.0+build.1")
    order = make_order(CommandLine(tag="other"))
    assert (order.name, order.version) == ("other", "1.0.0")
    assert make_order(CommandLine(image="docker.io/library/nginx:1.27", tag="web")).name == "web"
    for wrong in ("", "Other", "a/b", "a:latest", ":1.0.0"):
        with pytest.raises(UsageError, match="cannot name the plugin"):
            make_order(CommandLine(tag=wrong))
