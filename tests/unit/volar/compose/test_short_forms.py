# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from volant.volar.compose import short_forms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", [{"target": 80, "protocol": "tcp"}]),
        (80, [{"target": 80, "protocol": "tcp"}]),
        ("8080:80", [{"target": 80, "published": "8080", "protocol": "tcp"}]),
        ("53:53/udp", [{"target": 53, "published": "53", "protocol": "udp"}]),
        (
            "127.0.0.1:8080:80",
            [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "127.0.0.1"}],
        ),
        ("[::1]:8080:80", [{"target": 80, "published": "8080", "protocol": "tcp", "host_ip": "::1"}]),
        ("127.0.0.1::80", [{"target": 80, "protocol": "tcp", "host_ip": "127.0.0.1"}]),
        ("7000-7001:80", [{"target": 80, "published": "7000-7001", "protocol": "tcp"}]),
        (
            "7000-7001:80-81",
            [
                {"target": 80, "published": "7000", "protocol": "tcp"},
                {"target": 81, "published": "7001", "protocol": "tcp"},
            ],
        ),
        ("80-81", [{"target": 80, "protocol": "tcp"}, {"target": 81, "protocol": "tcp"}]),
    ],
)
def test_ports(text: Any, expected: list[dict[str, Any]]) -> None:
    assert short_forms.read_ports([text]) == expected


@pytest.mark.parametrize(
    "text", ["", "a", "80:", "1:2:3:4", "81-80", "70000", "1-2:3-5", "0", "1-60000", "٣", "²", "80-²"]
)
def test_what_is_no_port_is_said(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|ranges"):
        short_forms.read_ports([text])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:/var/lib", {"type": "volume", "source": "data", "target": "/var/lib"}),
        ("data:/var/lib:ro", {"type": "volume", "source": "data", "target": "/var/lib", "read_only": True}),
        ("/var/lib", {"type": "volume", "target": "/var/lib"}),
        ("./a:/b:z,ro", {"type": "bind", "source": "./a", "target": "/b", "read_only": True,
                         "bind": {"create_host_path": True}}),
    ],
)  # fmt: skip
def test_volumes(text: str, expected: dict[str, Any]) -> None:
    assert short_forms.read_volumes([text]) == [expected]


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90), ("500ms", 0.5), ("1.5h", 5400), ("10", 10), (7, 7), ("1us", 1e-6)]
)
def test_durations(text: Any, seconds: float) -> None:
    assert short_forms.read_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "1x", "1m x", "-1s", "٣s", "9" * 400, "9" * 400 + "s"])
def test_what_is_no_duration_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        short_forms.read_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 << 20), ("1g", 1 << 30), ("1.5GB", 3 << 29), ("100kb", 100 << 10), ("7", 7), (8, 8)],
)
def test_sizes(text: Any, size: int) -> None:
    assert short_forms.read_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "٣m", "9" * 400, "-1g"])
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        short_forms.read_bytes(text)


def test_lists_and_mappings() -> None:
    assert short_forms.read_mapping(["A=1", "B", "C=x=y"]) == {"A": "1", "B": None, "C": "x=y"}
    assert short_forms.read_mapping({"A": 1, "B": True, "C": None, "D": 1.5}) == {
        "A": "1", "B": "true", "C": None, "D": "1.5",
    }  # fmt: skip
    assert short_forms.read_labels(["only"]) == {"only": ""}
    assert short_forms.read_hosts(["a:10.0.0.1", "b=::1", "c:[::2]", "a=10.0.0.2"]) == {
        "a": ["10.0.0.1", "10.0.0.2"], "b": ["::1"], "c": ["::2"],
    }  # fmt: skip
    assert short_forms.read_command("sh -c 'a b'") == ["sh", "-c", "a b"]
    assert short_forms.read_mode("0440") == 0o440
    with pytest.raises(ValueError, match="split"):
        short_forms.read_command("'a")
