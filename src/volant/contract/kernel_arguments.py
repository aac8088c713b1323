# SPDX-License-Identifier: Apache-2.0
"""What somebody adds to a guest's kernel command line: taken apart as the kernel does, and held to what is free.

Our own parameters lead, and of most the last one counts: whoever could repeat them would take away the console that
reports crashes, or the agent that is PID 1. The kernel's documentation has the rules: Documentation/admin-guide/
kernel-parameters.rst (quotes, `-` and `_` are one), and bootparam(7).
"""

from __future__ import annotations

import re

# COMMAND_LINE_SIZE is 2048 on both architectures; what is ours takes some hundred.
MOST_CHARACTERS = 1500
_PARAMETER = re.compile(r'(?:[^\s"]|"[^"]*")+')
# Where the guest's files and PID 1 come from, and what volantd itself says or depends on.
RESERVED = frozenset(
    {
        "console", "cryptomgr.notests", "init", "initrd", "initrdmem", "noinitrd", "panic", "rdinit", "reboot",
        "resume", "root", "rootfstype", "rootflags", "tsc", "tsc_early_khz",
    }
)  # fmt: skip


def split_kernel_arguments(text: str) -> tuple[str, ...]:
    """The parameters, each with its quotes. ValueError where the kernel would read something else, or ours."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"are {len(text)} characters, and {MOST_CHARACTERS} are free on a kernel's command line"
        )
    if unusable := re.search(r"[^ -~]", text):
        raise ValueError(f"hold {unusable[0]!r}: a kernel's command line is one line of plain ASCII")
    if text.count('"') % 2:
        raise ValueError('hold a " that nothing closes')
    parameters = tuple(_PARAMETER.findall(text))
    for parameter in parameters:
        name = parameter.replace('"', "").partition("=")[0]
        if name == "--":
            raise ValueError("hold --: what follows would go to the agent, which takes nothing from there")
        if name.replace("-", "_") in RESERVED:
            raise ValueError(
                f"hold {name}: volantd sets it itself, or the guest would not come up with its agent"
            )
    return parameters


def check_kernel_arguments(text: str) -> str:
    split_kernel_arguments(text)
    return text.strip()
