# SPDX-License-Identifier: Apache-2.0
"""The console scripts. A program whose libraries are not installed says which command brings them, and no more.

Every module that is loaded here is paid for by each call of a program: what a plain question needs is asked first.
"""

from __future__ import annotations

import sys

from volant.help_pages import print_page, write_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from volant.installation import Part


def fledge() -> None:
    if not print_page("fledge", sys.argv[1:]):
        _run("fledge", "volant.fledge.cli", "fledge", "run")


def volantd() -> None:
    _run("volantd", "volant.volantd.cli", "daemon")


def volar() -> None:
    if print_page("volar", sys.argv[1:]):
        return
    import signal

    # Ctrl-C while modules are loaded ends us without a word; from main on it is handled.
    is_ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if not is_ignored:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from volant.volar.fast_lane import list_vms

    if (table := list_vms(sys.argv[1:])) is not None:
        write_out(f"{table}\n")
        return
    from volant.volar.early_request import begin

    begin(sys.argv[1:])
    # It needs nothing but what every installation has.
    from volant.volar.cli import main

    if not is_ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def _run(program: str, module: str, part: Part, function: str = "main") -> None:
    import importlib

    try:
        getattr(importlib.import_module(module), function)()
    except ModuleNotFoundError as error:
        if not is_missing_library(error):
            raise
        from volant.errors import ToolMissing
        from volant.installation import name_install_command

        missing = ToolMissing(
            f"cannot run {program}: this installation lacks what it needs ({error.name})",
            resolution=name_install_command(part),
        )
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(missing.exit_code)


def is_missing_library(error: ModuleNotFoundError) -> bool:
    """Whether a library of others is missing; a module of ours or of Python itself is a defect to be seen whole."""
    top = (error.name or "").split(".")[0]
    return bool(top) and top != "volant" and top not in sys.stdlib_module_names
