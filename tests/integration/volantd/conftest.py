# SPDX-License-Identifier: Apache-2.0
"""What the daemon's integration tests share: the guests' kernel, fetched once into the project's cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from volant.progress import SilentMonitor
from volant.volantd.boot.kernel import Kernel, find_kernel, install_kernel

KERNELS = Path(__file__).resolve().parents[3] / ".cache" / "tests" / "kernels"


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    explicit = os.environ.get("VOLANT_KERNEL")
    found = find_kernel("amd64", KERNELS, Path(explicit) if explicit else None)
    return found or install_kernel("amd64", KERNELS, SilentMonitor())


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    path = Path(tempfile.mkdtemp(prefix="volant-", dir="/tmp"))
    yield path
    shutil.rmtree(path)
