# SPDX-License-Identifier: Apache-2.0
"""Whether this host is going down: a hypervisor that systemd ends then has not crashed."""

from __future__ import annotations

import os

from volant.errors import VolantError
from volant.process import find_tool, run_tool

ANSWER_SECONDS = 3.0


def is_host_stopping() -> bool:
    """As systemd says, from the first unit that it stops; a user's own manager that ends takes the VMs along, too."""
    if find_tool("systemctl") is None:
        return False
    managers = [["systemctl"]] if os.geteuid() == 0 else [["systemctl"], ["systemctl", "--user"]]
    return any(_ask([*manager, "is-system-running"]) == "stopping" for manager in managers)


def _ask(command: list[str]) -> str:
    try:
        # Its exit code is not 0 in every state but "running".
        answer = run_tool(command, accepted_exit_codes=range(256), timeout_seconds=ANSWER_SECONDS)
    except VolantError:
        return ""
    return answer.stdout.strip()
