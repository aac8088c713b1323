# SPDX-License-Identifier: Apache-2.0
"""Where a user's daemon keeps its state and listens: volantd makes these places, volar looks for the socket there.
Beside them, the file in which volar keeps the addresses of other daemons.

Root's are the system's own. A user's runtime folder may vanish at log-out and be missing in containers, so there is
a fallback that only its owner can enter. `VOLANT_HOME` moves everything under one folder of its own (a second
daemon of the same user, the demo, tests).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from volant.contract import places
from volant.errors import NotPermitted

# Below the state folder: distribution kernels, which are no secret, and the runtime folder, which a group may enter.
SHARED_ENTRIES = frozenset({"cache", "run"})


def find_state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the database, plugins and disks."""
    if home := environment.get("VOLANT_HOME"):
        return Path(home).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/volant")
    home = environment.get("HOME") or os.path.expanduser("~")
    return Path(environment.get("XDG_STATE_HOME") or f"{home}/.local/state") / "volant"


def find_runtime_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the daemon's socket."""
    return Path(places.find_runtime_dir(environment))


def find_socket(environment: Mapping[str, str] = os.environ) -> Path:
    return find_runtime_dir(environment) / places.SOCKET_NAME


def find_node_kubeconfig(environment: Mapping[str, str] = os.environ) -> Path:
    """What makes the daemon a node of a cluster where it exists: `volar cluster join` writes it."""
    return find_state_dir(environment) / "kubernetes" / "node.kubeconfig"


def find_contexts_file(environment: Mapping[str, str] = os.environ) -> Path:
    return Path(places.find_contexts_file(environment))


def make_private_folder(folder: Path) -> None:
    """A folder that is this user's alone; NotPermitted for one that somebody else has prepared.

    Whoever starts, and whoever connects, asks for it: behind a folder of another user's making anybody may answer.
    """
    mode = _take_folder(folder)
    if mode & 0o022:
        raise NotPermitted(f"cannot use {folder}: others may write to it", resolution=f"chmod go-w {folder}")


def make_state_folder(folder: Path) -> None:
    """The folder of database, keys and disks: 0700 with files of 0600, whatever it was before.

    Where others could write to it, they may have put something in: NotPermitted for what is not this user's.
    """
    mode = _take_folder(folder)
    if mode & 0o777 != 0o700:
        folder.chmod(0o700)
    _close(folder, deep=bool(mode & 0o077), distrusted=bool(mode & 0o022))


def _take_folder(folder: Path) -> int:
    """Make the folder where it is missing, and return the mode that it has; NotPermitted where it is not ours."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place, found = folder.lstat(), folder.stat()
    except OSError as error:
        raise NotPermitted(
            f"cannot use {folder}: {error.strerror}", resolution="set VOLANT_HOME to a folder of yours"
        ) from error
    if not places.is_own_folder(place, found):
        raise NotPermitted(
            f"cannot use {folder}: it is not a folder of this user",
            resolution="remove it, or set VOLANT_HOME",
        )
    return found.st_mode


def _close(folder: Path, *, deep: bool, distrusted: bool) -> None:
    """Take everybody else's rights from what lies in a folder; `deep`: in those below, too."""
    for entry in os.scandir(folder):
        found = entry.stat(follow_symlinks=False)
        if distrusted and found.st_uid != os.geteuid():
            raise NotPermitted(
                f"cannot use {folder}: others could write to it, and {entry.name} is not this user's",
                resolution=f"look at {entry.path}, then remove it or give it to this user",
            )
        if entry.name in SHARED_ENTRIES:
            continue
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            os.chmod(entry.path, found.st_mode & 0o700)
        elif stat.S_ISDIR(found.st_mode) and deep:
            _close(Path(entry.path), deep=True, distrusted=distrusted)
