# SPDX-License-Identifier: Apache-2.0
"""Every tutorial, typed from its own text: the files that it shows are written, its commands run in order in one shell
each, and what it prints below a command must be in what that command printed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import ROOT, Host
from support.typed_pages import split_commands

TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
BLOCK = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
# The name that readers write, for the image that stands in for it where no registry is reached.
PUBLIC_IMAGE = "docker.io/library/debian:bookworm-slim"


@pytest.fixture
def public_image(base_image: str) -> Iterator[None]:
    subprocess.run(["buildah", "tag", base_image, PUBLIC_IMAGE], check=True, timeout=60)
    yield
    subprocess.run(["buildah", "untag", PUBLIC_IMAGE], check=False, timeout=60, capture_output=True)


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_works_as_typed(tutorial: Path, host: Host, public_image: None, tmp_path: Path) -> None:
    folder = tmp_path
    for language, title, text in BLOCK.findall(tutorial.read_text()):
        if title:
            (folder / title).write_text(text)
            continue
        assert language == "console", f"{tutorial.name}: a block that is neither a file nor typed: {text!r}"
        for command, printed in split_commands(text):
            # The shell's folder is carried on from one command to the next.
            done = host.run("bash", "-c", f"set -eo pipefail; {command}\npwd", cwd=folder, timeout=600)
            *lines, pwd = done.stdout.splitlines()
            folder = Path(pwd)
            for line in printed:
                assert line in lines, f"{command}\nprinted {lines}"
