# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from volant.errors import InvalidInput
from volant.registries.references import check_reference, find_repository, is_on_loopback, is_reference

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "text",
    ["r.example.com/a:1", "localhost/a", "localhost:5000/a/b-c:x.y", "[::1]:5000/a", f"r.io/a@{DIGEST}"],
)
def test_references(text: str) -> None:
    assert is_reference(text)
    assert check_reference(f"docker://{text}") == text


@pytest.mark.parametrize(
    "text",
    [
        "nginx",
        "nginx:1.27",
        "team/nginx",
        "./x.tar.gz",
        "/x",
        "-r.io/a",
        "r.io/A",
        "r.io/a b",
        "r.io/a\n",
        "",
    ],
)
def test_what_is_no_reference(text: str) -> None:
    assert not is_reference(text)
    with pytest.raises(InvalidInput, match="as a place in a registry"):
        check_reference(text)


@pytest.mark.parametrize("place", ["r.io:5000/a/b", "r.io:5000/a/b:1.2", f"r.io:5000/a/b:1@{DIGEST}"])
def test_repositories(place: str) -> None:
    assert find_repository(place) == "r.io:5000/a/b"


def test_plain_http_is_for_this_machine_only() -> None:
    assert is_on_loopback("127.0.0.1:5000/a")
    assert not is_on_loopback("127.0.0.1.example.com/a")
