# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from support.ignore_cases import CASES, FILES
from volant.fledge.ignore_file import IgnoreFile, read_ignore_file


def read(tmp_path: Path, text: str) -> IgnoreFile:
    (tmp_path / ".dockerignore").write_text(text)
    return read_ignore_file(tmp_path / "Dockerfile", tmp_path)


@pytest.mark.parametrize(("text", "kept_out"), CASES.values(), ids=CASES)
def test_dockers_rule(tmp_path: Path, text: str, kept_out: str) -> None:
    """The same cases go through docker, podman and buildah in the integration tests."""
    ignore = read(tmp_path, text)
    assert [name for name in FILES if ignore.ignores(name)] == kept_out.split()


def test_the_dockerfiles_own_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.dockerignore").write_text("own\n")
    ignore = read(tmp_path, "shared\n")
    assert (ignore.ignores("own"), ignore.ignores("shared")) == (True, False)
    assert not IgnoreFile().ignores("own")


@pytest.mark.parametrize("text", ["[\n", "[]\n", "a[!\n", "\\\n", "[z-a]\n", "!\n", "[[:alpha:]]\n"])
def test_patterns_that_cannot_be_read_ignore_nothing(tmp_path: Path, text: str) -> None:
    assert not read(tmp_path, text).ignores("a.log")


def test_many_stars_take_no_time(tmp_path: Path) -> None:
    ignore = read(tmp_path, "**/" * 500 + "*" * 500 + "x\n")
    assert not ignore.ignores("/".join(["a" * 100] * 20))
