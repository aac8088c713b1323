# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from volant.registries.logins import Login, find_login


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def auths(**users: str) -> dict[str, Any]:
    return {"auths": {place: {"auth": word(user)} for place, user in users.items()}}


def word(user: str) -> str:
    return base64.b64encode(f"{user}:pass:word".encode()).decode()


def test_the_narrowest_of_the_first_file_that_knows(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / ".docker" / "config.json", auths(**{"r.io": "docker", "other.io": "docker"}))
    write(home / "run" / "containers" / "auth.json", auths(**{"r.io": "podman", "r.io/team": "team"}))
    assert find_login("r.io/web") == Login("podman", "pass:word")
    assert find_login("r.io/team/web") == Login("team", "pass:word")
    assert find_login("r.io/teams/web") == Login("podman", "pass:word")
    assert find_login("other.io/web") == Login("docker", "pass:word")
    assert find_login("third.io/web") is None
    write(home / "named.json", auths(**{"r.io": "named"}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "named.json"))
    assert find_login("r.io/web") == Login("named", "pass:word")


def test_names_of_docker_hub(home: Path) -> None:
    write(home / ".docker" / "config.json", auths(**{"https://index.docker.io/v1/": "hub"}))
    assert find_login("docker.io/library/web") == Login("hub", "pass:word")


@pytest.mark.parametrize("name", ["credHelpers", "credsStore"])
def test_helpers(name: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = home / "bin" / "docker-credential-ofatest"
    write(
        helper,
        '#!/bin/sh\nread place\necho "{\\"Username\\": \\"<token>\\", \\"Secret\\": \\"of $place\\"}"\n',
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
    entry: Any = "ofatest" if name == "credsStore" else {"r.io": "ofatest"}
    write(home / ".docker" / "config.json", {name: entry})
    assert find_login("r.io/team/web") == Login(identity_token="of r.io")
    helper.write_text("#!/bin/sh\nexit 1\n")
    assert find_login("r.io/team/web") is None
    helper.unlink()
    assert find_login("r.io/team/web") is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 10_000, '{"auths": 7}', '{"auths": {"r.io": 7}}', '{"auths": {"r.io": {"auth": "%"}}}',
     '{"auths": {"r.io": {}}, "credHelpers": {"r.io": 7}, "credsStore": 7}'],
)  # fmt: skip
def test_files_that_say_nothing(content: str, home: Path) -> None:
    write(home / ".docker" / "config.json", content)
    assert find_login("r.io/web") is None
