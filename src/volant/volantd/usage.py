# SPDX-License-Identifier: Apache-2.0
"""Who uses a resource: whatever is about to be removed asks here, and knows none of those who answer.

Each package that uses others' resources says how to find its users (`Resource.find_users`); what is used is removed by
nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Used = Literal["network", "plugin", "secret", "snapshot", "volume"]
# Names of the users of one thing: what kind of thing, and its name (of a plugin NAME:VERSION, of a snapshot
# its folder).
FindUsers = Callable[[Used, str], list[str]]


@dataclass(frozen=True, slots=True)
class User:
    """`noun` is what it is to people ("VM"), `group` the commands that deal with it ("vms")."""

    noun: str
    group: str
    name: str


@dataclass(slots=True)
class Usage:
    _finders: list[tuple[str, str, FindUsers]] = field(default_factory=list)

    def ask(self, noun: str, group: str, find_users: FindUsers) -> None:
        """From now on ask this one too."""
        self._finders.append((noun, group, find_users))

    def find_users(self, used: Used, name: str) -> list[User]:
        return [User(noun, group, user) for noun, group, find in self._finders for user in find(used, name)]

    def find_vms(self, used: Used, name: str) -> list[str]:
        """Names of the VMs alone."""
        return [user for noun, _, find in self._finders if noun == "VM" for user in find(used, name)]


def describe_users(users: list[User]) -> tuple[str, list[str], str]:
    """For an error: how many of what, each by name, and the commands that delete them."""
    counts = {user.noun: sum(other.noun == user.noun for other in users) for user in users}
    groups = {user.group: [other.name for other in users if other.group == user.group] for user in users}
    return (
        " and ".join(f"{count} {noun}{'s' if count > 1 else ''}" for noun, count in counts.items()),
        [f"{user.noun} {user.name}" for user in users],
        "; ".join(f"volar {group} delete {' '.join(names)}" for group, names in groups.items()),
    )
