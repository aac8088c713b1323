# SPDX-License-Identifier: Apache-2.0
"""Plugins in a registry behind TLS and a password, as people log in to it; and transfers that are killed."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.host import wait_until
from support.image_registry import start_registry
from support.secure_registry import PASSWORD, USER, SecureRegistry, start_secure_registry, trust
from support.signing_keys import make_key
from volant.errors import NotPermitted
from volant.plugin_registry import pull_plugin, push_plugin
from volant.process import run_tool
from volant.registries.signatures import fetch_signatures
from volant.signatures.bundle import is_artifact_trusted

CONTENT = random.Random(5).randbytes(300_000)
SENT = "/v2/team/web/blobs/uploads/"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecureRegistry]:
    monkeypatch.setattr("volant.plugin_registry.PART_BYTES", 1 << 16)
    with start_secure_registry(tmp_path, monkeypatch) as started:
        monkeypatch.setenv("VOLANT_HOME", str(tmp_path / "volant"))
        yield started


def push(registry: SecureRegistry, path: Path) -> str:
    (path / "archive").write_bytes(CONTENT)
    with (path / "archive").open("rb") as archive:
        return push_plugin(archive, f"{registry.place}/team/web:1", name="web", version="1.0.0")


def pull(registry: SecureRegistry) -> bytes:
    with pull_plugin(f"{registry.place}/team/web:1") as pulled:
        return b"".join(pulled.read())


def write_login(path: Path, registry: SecureRegistry, user: str = USER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    word = base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()
    path.write_text(json.dumps({"auths": {registry.place: {"auth": word}}}))


def test_nobody_gets_in_without_certificate_and_login(registry: SecureRegistry, tmp_path: Path) -> None:
    with pytest.raises(NotPermitted, match="certificate is not trusted here"):
        pull(registry)
    trust(registry, tmp_path / "home")
    with pytest.raises(NotPermitted, match="does not let you"):
        push(registry, tmp_path)
    write_login(tmp_path / "home" / ".docker" / "config.json", registry, user="other")
    with pytest.raises(NotPermitted, match="does not let you"):
        pull(registry)


def test_the_login_of_skopeo_and_podman(
    registry: SecureRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also: what the registry has is not sent, and its CA where the whole machine keeps them."""
    monkeypatch.setenv("SSL_CERT_FILE", str(registry.authority))
    run_tool(["skopeo", "login", "-u", USER, "--password-stdin", registry.place], stdin=PASSWORD.encode())
    digest = push(registry, tmp_path)
    sent = registry.count("POST", SENT)
    assert sent > 5
    assert push(registry, tmp_path) == digest
    assert registry.count("POST", SENT) == sent
    assert pull(registry) == CONTENT


def test_the_login_of_docker(registry: SecureRegistry, tmp_path: Path) -> None:
    trust(registry, tmp_path / "home")
    write_login(tmp_path / "home" / ".docker" / "config.json", registry)
    push(registry, tmp_path)
    assert pull(registry) == CONTENT


def test_signatures_beside_it(
    registry: SecureRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What skopeo does not carry goes by the same login, certificate and proxy."""
    key = make_key()
    trust(registry, tmp_path / "home")
    write_login(tmp_path / "home" / ".docker" / "config.json", registry)
    (tmp_path / "archive").write_bytes(CONTENT)
    with (tmp_path / "archive").open("rb") as archive:
        reference = f"{registry.place}/team/web:1"
        digest = push_plugin(archive, reference, name="web", version="1.0.0", sign_by=key)
    found = fetch_signatures(f"{registry.place}/team/web", digest)
    assert (len(found.documents), len(found.bundles)) == (1, 1)
    assert is_artifact_trusted([key.public_key()], found.bundles[0], digest)
    assert capsys.readouterr().err == ""


def test_a_credential_helper(
    registry: SecureRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(registry, tmp_path / "home")
    helper = tmp_path / "bin" / "docker-credential-ofatest"
    helper.parent.mkdir()
    reply = json.dumps({"ServerURL": registry.place, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\ncat > /dev/stderr\necho '{reply}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    config = tmp_path / "home" / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"credHelpers": {registry.place: "ofatest"}}))
    push(registry, tmp_path)
    assert pull(registry) == CONTENT


PUSH = """
import sys
from pathlib import Path
from volant.plugin_registry import push_plugin
with Path(sys.argv[1]).open("rb") as archive:
    push_plugin(archive, sys.argv[2], name="web", version="1.0.0")
"""
PULL = """
import sys
from volant.plugin_registry import pull_plugin
with pull_plugin(sys.argv[2]) as pulled:
    for chunk in pulled.read():
        pass
"""


@pytest.mark.parametrize("program", [PUSH, PULL], ids=["push", "pull"])
def test_one_that_is_killed(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its skopeo ends with it, and the next one goes on and leaves nothing."""
    cache = tmp_path / "volant" / "cache"
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path / "volant"))
    content = random.Random(7).randbytes(96 << 20)
    (tmp_path / "archive").write_bytes(content)
    with start_registry(tmp_path) as address:
        reference = f"{address}/team/web:1"
        if program == PULL:
            with (tmp_path / "archive").open("rb") as archive:
                push_plugin(archive, reference, name="web", version="1.0.0")
        arguments = [sys.executable, "-c", program, str(tmp_path / "archive"), reference]
        killed = subprocess.Popen(arguments)
        name = "pushes" if program == PUSH else "pulls"
        wait_until(
            "skopeo", lambda: len(find_children(killed.pid)) > 0 and any((cache / name).rglob("blobs"))
        )
        children = find_children(killed.pid)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        wait_until("the end of its skopeo", lambda: not any(map(is_running, children)))
        subprocess.run(arguments, check=True)
        assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
        with pull_plugin(reference) as pulled:
            assert b"".join(pulled.read()) == content
    shutil.rmtree(cache)


def find_children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(word) for word in text.split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
