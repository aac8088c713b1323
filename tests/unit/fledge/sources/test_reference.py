# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from volant.errors import InvalidInput, ToolFailed
from volant.fledge.sources.reference import fetch_reference, split_reference
from volant.progress import SilentMonitor
from volant.registries.references import is_on_loopback


@pytest.mark.parametrize(
    ("reference", "transport", "rest"),
    [
        ("alpine:3.19", "docker://", "alpine:3.19"),
        ("localhost:5000/app@sha256:" + "0" * 64, "docker://", "localhost:5000/app@sha256:" + "0" * 64),
        ("docker://ghcr.io/a/b", "docker://", "ghcr.io/a/b"),
        ("docker-daemon:app:1", "docker-daemon:", "app:1"),
        ("containers-storage:localhost/app", "containers-storage:", "localhost/app"),
        ("oci:folder:tag", "oci:", "folder:tag"),
        ("oci-archive:file.tar", "oci-archive:", "file.tar"),
    ],
)
def test_references_as_skopeo_spells_them(reference: str, transport: str, rest: str) -> None:
    assert split_reference(reference) == (transport, rest)


@pytest.mark.parametrize(
    "reference", ["", "--insecure", "two words", "sif:x", "https://example.org/x", "ostree:a@b"]
)
def test_what_is_no_reference(reference: str) -> None:
    with pytest.raises(InvalidInput):
        split_reference(reference)


@pytest.mark.parametrize(
    ("rest", "is_loopback"),
    [
        ("//localhost:5000/a", True),
        ("127.3.2.1/a/b:c", True),
        ("[::1]:5000/a", True),
        ("localhost.example.org/a", False),
        ("127.0.0.1.example.org/a", False),
        ("library/localhost", False),
    ],
)
def test_plain_http_only_on_this_machine(rest: str, is_loopback: bool) -> None:
    assert is_on_loopback(rest) is is_loopback


def test_the_daemon_is_the_one_that_docker_speaks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """skopeo itself knows neither DOCKER_HOST nor contexts."""
    skopeo, docker = tmp_path / "skopeo", tmp_path / "docker"
    skopeo.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit 1\n')
    docker.write_text('#!/bin/sh\n[ "$1 $2" = "context inspect" ] && echo unix:///home/me/docker.sock\n')
    for program in (skopeo, docker):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER_HOST", raising=False)

    def ask(reference: str) -> str:
        with pytest.raises(ToolFailed), ExitStack() as stack:
            fetch_reference(reference, stack, SilentMonitor())
        return (tmp_path / "asked").read_text()

    assert "--src-daemon-host unix:///home/me/docker.sock docker-daemon:app:latest " in ask(
        "docker-daemon:app"
    )
    monkeypatch.setenv("DOCKER_HOST", "tcp://10.0.0.1:2375")
    assert "--src-daemon-host tcp://10.0.0.1:2375 docker-daemon:app:1 " in ask("docker-daemon:app:1")
    assert "--src-daemon-host" not in ask("docker://example.org/app")
