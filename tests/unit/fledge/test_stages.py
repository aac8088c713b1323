# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.fledge.instructions import read_instructions
from volant.fledge.stages import Stage, chain_of, expand, find_stage, read_stages


def read(text: str, **build_args: str) -> list[Stage]:
    return read_stages(read_instructions(text), build_args, "linux/arm64")


def said(stage: Stage | None) -> list[str]:
    assert stage is not None
    return [f"{instruction.keyword} {instruction.rest}" for instruction in stage.instructions]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A/${A}/x$AB", "1/1/x$AB"),
        ("${A:-d} ${E:-d} ${E-d} ${U:-d} ${U-$A}", "1 d  d 1"),
        ("${A:+d} ${E:+d} ${E+d} ${U:+d}.", "d  d ."),
        (r"\$A \\$A", r"\$A \\1"),
        ("${A", "${A"),
        ("$$A ${1} $", "$1 ${1} $"),
    ],
)
def test_variables_as_the_dockerfile_reference_has_them(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "E": ""}) == expanded


def test_an_argument_counts_where_it_is_declared() -> None:
    text = "ARG TAG=1\nFROM base:$TAG AS a\nCOPY x$TAG /\nARG TAG\nCOPY y$TAG /\nARG B=$TAG-b\nCOPY $B /\n"
    assert said(read(text)[0]) == [
        "FROM base:1 AS a", "COPY x$TAG /", "ARG TAG", "COPY y1 /", "ARG B=$TAG-b", "COPY 1-b /",
    ]  # fmt: skip
    assert said(read(text, TAG="2", B="c", UNKNOWN="d")[0])[3:] == ["COPY y2 /", "ARG B=$TAG-b", "COPY c /"]


def test_a_build_argument_that_nobody_declares_changes_nothing() -> None:
    assert said(read("FROM base:$TAG\nCOPY $TAG /\n", TAG="2")[0]) == ["FROM base:$TAG", "COPY $TAG /"]


def test_env_wins_and_is_inherited_by_what_is_built_from_it() -> None:
    stages = read(
        'FROM x AS a\nARG P=1\nENV P=2 Q=3\nFROM a\nCOPY $P$Q /\nENV R the rest\nCOPY ["$R", "/"]\n'
    )
    assert said(stages[1])[1:] == ["COPY 23 /", "ENV R the rest", 'COPY ["the rest", "/"]']


def test_the_platforms_variables_are_known_where_declared() -> None:
    stages = read(
        "FROM --platform=$BUILDPLATFORM x\nCOPY $TARGETARCH /\nARG TARGETARCH\nCOPY $TARGETARCH /\n"
    )
    assert said(stages[0])[1::2] == ["COPY $TARGETARCH /", "COPY arm64 /"]


def test_triggers_run_in_the_stage_that_is_built_from_theirs() -> None:
    stages = read(
        "FROM x AS base\nARG N=1\nONBUILD COPY conf$N /etc/\nRUN true\nFROM base AS last\nEXPOSE 80\n"
    )
    assert said(stages[0]) == ["FROM x AS base", "ARG N=1", "RUN true"]
    assert said(stages[1]) == ["FROM base AS last", "COPY conf1 /etc/", "EXPOSE 80"]
    assert stages[1].instructions[1].line == 3


def test_working_folders() -> None:
    stages = read(
        "FROM scratch\nCOPY a b\nWORKDIR srv\nCOPY a b\nWORKDIR ../etc\nCOPY a b\nFROM x\nWORKDIR sub\nCOPY a b\n"
    )
    assert [stages[0].folders[number] for number in (1, 3, 5)] == ["/", "/srv", "/etc"]
    assert stages[1].folders[2] == ""


def test_a_stage_is_found_by_name_and_number_after_those_it_is_built_from() -> None:
    stages = read("FROM x AS One\nFROM y AS two\nFROM One AS three\nFROM three\n")
    assert find_stage(stages, "one") is stages[0]
    assert find_stage(stages, "1") is stages[1]
    assert find_stage(stages, "four") is None
    assert find_stage(stages, "²") is None
    assert find_stage(stages, "9" * 5000) is None
    assert chain_of(stages, find_stage(stages, None)) == [stages[0], stages[2], stages[3]]
    assert chain_of(read("FROM a AS a\n"), None) == []
