# SPDX-License-Identifier: Apache-2.0
"""How this copy of volant came here, and so which command brings a part that it lacks.

volar alone needs little; fledge, volantd, `volar mcp` and a node of a cluster need libraries that the extras `fledge`,
`daemon`, `mcp` and `kubernetes` name. The first two are Debian packages as well. The address to install from is the one
that pip wrote down when it installed this copy (direct_url.json, PEP 610): a name alone could be another project's.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Literal

import volant

Part = Literal["fledge", "daemon", "mcp", "kubernetes"]

# Where the Debian packages put everything: a virtual environment of the system's.
DEBIAN_FOLDER = Path("/usr/lib/volant")
DEBIAN_PACKAGES: dict[Part, str] = {"fledge": "volant-fledge", "daemon": "volant-daemon"}


def is_debian_package() -> bool:
    return DEBIAN_FOLDER in Path(volant.__file__).parents


def name_install_command(part: Part) -> str:
    """The command that adds a part to this very installation."""
    if is_debian_package():
        if part not in DEBIAN_PACKAGES:
            return f"pipx install '.[all,{part}]' in a clone of the project: no Debian package has this part"
        return f"sudo apt-get install {DEBIAN_PACKAGES[part]}"
    if "pipx" in Path(sys.prefix).parts:
        return f"pipx runpip volant install {shlex.quote(_name_requirement(part))}"
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(_name_requirement(part))}"


def _name_requirement(part: Part) -> str:
    # Here and not above: they cost more than all else that a table command imports.
    import json
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        written = distribution("volant").read_text("direct_url.json")
    except PackageNotFoundError:
        written = None
    origin = str(json.loads(written).get("url", "")) if written else ""
    return f"volant[{part}] @ {origin}" if origin else f"volant[{part}]"
