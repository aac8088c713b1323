# SPDX-License-Identifier: Apache-2.0
"""Kubernetes' own tests of nodes and the programs in their images, built of the Kubernetes of the control plane.

They are a Go module of their own (tests/kubernetes/conformance): the build takes some minutes of two cores, once for
each machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from support.control_plane import BUILD_SECONDS
from support.host import CACHE, ROOT

MODULE = ROOT / "tests" / "kubernetes" / "conformance"
# As the Makefile of Kubernetes' build/pause has it.
PAUSE_VERSION = "3.10.2"


def build_conformance_programs() -> Path:
    """The folder of e2e.test, ginkgo, and what images are made of: agnhost and pause."""
    sources = b"".join((MODULE / name).read_bytes() for name in ("go.sum", "node_test.go"))
    folder = CACHE.parent / "kubernetes" / f"conformance-{hashlib.sha256(sources).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    _build(folder / "e2e.test", ["test", "-c"], ".")
    _build(folder / "ginkgo", ["build"], "github.com/onsi/ginkgo/v2/ginkgo")
    # It runs where no C library is.
    _build(folder / "agnhost", ["build"], "k8s.io/kubernetes/test/images/agnhost", cgo=False)
    _compile_pause(folder / "pause")
    return folder


def find_kubernetes() -> Path:
    """Kubernetes' source, as Go keeps it."""
    done = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"],
        cwd=MODULE, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return Path(done.stdout.strip())


def _build(target: Path, verb: list[str], package: str, *, cgo: bool = True) -> None:
    if target.exists():
        return
    options = ["-mod=readonly", "-trimpath", "-ldflags", "-s -w", "-o", f"{target}.part"]
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
    done = subprocess.run(
        ["go", *verb, *options, package], cwd=MODULE, capture_output=True, text=True, timeout=BUILD_SECONDS,
        env=environment if cgo else {**environment, "CGO_ENABLED": "0"},
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"cannot build {package}:\n{done.stderr[-4000:]}")
    Path(f"{target}.part").rename(target)


def _compile_pause(target: Path) -> None:
    if target.exists():
        return
    source = find_kubernetes() / "build" / "pause" / "linux" / "pause.c"
    subprocess.run(
        ["gcc", "-Os", "-static", f"-DVERSION=v{PAUSE_VERSION}", "-o", f"{target}.part", source],
        check=True,
        timeout=120,
    )
    Path(f"{target}.part").rename(target)
