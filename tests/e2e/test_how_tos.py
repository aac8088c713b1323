# SPDX-License-Identifier: Apache-2.0
"""How-tos, typed from their own text into a shell, on a host that has what they take for granted."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.host import ROOT, Host
from support.typed_pages import STAGES, read_blocks, split_commands


def clear(host: Host) -> None:
    for kind, remove in (("vms", ("delete", "--force")), ("snapshots", ("delete",))):
        for name in host.volar(kind, "list", "--output", "name").stdout.split():
            host.volar(kind, *remove, name.partition("/")[2])


@pytest.mark.parametrize("page", STAGES, ids=lambda page: Path(page).stem)
def test_a_how_to_works_as_typed(page: str, host: Host, nginx_plugin: Path, tmp_path: Path) -> None:
    stage = STAGES[page]
    for name, text in stage.files.items():
        (tmp_path / name).write_text(text)
    for name in stage.vms:
        host.volar("vms", "create", name, "--plugin", "nginx")
    try:
        for text, reason in read_blocks(ROOT / page):
            for command, printed in [] if reason else split_commands(text):
                line = f"set -eo pipefail; {stage.set_up(command)}"
                done = host.run("bash", "-c", line, cwd=tmp_path, timeout=280)
                missing = [said for said in printed if said not in done.stdout.splitlines()]
                assert missing == [], f"{command}\nprinted {done.stdout}"
    finally:
        clear(host)
