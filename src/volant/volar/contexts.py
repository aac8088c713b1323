# SPDX-License-Identifier: Apache-2.0
"""Daemons by name: addresses and tokens in one file that only its user reads, and which of them commands speak to."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from volant.contract.paths import find_contexts_file
from volant.errors import InvalidInput, NotFound, NotPermitted

# The name of this user's own daemon, which needs no entry.
OWN = "default"


class Daemon(NamedTuple):
    address: str
    token: str | None = None


class Contexts(NamedTuple):
    """What the file holds: the name of the chosen one ("default" where none is), and all by their names."""

    current: str
    daemons: dict[str, Daemon]

    def find(self, name: str) -> Daemon | None:
        """The daemon of that name, None for this user's own. Raises NotFound."""
        if name == OWN:
            return None
        if name not in self.daemons:
            raise NotFound(
                f"cannot find context {name}",
                resolution="see 'volar context list', or make it: volar context add",
            )
        return self.daemons[name]


def read_contexts(path: Path) -> Contexts:
    """What is kept; NotPermitted where others may read its tokens, InvalidInput where it is not what we wrote."""
    try:
        with path.open() as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            text = stream.read()
    except FileNotFoundError:
        return Contexts(OWN, {})
    except OSError as error:
        raise NotPermitted(f"cannot read {path}: {error.strerror}") from error
    if mode & 0o077:
        raise NotPermitted(
            f"cannot use {path}: others may read the tokens in it", resolution=f"chmod 600 {path}"
        )
    try:
        kept = json.loads(text)
        daemons = {
            str(name): Daemon(str(entry["address"]), entry.get("token"))
            for name, entry in kept["contexts"].items()
        }
        return Contexts(str(kept["current"]), daemons)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"cannot read {path}: it was not written by volar", details=str(error), resolution=f"rm {path}"
        ) from error


@contextmanager
def change_contexts(path: Path) -> Iterator[Contexts]:
    """The contexts, while no other volar changes them; the caller writes what becomes of them."""
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield read_contexts(path)
    finally:
        os.close(descriptor)


def write_contexts(path: Path, contexts: Contexts) -> None:
    """Write the file whole, for its user alone."""
    from volant.whole_file import WholeFile

    entries = {
        name: {"address": daemon.address} | ({"token": daemon.token} if daemon.token else {})
        for name, daemon in sorted(contexts.daemons.items())
    }
    document = {"current": contexts.current, "contexts": entries}
    with WholeFile(path, mode=0o600) as draft:
        os.write(draft.descriptor, json.dumps(document, indent=2).encode() + b"\n")
        draft.publish()


def find_token(address: str) -> str | None:
    """The token of whichever context has this address, for programs that were given nothing but the address."""
    contexts = read_contexts(find_contexts_file())
    return next((daemon.token for daemon in contexts.daemons.values() if daemon.address == address), None)
