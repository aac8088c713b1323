# SPDX-License-Identifier: Apache-2.0
"""Options and commands of docker compose that have no meaning here, or another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

ANSWERS = {
    "attach": "volar compose logs -f SERVICE; workloads have neither terminal nor input",
    "commit": "volar snapshots create VM keeps its disk and memory of this instant",
    "cp": "volar vms cp FILE PROJECT-SERVICE-1:/path   (volar compose ps has the names)",
    "create": "volar compose up -d, then volar compose stop",
    "events": "volar events --watch",
    "export": "volar snapshots export",
    "images": "volar compose ps --format json has the plugin of each VM; volar plugins list",
    "pause": "volar vms pause NAME   (volar compose ps has the names)",
    "publish": "the files themselves are what others need",
    "push": "volar plugins push PLUGIN REF",
    "scale": "volar compose up -d --scale SERVICE=COUNT",
    "stats": "volar top",
    "unpause": "volar vms unpause NAME",
    "version": "volar version",
    "volumes": "volar volumes list",
    "wait": "volar vms wait NAME",
    "watch": "mount the folder, changes are seen at once: volumes: [./src:/app]",
}


def ignored(*names: str, takes_value: bool = False) -> Callable[[Command], Command]:
    """Decorator: the command takes these, hidden from its help, and does what it does anyway."""

    def decorate(command: Command) -> Command:
        decorated: Any = command
        for each in names:
            kind: dict[str, Any] = {"multiple": True} if takes_value else {"is_flag": True}
            decorated = click.option(*each.split("/"), hidden=True, expose_value=False, **kind)(decorated)
        return decorated  # type: ignore[no-any-return]  # click's options return what they are given

    return decorate
