# SPDX-License-Identifier: Apache-2.0
"""The key that a command line names for signing, with its password from the environment or a person."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from volant.errors import ToolMissing, UsageError

if TYPE_CHECKING:
    from volant.signatures.keys import PrivateKey

PASSWORD_VARIABLE = "COSIGN_PASSWORD"  # noqa: S105  # its name, as cosign has it


def open_signing_key(path: Path | None) -> PrivateKey | None:
    """None where none is named. Raises what `load_private_key` raises, UsageError where nobody can be asked."""
    if path is None:
        return None
    try:
        from volant.signatures.keys import load_private_key
    except ImportError as error:
        from volant.installation import name_install_command

        raise ToolMissing(
            "cannot sign: the Python library cryptography is missing",
            resolution=name_install_command("fledge"),
        ) from error

    def ask_password() -> bytes:
        if PASSWORD_VARIABLE in os.environ:
            return os.environ[PASSWORD_VARIABLE].encode()
        if not sys.stdin.isatty():
            raise UsageError(
                f"cannot sign by {path}: it has a password, and there is no terminal to ask for it",
                resolution=f"set {PASSWORD_VARIABLE}",
            )
        return getpass.getpass(f"password of {path}: ").encode()

    return load_private_key(path, ask_password)
