# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from pathlib import Path

import click
import pytest

from volant.errors import UsageError
from volant.volar.options import (
    Mebibytes,
    Period,
    is_folder,
    is_of_volume,
    of_volume,
    parse_environment,
    parse_mount,
    parse_publish,
    parse_secret,
    parse_volume,
    read_env_files,
)


@pytest.mark.parametrize(
    ("text", "host_ip", "host_port", "guest_port", "protocol"),
    [
        ("80", None, None, 80, "tcp"),
        ("8080:80", None, 8080, 80, "tcp"),
        ("0.0.0.0:8080:80/udp", "0.0.0.0", 8080, 80, "udp"),
        ("[::1]:8080:80", "::1", 8080, 80, "tcp"),
        ("127.0.0.1::80", "127.0.0.1", None, 80, "tcp"),
    ],
)
def test_ports_as_docker_writes_them(
    text: str, host_ip: str | None, host_port: int | None, guest_port: int, protocol: str
) -> None:
    assert parse_publish(text) == {
        "host_ip": host_ip,
        "host_port": host_port,
        "guest_port": guest_port,
        "protocol": protocol,
    }


@pytest.mark.parametrize(
    "text", ["", "http", "80:", "80:http", "80/sctp", "8000-8010:80", "٨٠", "8_0", "²:80", "+80", "-1"]
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a port"):
        parse_publish(text)


@pytest.mark.parametrize(
    "text", ["/src:/app:ro", "type=bind,source=/src,target=/app,readonly", "src=/src,dst=/app,ro"]
)
def test_folders_as_docker_writes_them(text: str) -> None:
    assert not is_of_volume(text)
    assert parse_mount(text) == {"source": "/src", "target": "/app", "read_only": True}


@pytest.mark.parametrize(
    "text", ["/src", "/src:app", "/src:/app:odd", "type=tmpfs,target=/app", "source=,target=/app"]
)
def test_what_is_no_folder_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot mount"):
        parse_mount(text)


def test_a_folder_of_the_guest_alone_is_a_volume_that_is_made_with_the_vm() -> None:
    assert not is_folder("/var/lib/data")
    assert parse_volume("/var/lib/data") == {"name": "", "target": "/var/lib/data", "read_only": False}
    assert is_folder("/srv:/srv")
    assert is_folder("./src")
    for text in ("data", "data:src", "data:/src:odd", ":/src"):
        with pytest.raises(UsageError, match="cannot attach the volume"):
            parse_volume(text)


def test_a_mount_of_a_volume_is_as_the_option_for_volumes_has_it() -> None:
    assert is_of_volume("type=volume,source=data,target=/data")
    assert of_volume("type=volume,source=data,target=/data") == "data:/data"
    assert of_volume("type=volume,target=/data") == "/data"
    assert of_volume("target=/data,type=volume,src=data,readonly") == "data:/data:ro"


def test_secrets_may_have_a_port_and_a_reader() -> None:
    assert parse_secret("key") == {"name": "key", "port": None, "uid": None}
    assert parse_secret("key:9001,uid=33") == {"name": "key", "port": 9001, "uid": 33}
    for wrong in ("key:http", "key,uid=33", "key:1,gid=3", "key:²", "key:1,uid=²"):
        with pytest.raises(UsageError):
            parse_secret(wrong)


def test_environment_is_read_as_docker_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", "here")
    monkeypatch.delenv("NOT_HERE", raising=False)
    assert parse_environment(["A=1=2", "FROM_HERE", "NOT_HERE"]) == {"A": "1=2", "FROM_HERE": "here"}
    lines = io.StringIO('# comment\n\n A=plain\nB="quotes stay"\r\nFROM_HERE\n')
    assert read_env_files([lines]) == {"A": "plain", "B": '"quotes stay"', "FROM_HERE": "here"}


@pytest.mark.parametrize(
    ("text", "mebibytes"), [("512", 512), ("512m", 512), ("2g", 2048), ("1.5G", 1536), ("65536k", 64)]
)
def test_memory_in_mebibytes_or_dockers_units(text: str, mebibytes: int) -> None:
    assert Mebibytes().convert(text, None, None) == mebibytes


@pytest.mark.parametrize("text", ["", "much", "8", "16m", "-1g", "inf", "1e400g", "nan"])
def test_memory_that_is_none(text: str) -> None:
    with pytest.raises(Exception, match=r"is not a size|less than 32"):
        Mebibytes().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("10m", 600), ("1.5h", 5400), ("0", 0), ("2d", 172_800)]
)
def test_a_period_is_seconds(text: str, seconds: int) -> None:
    assert Period().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "m", "10x", "-1", "1e99d", "nan"])
def test_no_period_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError):
        Period().convert(text, None, None)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"A=\xff\n")
    with (
        binary.open(encoding="utf-8") as stream,
        pytest.raises(UsageError, match="binary: it is not UTF-8 text"),
    ):
        read_env_files([stream])
