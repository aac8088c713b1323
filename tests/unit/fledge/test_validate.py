# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import NotFound
from volant.fledge.validate import validate_folder

RECIPE = """\
[plugin]
name = "web"
version = "1.0.0"
[plugin.manifest]
workload.type = "http"
workload.port = 80
"""
DOCKERFILE = """\
FROM debian:12
COPY index.html /srv/
COPY kestrel-config.yaml /etc/kestrel/config.yaml
EXPOSE 80
"""
CONFIG = "exec:\n  - name: a\n    command: /a\nhealth:\n  http:\n    port: 80\n"

pytestmark = pytest.mark.usefixtures("agent")


def lay_out(
    home: Path, recipe: str | None = RECIPE, dockerfile: str | None = DOCKERFILE, config: str | None = CONFIG
) -> None:
    for name, text in (("fledge.toml", recipe), ("Dockerfile", dockerfile), ("kestrel-config.yaml", config)):
        if text is not None:
            (home / name).write_text(text)
    (home / "index.html").write_text("")


def problems(home: Path) -> list[str]:
    return [str(problem) for problem in validate_folder(home)]


def test_a_sound_folder_has_no_problems(home: Path) -> None:
    lay_out(home)
    assert problems(home) == []


@pytest.mark.guide("13.1-3")
def test_everything_at_once(home: Path) -> None:
    lay_out(
        home,
        recipe=RECIPE.replace("workload.type", "workload.typ"),
        dockerfile="FROM nginx\nRNU true\nCOPY gone.html /srv/\nEXPOSE 8080\n",
        config="exec: [\n",
    )
    told = problems(home)
    assert told[:4] == [
        "Dockerfile:1: warning: kestrel-config.yaml is here, but nothing copies it to where the agent reads it (COPY "
        "kestrel-config.yaml /etc/kestrel/config.yaml)",
        "Dockerfile:1: warning: the base nginx is not pinned (add a tag or a digest, e.g. nginx:1.2)",
        "Dockerfile:2: unknown instruction RNU (did you mean RUN?)",
        "Dockerfile:3: COPY gone.html: no such file in . (make the file, or correct the path (it is relative to the "
        "build context))",
    ]
    assert told[4].startswith(
        "fledge.toml:5: unknown key plugin.manifest.workload.typ (did you mean 'type'?)"
    )
    assert told[5].startswith("kestrel-config.yaml:2:1: not YAML")


@pytest.mark.parametrize(
    ("base", "warned"),
    [
        ("debian:12", False), ("debian", True), ("debian:latest", True), ("scratch", False), ("$BASE", False),
        ("localhost:5000/debian", True), ("debian@sha256:00", False), ("localhost:5000/debian:12", False),
    ],
)  # fmt: skip
@pytest.mark.guide("11-2")
def test_bases_that_move(home: Path, base: str, warned: bool) -> None:
    lay_out(home, dockerfile=DOCKERFILE.replace("debian:12", base))
    assert bool(problems(home)) == warned


def test_ports_that_do_not_agree(home: Path) -> None:
    lay_out(home, dockerfile=DOCKERFILE.replace("80", "8080/tcp 53/udp"), config=CONFIG.replace("80", "81"))
    assert problems(home) == [
        "fledge.toml:6: warning: workload.port is 80, but the Dockerfile says EXPOSE 8080 (make them agree, or drop "
        "EXPOSE)",
        "kestrel-config.yaml:6: warning: the health check asks port 81, workload.port is 80 (make them agree, unless "
        "the check has a port of its own)",
    ]


def test_what_other_stages_say_counts_only_if_they_are_bases(home: Path) -> None:
    stages = (
        "FROM debian:12 AS a\nEXPOSE 1\nFROM debian:12 AS b\nEXPOSE 80\nFROM b\n"
        + DOCKERFILE.split("\n", 1)[1]
    )
    lay_out(home, dockerfile=stages.replace("EXPOSE 80\n", "EXPOSE 80\n", 1))
    assert problems(home) == []


def test_stages_and_targets(home: Path) -> None:
    lay_out(
        home,
        recipe=RECIPE.replace("[plugin.manifest]", '[plugin.runtime]\ntarget = "lst"\n[plugin.manifest]'),
        dockerfile="FROM debian:12 AS last\nCOPY --from=buidler /a /b\nCOPY --from=kestrel /kestrel /k\n",
        config=None,
    )
    assert problems(home) == [
        "Dockerfile:2: warning: no stage is called buidler (it will be looked up as an image)",
        "fledge.toml:5: no stage 'lst' in Dockerfile (stages: last)",
    ]


