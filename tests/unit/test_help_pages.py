# SPDX-License-Identifier: Apache-2.0
"""What is answered before the command line is loaded is what the command line would have answered."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from volant import help_pages
from volant.fledge.cli import fledge
from volant.help_pages import print_page
from volant.volar.cli import volar

PROGRAMS = {"fledge": fledge, "volar": volar}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("columns", [None, "80", "100", "240"])
@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"]])
def test_a_page_is_what_the_program_prints(
    program: str, columns: str | None, words: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys, "__stdout__", None)  # whatever terminal pytest runs in
    assert print_page(program, words)
    ours = capsys.readouterr().out
    PROGRAMS[program].main(words, prog_name=program, standalone_mode=False)
    assert ours == capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        ([], {}),
        (["--help", "--version"], {}),
        (["vms", "--help"], {}),
        (["--help"], {"COLUMNS": "72"}),
        (["--help"], {"_FLEDGE_COMPLETE": "bash_complete"}),
    ],
)
def test_everything_else_is_left_to_the_command_line(
    words: list[str], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert not print_page("fledge", words)
    assert capsys.readouterr().out == ""


def test_a_page_that_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    named: Callable[[str, int], str] = lambda program, columns: "/nowhere"  # noqa: E731  # typed
    monkeypatch.setattr(help_pages, "name_page", named)
    assert help_pages.find_page("volar", 80) == ""


def test_pages_load_no_command_line_and_mind_no_reader_that_left() -> None:
    program = (
        "import sys; from volant.programs import fledge; fledge();"
        "print({'click', 'typing', 're', 'enum'} & set(sys.modules), file=sys.stderr)"
    )
    command = [sys.executable, "-I", "-c", program, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "set()\n"
    # Not a pipe: what another thread starts at this moment would have its other end for as long as it begins.
    reader, writer = socket.socketpair()
    reader.shutdown(socket.SHUT_RDWR)
    with reader, writer:
        done = subprocess.run(command, stdout=writer.fileno(), stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")
