# SPDX-License-Identifier: Apache-2.0
"""Why a VM booted that was to go on from its memory: the daemon's events say so."""

from __future__ import annotations

from volant.client.client import Client


def find_cause(client: Client, name: str) -> str:
    """Of its last start; empty where that was from memory, or was to be a boot."""
    cause = last = ""
    for event in client.events(vm=name):
        if event["kind"] == "cold_boot":
            cause = str(event["data"].get("cause", ""))
        elif event["kind"] == "started":
            last, cause = cause, ""
    return cause or last
