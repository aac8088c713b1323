# SPDX-License-Identifier: Apache-2.0
"""Kernels that a VM may name: the folders ARCHITECTURE-NAME beside those that `volar setup kernel` fetches."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from volant.contract.agents import Architecture
from volant.errors import NotFound
from volant.volantd.boot.kernel import Kernel, list_kernel_folders, require_kernel


def list_kernel_names(architecture: Architecture, kernels: Path) -> list[str]:
    """The newest first."""
    return [
        folder.name.removeprefix(f"{architecture}-") for folder in list_kernel_folders(architecture, kernels)
    ]


def list_all_kernels(kernels: Path) -> list[tuple[Architecture, str]]:
    architectures: tuple[Architecture, ...] = get_args(Architecture)
    return [
        (architecture, name)
        for architecture in architectures
        for name in list_kernel_names(architecture, kernels)
    ]


def require_named_kernel(name: str, architecture: Architecture, kernels: Path) -> Kernel:
    """NotFound, naming those that are there, otherwise."""
    names = list_kernel_names(architecture, kernels)
    if name not in names:
        raise NotFound(
            f"cannot use kernel {name}: this host has none of that name for {architecture}",
            details=[f"existing: {', '.join(names)}"] if names else [],
            resolution=f"unpack a distribution's kernel package into {kernels}/{architecture}-{name}",
        )
    return require_kernel(architecture, kernels, kernels / f"{architecture}-{name}")
