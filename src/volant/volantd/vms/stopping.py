# SPDX-License-Identifier: Apache-2.0
"""Asking a guest to end by itself, each in its own way, within the time that was given."""

from __future__ import annotations

import asyncio

from volant.errors import VolantError
from volant.volantd.vms.monitor import VmMonitor

AGENT_WAIT_SECONDS = 5.0
# How long an orderly stop may take beyond what the processes were given, before the process is killed.
POWER_OFF_SECONDS = 10.0
# The least that an agent on a busy host is given to say that it begins to stop.
ANSWER_SECONDS = 1.0


async def press_power_button(monitor: VmMonitor, timeout_seconds: float) -> str:
    """For a system of its own: its power button, as on a real machine. Why it has to be killed, or nothing."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await monitor.machine.press_power_button()
            await monitor.wait_ended()
    except VolantError as error:
        return f"killed: {error.what}"
    except TimeoutError:
        return f"killed: its system did not power off within {timeout_seconds:g} s of the power button"
    return ""


async def ask_agent_to_stop(monitor: VmMonitor, timeout_seconds: float) -> str:
    """Through the agent: processes end, file systems are closed. Why the VM has to be killed, or nothing."""
    patience = max(timeout_seconds, ANSWER_SECONDS)
    try:
        async with asyncio.timeout(patience):
            guest = await monitor.wait_connected(AGENT_WAIT_SECONDS)
            if guest is None:
                return "killed: its agent did not answer"
            await guest.control.stop("poweroff", timeout_seconds)
    except TimeoutError:
        return f"killed: its agent did not answer within {patience:g} s"
    except (VolantError, OSError) as error:
        return f"killed: {error}"
    try:
        async with asyncio.timeout(timeout_seconds + POWER_OFF_SECONDS):
            await monitor.wait_ended()
    except TimeoutError:
        return f"killed: it did not power off within {timeout_seconds + POWER_OFF_SECONDS:g} s"
    return ""
