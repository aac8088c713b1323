# SPDX-License-Identifier: Apache-2.0
"""Who may have folders of this host mounted in a VM: the user whose files the daemon reads, at its UNIX socket.

A token lets somebody work with VMs, on whatever machine they are; it does not stand for the daemon's user's files.
Neither does membership in the socket's group, where the daemon is root.
"""

from __future__ import annotations

import os
from collections.abc import Sized

from volant.errors import NotPermitted
from volant.volantd.request_context import find_request


def check_may_mount(mounts: Sized) -> None:
    """NotPermitted unless the request that is being answered comes from this user, or root."""
    if not mounts:
        return
    request = find_request()
    who = request.who if request is not None else "nobody"
    if who not in {f"uid {uid}" for uid in (0, os.geteuid())}:
        raise NotPermitted(
            f"cannot mount folders of this host for {who}: only the daemon's own user may, at its UNIX socket",
            resolution="run volar on the daemon's host as its user, without VOLANT_TOKEN; or use a volume",
        )
