# SPDX-License-Identifier: Apache-2.0
"""The agent started anywhere but in a guest (`docker run`, say): one line, exit code 78, nothing done."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from volant.contract.agents import find_agent
from volant.volantd.boot.kernel import host_architecture


@pytest.mark.parametrize(
    "prefix", [[], ["unshare", "--pid", "--fork"]], ids=["process", "pid-1-of-a-container"]
)
@pytest.mark.guide("7.1-3")
def test_it_says_so_in_one_line_and_touches_nothing(tmp_path: Path, prefix: list[str]) -> None:
    command = [*prefix, str(find_agent(host_architecture()))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78
    assert done.stdout == ""
    assert done.stderr.startswith("kestrel: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
