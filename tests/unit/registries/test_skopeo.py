# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from volant.errors import NotFound, NotPermitted, ToolFailed, Unreachable, VolantError
from volant.registries import skopeo


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("x509: certificate signed by unknown authority", NotPermitted),
        ("dial tcp 127.0.0.1:1: connect: connection refused", Unreachable),
        ("unauthorized: authentication required", NotPermitted),
        ("manifest unknown", NotFound),
        ("something else", ToolFailed),
    ],
)
def test_its_words_become_errors(
    words: str, error: type[VolantError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "skopeo"
    program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(error, match="cannot look"):
        skopeo.inspect("r.io/a:1", "look")
