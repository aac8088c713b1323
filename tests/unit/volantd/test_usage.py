# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from volant.volantd.usage import Usage, User, describe_users


def make_usage() -> Usage:
    usage = Usage()
    usage.ask("VM", "vms", lambda used, name: ["a", "b"] if (used, name) == ("plugin", "web:1.0.0") else [])
    usage.ask("snapshot", "snapshots", lambda used, _name: ["before"] if used == "plugin" else [])
    return usage


def test_everybody_who_may_use_something_is_asked() -> None:
    usage = make_usage()
    assert usage.find_users("plugin", "web:1.0.0") == [
        User("VM", "vms", "a"),
        User("VM", "vms", "b"),
        User("snapshot", "snapshots", "before"),
    ]
    assert usage.find_vms("plugin", "web:1.0.0") == ["a", "b"]
    assert usage.find_users("secret", "key") == []


def test_users_are_told_with_the_commands_that_delete_them() -> None:
    count, names, commands = describe_users(make_usage().find_users("plugin", "web:1.0.0"))
    assert count == "2 VMs and 1 snapshot"
    assert names == ["VM a", "VM b", "snapshot before"]
    assert commands == "volar vms delete a b; volar snapshots delete before"