def test_the_agents_opinion_is_told(home: Path, agent: Path) -> None:
    lay_out(home)
    agent.write_text(
        '#!/bin/sh\necho \'{"line":2,"column":5,"message":"bad name","resolution":"rename"}\'\nexit 1\n'
    )
    assert problems(home) == ["kestrel-config.yaml:2:5: bad name (rename)"]


def test_a_config_by_mapping_is_checked_too(home: Path, agent: Path) -> None:
    agent.write_text('#!/bin/sh\necho \'{"line":1,"message":"bad"}\'\nexit 1\n')
    recipe = RECIPE + '[mappings]\n"kestrel-config.yaml" = "/etc/kestrel/config.yaml"\n'
    lay_out(home, recipe=recipe, dockerfile="FROM debian:12\n")
    assert problems(home) == ["kestrel-config.yaml:1: bad"]


@pytest.mark.parametrize(
    ("copy", "found"),
    [
        ("COPY kestrel-config.yaml /etc/kestrel/config.yaml", True),
        ('COPY ["kestrel-config.yaml", "/etc/kestrel/config.yaml"]', True),
        ("COPY kestrel-config.yaml /etc/kestrel/", False),
        ("COPY config.yaml /etc/kestrel/", True),
        ("COPY index.html config.yaml /etc/kestrel", True),
        ("COPY rootfs /", True),
        ("COPY rootfs/etc /etc/", True),
        ("COPY rootfs /srv", False),
        ("COPY --from=kestrel /x /etc/kestrel/config.yaml", False),
    ],
)
def test_where_the_agents_config_comes_from(home: Path, agent: Path, copy: str, found: bool) -> None:
    agent.write_text('#!/bin/sh\necho \'{"line":1,"message":"bad"}\'\nexit 1\n')
    lay_out(home, dockerfile=f"FROM debian:12\n{copy}\n")
    (home / "rootfs/etc/kestrel").mkdir(parents=True)
    (home / "rootfs/etc/kestrel/config.yaml").write_text(CONFIG)
    (home / "config.yaml").write_text(CONFIG)
    told = problems(home)
    assert any("nothing copies it" in line for line in told) != found
    assert any(line.endswith(".yaml:1: bad") for line in told)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("COPY a**b /x", "COPY a**b: no such file in ."),
        ("COPY ../x /y", "COPY ../x: outside of the build context"),
        ("COPY in* /srv/", ""),
        ("COPY [in]* /srv/", ""),
        ("COPY index.html", "COPY needs a source and a target"),
        ('COPY ["index.html", "/srv/"]', ""),
        ('COPY ["gone", "/srv/"]', "COPY gone: no such file in ."),
        ("FROM debian:12 AS", "FROM debian:12 AS is not understood"),
    ],
)
def test_copies_and_bases_that_no_builder_takes(home: Path, line: str, told: str) -> None:
    lay_out(home, recipe=None, dockerfile=f"FROM debian:12\n{line}\n", config=None)
    found = problems(home)
    assert found[0].startswith(f"Dockerfile:2: {told} (") if told else not found, found


def test_a_dockerfile_that_is_no_text(home: Path) -> None:
    lay_out(home, recipe=None, dockerfile="FROM debian:12\nCOPY a\0* /b\n", config=None)
    assert problems(home)[0].startswith("Dockerfile: it holds a NUL character")


def test_a_line_ends_where_editors_end_it(home: Path) -> None:
    lay_out(home, recipe=None, dockerfile="FROM debian:12\r\nRUN a\x0cb\r\nRNU x\n", config=None)
    assert problems(home) == ["Dockerfile:3: unknown instruction RNU (did you mean RUN?)"]


def test_a_build_script_and_the_config_beside_it(home: Path, agent: Path) -> None:
    agent.write_text('#!/bin/sh\necho \'{"line":1,"message":"bad"}\'\nexit 1\n')
    recipe = RECIPE + '[plugin.runtime]\ntype = "initramfs"\nbuild_script = "build.sh"\n'
    lay_out(home, recipe=recipe, dockerfile=None)
    assert problems(home) == [
        "fledge.toml:9: no such file: build.sh (correct `build_script`)", "kestrel-config.yaml:1: bad",
    ]  # fmt: skip
    (home / "build.sh").write_text("#!/bin/sh\n")
    (home / "build.sh").chmod(0o644)
    assert problems(home)[0] == "fledge.toml:9: build.sh cannot be run (chmod +x build.sh)"
    (home / "build.sh").chmod(0o755)
    assert problems(home) == ["kestrel-config.yaml:1: bad"]


