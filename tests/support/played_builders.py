# SPDX-License-Identifier: Apache-2.0
"""Image builders that are played by small scripts: what is asked of them, and what is made of their answers."""

from __future__ import annotations

from pathlib import Path

from volant.fledge.builders import Builder
from volant.fledge.builders.containers import Buildah, Podman
from volant.fledge.builders.docker import Docker

KINDS: dict[str, type[Builder]] = {"docker": Docker, "podman": Podman, "buildah": Buildah}
# Begins every script: $image is where the image's id is to be left, $asked the whole command line.
PREFACE = """\
#!/bin/sh
asked="$*"
image=$(printf '%s\\n' "$asked" | sed -n 's/.*--iidfile \\([^ ]*\\).*/\\1/p')
"""


def play(folder: Path, name: str, script: str) -> Builder:
    """A builder of that name in `folder`, which runs `script`."""
    return KINDS[name](str(write_program(folder / name, f"{PREFACE}{script}\n")))


def write_program(path: Path, script: str = "#!/bin/sh\n") -> Path:
    path.write_text(script)
    path.chmod(0o755)
    return path
