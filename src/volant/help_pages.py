# SPDX-License-Identifier: Apache-2.0
"""`--help` and `--version` of fledge and volar, without the libraries that know them: kept pages in `pages/`.

Loading the command line takes longer than all else that a page needs. The pages are written from the commands
(`make reference`), for the two widths that nearly every terminal gives. What else is asked for is not answered here.
"""

import os
import sys

from volant import __version__

# click's own arithmetic: a page is two columns narrower than its terminal, and never wider than for one of 100.
PAGE_WIDTHS = {80: 78, 100: 98}
HELP_WORDS = (["-h"], ["--help"])
VERSIONS = {"fledge": f"fledge {__version__}", "volar": f"volar, version {__version__}"}


def print_page(program: str, words: list[str]) -> bool:
    """Answer these words of the command line. False: they ask for something else, and nothing was printed."""
    if f"_{program.upper()}_COMPLETE" in os.environ:
        return False
    if words == ["--version"]:
        text = VERSIONS[program] + "\n"
    elif words in HELP_WORDS and (page := find_page(program, min(measure_terminal(), 100))):
        text = page
    else:
        return False
    write_out(text)
    return True


def write_out(text: str) -> None:
    """A whole answer. A reader that went away (`volar ps | head -1`) ends us quietly, as any other tool."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(141)  # as SIGPIPE would end us: Python would complain once more while it ends


def find_page(program: str, columns: int) -> str:
    """The page for a terminal of this many columns; nothing where there is none."""
    if columns not in PAGE_WIDTHS:
        return ""
    try:
        with open(name_page(program, columns), encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


def name_page(program: str, columns: int) -> str:
    return os.path.join(os.path.dirname(__file__), "pages", f"{program}-{columns}.txt")


def measure_terminal() -> int:
    """Columns, as shutil.get_terminal_size finds them."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns > 0:
        return columns
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]  # None: see below
    except (AttributeError, ValueError, OSError):
        return 80
