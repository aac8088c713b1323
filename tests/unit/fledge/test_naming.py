# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.fledge.naming import choose_port, clean_name, split_reference


@pytest.mark.parametrize(
    ("reference", "name", "version"),
    [
        ("my-app:1.2.0", "my-app", "1.2.0"),
        ("docker.io/library/my-app:1.2.0", "my-app", "1.2.0"),
        ("localhost:5000/team/My.App:v2.0.1", "my-app", "2.0.1"),
        ("nginx:1.27.3-alpine", "nginx", "1.27.3-alpine"),
        ("nginx:1.27", "nginx", None),
        ("nginx:latest", "nginx", None),
        ("localhost:5000/nginx", "nginx", None),
        ("nginx@sha256:" + "0" * 64, "nginx", None),
        ("", "", None),
    ],
)
def test_split_reference(reference: str, name: str, version: str | None) -> None:
    assert split_reference(reference) == (name, version)


def test_clean_name() -> None:
    assert clean_name("My Project!") == "my-project"
    assert clean_name("___") == ""
    assert len(clean_name("x" * 100)) == 63


@pytest.mark.parametrize(
    ("exposed", "port"),
    [
        (["80/tcp"], 80), (["22/tcp", "8080/tcp"], 8080), (["5432/tcp"], 5432), (["53/udp"], None), ([], None),
        (["9000/tcp", "443/tcp"], 443), (["8000-8010/tcp"], None),
        (["٣/tcp", "²/tcp", "9" * 5000, "-1", "99999"], None),
    ],
)  # fmt: skip
def test_choose_port_prefers_web_servers(exposed: list[str], port: int | None) -> None:
    assert choose_port(exposed) == port
