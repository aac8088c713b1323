# SPDX-License-Identifier: Apache-2.0
"""Machines as `volar export` describes them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

from volant.contract.boot_files import BootDocument
from volant.volar.export.machine import Check, ExportedMachine, Port

IMAGE = "registry.example.com/team/shop-vm:1.0.0"
# What readers of YAML 1.1 take for something else than text, and what people put into variables.
VARIABLES = {
    "ANSWER": "yes", "Y": "n", "NUMBER": "1_000", "OCTAL": "0777", "NOTHING": "", "TILDE": "~", "TIME": "12:30:45",
    "TEXT": "two\nlines, \"quotes\", 'more', # and a : colon",
    "LETTERS": "ä\t€ \u2028 end", "SPACE": " ", "DATE": "2026-01-01",
    "PLAIN": "production",
}  # fmt: skip


def make_document(**changes: Any) -> BootDocument:
    document: dict[str, Any] = {
        "boot": "kernel", "architecture": "amd64", "firmware": "bios", "kernel": "6.1.0", "mac": "52:54:00:12:34:56",
        "kernel_arguments": "console=ttyS0 quiet", "disk_format": "qcow2", "disk_bytes": 10 << 30, "environment": {},
        "run_once": False, "stop_seconds": 10.0, "left_out": [], **changes,
    }  # fmt: skip
    return document  # type: ignore[return-value]  # it has all keys


def make_machine(**changes: Any) -> ExportedMachine:
    fields: dict[str, Any] = {
        "name": "shop", "image": IMAGE, "version": "1.0.0+build.7", "vcpu": 2, "memory_mb": 512,
        "document": make_document(), "ports": (Port(8080, 80), Port(5353, 53, "udp")),
        "check": Check(80, "/health", 5, 2, 4), "labels": {"team": "web", "no label": "of Kubernetes"}, **changes,
    }  # fmt: skip
    return ExportedMachine(**fields)


def list_machines() -> dict[str, ExportedMachine]:
    """One of each kind that there is."""
    return {
        "plain": make_machine(),
        "with variables": make_machine(document=make_document(environment=VARIABLES)),
        "without ports": make_machine(ports=(), check=None, labels={}, restart="no"),
        "checked by connecting": make_machine(check=Check(80), restart="always"),
        "in RAM": make_machine(document=make_document(disk_format=None, disk_bytes=0)),
        "a whole system": make_machine(
            document=make_document(boot="firmware", kernel="", kernel_arguments="")
        ),
        "for arm64": make_machine(document=make_document(architecture="arm64", firmware="uefi")),
    }