def test_a_dockerfile_alone_and_a_missing_one(home: Path) -> None:
    with pytest.raises(NotFound, match=r"neither fledge\.toml nor a Dockerfile"):
        validate_folder(home)
    lay_out(home, recipe=None)
    assert problems(home) == []
    (home / "Dockerfile").unlink()
    (home / "fledge.toml").write_text(RECIPE)
    assert problems(home) == ["fledge.toml:1: the Dockerfile Dockerfile cannot be read (correct `source`)"]


def test_validate_sees_what_build_sees(home: Path) -> None:
    """A config that a build argument chooses, triggers, and what the ignore file keeps out."""
    dockerfile = (
        "FROM debian:12 AS base\nONBUILD COPY index.html gone.html /srv/\nONBUILD EXPOSE 81\nFROM base\n"
        "ARG CONFIG=gone.yaml\nCOPY ${CONFIG} /etc/kestrel/config.yaml\nCOPY secret.log /srv/\n"
    )
    recipe = RECIPE.replace(
        "[plugin.manifest]",
        '[plugin.runtime]\nbuild_args = {CONFIG = "kestrel-config.yaml"}\n[plugin.manifest]',
    )
    lay_out(home, recipe, dockerfile, CONFIG.replace("80", "81"))
    (home / "secret.log").write_text("")
    (home / ".dockerignore").write_text("*.log\n")
    assert problems(home) == [
        "Dockerfile:2: COPY gone.html: no such file in . (make the file, or correct the path (it is relative to the "
        "build context))",
        "Dockerfile:7: COPY secret.log: .dockerignore keeps it out of the build (add the line !secret.log to "
        ".dockerignore)",
        "fledge.toml:8: warning: workload.port is 80, but the Dockerfile says EXPOSE 81 (make them agree, or drop "
        "EXPOSE)",
        "kestrel-config.yaml:6: warning: the health check asks port 81, workload.port is 80 (make them agree, unless "
        "the check has a port of its own)",
    ]


def test_only_the_workloads_own_check_has_to_ask_its_port(home: Path) -> None:
    metrics = "exec:\n  - name: a\n    command: /a\n    health:\n      http:\n        port: 9100\n"
    lay_out(home, config=metrics + "health:\n  http:\n    port: 80\n")
    assert problems(home) == []
    lay_out(home, config=metrics)
    assert problems(home) == [], "a process may have a check and a port of its own"
    checks = (
        "health:\n  - name: metrics\n    http:\n      port: 9100\n  - name: page\n    tcp:\n      port: {}\n"
    )
    lay_out(home, config=metrics + checks.format(80))
    assert problems(home) == []
    lay_out(home, config=metrics + checks.format(81))
    assert ["asks port 9100, workload.port is 80" in problem for problem in problems(home)] == [True]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ('CMD ["/init"]', 2),
        ("ENTRYPOINT exec /opt/systemd --system", 2),
        ('CMD ["/app"]\nCMD ["systemd"]', 3),
        ('ENTRYPOINT ["/init"]\nENTRYPOINT ["/app"]', None),
        ('CMD ["/init"]\nENTRYPOINT ["/app"]', None),
        ('ENTRYPOINT []\nCMD ["/opt/init"]', 3),
        # The agent knows these by themselves.
        ('CMD ["/sbin/init"]', None),
        ("ENTRYPOINT exec /lib/systemd/systemd --system", None),
        ('CMD ["nginx"]', None),
    ],
)
def test_a_command_that_wants_to_be_process_1_is_warned_of(
    home: Path, command: str, line: int | None
) -> None:
    lay_out(home, recipe=None, dockerfile=f"FROM debian:12\n{command}\n", config=None)
    told = problems(home)
    assert [problem.partition(" warning")[0] for problem in told] == ([f"Dockerfile:{line}:"] if line else [])
    assert all("may want to be process 1, which the agent is" in problem for problem in told)


def test_an_entrypoint_of_the_recipe_that_wants_to_be_process_1_is_warned_of_unless_a_config_is_there(
    home: Path,
) -> None:
    recipe = RECIPE + 'workload.entrypoint = ["/init"]\n'
    lay_out(home, recipe=recipe, dockerfile='FROM debian:12\nCMD ["nginx"]\nEXPOSE 80\n', config=None)
    (told,) = problems(home)
    assert told.startswith("fledge.toml:7: warning: the command /init may want to be process 1")
    lay_out(home, recipe=recipe)
    assert problems(home) == []


def test_a_text_with_nul_is_an_error_with_its_line(home: Path) -> None:
    lay_out(home, recipe=RECIPE + 'workload.env = {A = "b\\u0000c"}\n')
    (told,) = problems(home)
    assert told.startswith("fledge.toml:7") and "holds a NUL character" in told
