# SPDX-License-Identifier: Apache-2.0
"""The columns of `volar vms list`."""

from __future__ import annotations

from volant.volar.tables import format_age

COLUMNS = {
    "NAME": lambda vm: vm["name"],
    "STATUS": lambda vm: vm["status"],
    "HEALTH": lambda vm: vm["health"] if vm["status"] in ("running", "paused") else "",
    "PLUGIN": lambda vm: f"{vm['plugin']['name']}:{vm['plugin']['version']}",
    "IP": lambda vm: vm["ip"],
    "URL": lambda vm: vm["url"],
    "AGE": lambda vm: format_age(vm["created_at"]),
}
