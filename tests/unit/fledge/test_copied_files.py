# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.fledge.copied_files import BuildContext, find_copied
from volant.fledge.ignore_file import read_ignore_file
from volant.fledge.instructions import read_instructions
from volant.fledge.stages import find_stage, read_stages

WANTED = "/etc/kestrel/config.yaml"


def find(home: Path, text: str, ignored: str = "", **build_args: str) -> str | None:
    for name in ("a.yaml", "conf/config.yaml", "conf/a.yaml"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text("")
    (home / ".dockerignore").write_text(ignored)
    stages = read_stages(read_instructions(text), build_args)
    stage = find_stage(stages, None)
    assert stage is not None
    found = find_copied(
        BuildContext(home, read_ignore_file(home / "Dockerfile", home)), stages, stage, WANTED
    )
    return found.relative_to(home).as_posix() if found else None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM x\nCOPY a.yaml /etc/kestrel/config.yaml\n", "a.yaml"),
        ("FROM x\nCOPY conf/config.yaml /etc/kestrel/\n", "conf/config.yaml"),
        ("FROM x\nCOPY conf/*.yaml /etc/kestrel/\n", "conf/config.yaml"),
        ("FROM x\nCOPY conf /etc/kestrel\n", "conf/config.yaml"),
        ("FROM x\nWORKDIR /etc\nCOPY conf kestrel\n", "conf/config.yaml"),
        ("FROM x\nWORKDIR /etc/kestrel\nCOPY conf/config.yaml .\n", "conf/config.yaml"),
        ("FROM x\nARG C=gone\nCOPY $C /etc/kestrel/config.yaml\n", "a.yaml"),
        ("FROM x AS b\nONBUILD COPY a.yaml /etc/kestrel/config.yaml\nFROM b\n", "a.yaml"),
        ("FROM x AS b\nONBUILD COPY a.yaml /etc/kestrel/config.yaml\n", None),
        ("FROM x AS b\nCOPY a.yaml /o/c\nFROM y\nCOPY --from=b /o/c /etc/kestrel/config.yaml\n", "a.yaml"),
        ("FROM x AS b\nCOPY conf /o/kestrel\nFROM y\nCOPY --from=0 /o /etc/\n", "conf/config.yaml"),
        ("FROM x\nCOPY a.yaml /etc/kestrel/config.yaml\nCOPY conf /etc/kestrel/\n", "conf/config.yaml"),
        ("FROM x\nCOPY --from=kestrel /kestrel /etc/kestrel/config.yaml\n", None),
        ("FROM x\nCOPY ../a.yaml /etc/kestrel/config.yaml\n", None),
    ],
)
def test_what_becomes_the_agents_config(home: Path, text: str, found: str | None) -> None:
    assert find(home, text, C="a.yaml") == found


def test_what_is_kept_out_of_the_build_is_not_copied(home: Path) -> None:
    assert find(home, "FROM x\nCOPY conf /etc/kestrel\n", "conf/config.yaml\n") is None
    assert (
        find(home, "FROM x\nCOPY . /etc/kestrel/\nCOPY conf /etc/kestrel\n", "*\n!conf/config.yaml\n")
        is not None
    )
