# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from volant.errors import InvalidInput
from volant.volar.compose.loading import Project
from volant.volar.compose.model import Stack
from volant.volar.compose.networks import name_network, read_aliases, read_networks
from volant.volar.compose.requests import make_requests


def make_project(networks: dict[str, Any] | None = None, **services: Any) -> Project:
    written = {name: {"image": "i", **service} for name, service in services.items()}
    stack = Stack.model_validate({"services": written, "networks": networks or {}})
    return Project("p", Path(), stack, {}, ())


@pytest.mark.parametrize(
    ("key", "network", "name"),
    [
        ("back", None, "p_back"),
        ("My.Net", None, "p_my-net"),
        ("back", {"name": "shared"}, "shared"),
        ("back", {"external": True}, "back"),
        ("back", {"external": True, "name": "shared"}, "shared"),
        ("default", {"name": "all"}, "all"),
    ],
)
def test_names_at_the_daemon(key: str, network: dict[str, Any] | None, name: str) -> None:
    assert name_network(make_project({key: network}), key) == name


def test_a_service_is_in_its_networks_or_in_the_default_one() -> None:
    project = make_project(
        {"back": None}, a={}, b={"networks": ["back", "default"]}, c={"networks": ["gone"]}
    )
    assert read_networks(project, "a") == ["p_default"]
    assert read_networks(project, "b") == ["p_back", "p_default"]
    with pytest.raises(InvalidInput, match="there is no network gone"):
        read_networks(project, "c")


def test_others_know_a_service_by_each_of_its_names() -> None:
    project = make_project(
        {"back": None},
        a={"links": ["Db:database", "Db", "b:other"]},
        Db={
            "container_name": "the-db", "hostname": "host.example",
            "networks": {"back": {"aliases": ["store", "db", "no.word"]}},
        },
        b={},
    )  # fmt: skip
    notes: list[str] = []
    assert read_aliases(project, "Db", notes) == ["db", "the-db", "host", "store", "database"]
    assert len(notes) == 1
    assert notes[0].startswith("services.Db.networks.back.aliases[2]: left out")
    assert read_aliases(project, "a", notes) == ["a"]


def test_without_a_network_there_are_no_names() -> None:
    body = make_requests(make_project(a={"network_mode": "none"}), ["a"])["a"].body
    assert body["network"] == "vsock"
    assert not {"networks", "aliases"} & set(body)
