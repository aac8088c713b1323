# SPDX-License-Identifier: Apache-2.0
"""Where a user's daemon listens, and where volar keeps the addresses of others: as text, since pathlib alone takes
longer to load than a table command has. `paths` has the same as paths, and makes the folders.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET_NAME = "volantd.sock"
CONTEXTS_NAME = "contexts.json"
# sun_path of unix(7) holds 107 bytes; what lies in the folder needs up to 40 of them.
RUNTIME_DIR_LIMIT = 67


def find_runtime_dir(environment: Mapping[str, str] = os.environ) -> str:
    """The folder of the daemon's socket."""
    if home := environment.get("VOLANT_HOME"):
        chosen = os.path.join(os.path.abspath(home), "run")
        if len(os.fsencode(chosen)) <= RUNTIME_DIR_LIMIT:
            return chosen
        import hashlib

        digest = hashlib.sha256(os.fsencode(chosen)).hexdigest()[:12]
        return f"/tmp/volant-{os.geteuid()}-{digest}"  # noqa: S108  # as below
    if os.geteuid() == 0:
        return "/run/volant"
    runtime = environment.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return os.path.join(runtime, "volant")
    return f"/tmp/volant-{os.geteuid()}"  # noqa: S108  # made 0700, and refused when it is somebody else's


def find_contexts_file(environment: Mapping[str, str] = os.environ) -> str:
    if home := environment.get("VOLANT_HOME"):
        return os.path.join(os.path.abspath(home), CONTEXTS_NAME)
    home = environment.get("HOME") or os.path.expanduser("~")
    return os.path.join(environment.get("XDG_CONFIG_HOME") or f"{home}/.config", "volant", CONTEXTS_NAME)


def is_private_folder(folder: str) -> bool:
    """Whether the folder is there, this user's, and nobody else may write to it."""
    try:
        place, found = os.lstat(folder), os.stat(folder)
    except OSError:
        return False
    return is_own_folder(place, found) and not found.st_mode & 0o022


def is_own_folder(place: os.stat_result, found: os.stat_result) -> bool:
    """Whether it is a folder of this user's: `place` is what stands at its path, `found` what a link there leads to."""
    return stat.S_ISDIR(found.st_mode) and {place.st_uid, found.st_uid} == {os.geteuid()}
