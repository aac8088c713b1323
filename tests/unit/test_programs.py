# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace

import pytest

from volant import programs

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "volant"
SHARED = [SOURCE / "contract", *SOURCE.glob("*.py")]


def fail_with(monkeypatch: pytest.MonkeyPatch, error: ModuleNotFoundError) -> None:
    def main() -> None:
        raise error

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(main=main, run=main))
    monkeypatch.setattr(sys, "argv", ["program"])


@pytest.mark.parametrize("program", ["fledge", "volantd"])
def test_a_missing_library_is_told_with_the_command_that_brings_it(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ModuleNotFoundError("No module named 'pydantic'", name="pydantic"))
    with pytest.raises(SystemExit) as ended:
        getattr(programs, program)()
    assert ended.value.code == 7
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"error: cannot run {program}: this installation lacks what it needs (pydantic)"
    part = {"fledge": "fledge", "volantd": "daemon"}[program]
    assert len(told) == 2 and told[1].startswith("try: ") and f"volant[{part}]" in told[1]


@pytest.mark.parametrize("name", ["volant.fledge.nothing", "json.nothing"])
def test_a_defect_of_ours_is_not_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ModuleNotFoundError(f"No module named {name!r}", name=name))
    with pytest.raises(ModuleNotFoundError):
        programs.fledge()


def find_imported_libraries(place: Path) -> Iterator[str]:
    """Of a file, or of a folder less what needs an extra of its own."""
    apart = {SOURCE / "volar/mcp_server.py", *(SOURCE / "volar/compose").rglob("*.py")}
    within = set(place.rglob("*.py"))
    files = [place] if place.is_file() else within if within <= apart else within - apart
    for file in sorted(files):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield str(node.module).split(".")[0]


def normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_declared(extra: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *extras.get(extra, [])]
    for line in lines:
        # An extra may bring others of ours.
        if line.startswith("volant["):
            lines += extras[line.removeprefix("volant[").rstrip("]")]
    return {normalize(re.split(r"[^A-Za-z0-9._-]", line)[0]) for line in lines}


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("fledge", "fledge"),
        ("volantd", "daemon"),
        ("volar", "none"),
        ("client", "none"),
        ("volar/mcp_server.py", "mcp"),
        # It builds images, too.
        ("volar/compose", "fledge"),
        ("kubernetes", "kubernetes"),
    ],
)
def test_the_extra_of_a_program_names_each_library_that_it_imports(package: str, extra: str) -> None:
    """Else it works here, where all extras are installed, and nowhere else."""
    owners = packages_distributions()
    imported = set(find_imported_libraries(SOURCE / package))
    if package in ("fledge", "volantd"):
        # volar takes care to import nothing of these that needs more than it has.
        imported |= {name for place in SHARED for name in find_imported_libraries(place)}
    libraries = imported - set(sys.stdlib_module_names) - {"volant"}
    declared = read_declared(extra)
    # pydantic asks for exactly one version of pydantic-core, its other half.
    assert [
        name
        for name in sorted(libraries - {"pydantic_core"})
        if not declared & {normalize(owner) for owner in owners[name]}
    ] == []
