# SPDX-License-Identifier: Apache-2.0
"""Who this user is at a registry, as skopeo, podman and docker have written it down (containers-auth.json(5))."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volant.errors import ToolFailed, ToolMissing
from volant.process import require_tool, run_tool

HELPER_SECONDS = 60
MOST_BYTES = 1 << 20
# What helpers call a token that is exchanged for others (docker-credential-helpers).
_TOKEN_USER = "<token>"  # noqa: S105  # a name, no token
_DOCKER_HUB = ("docker.io", "index.docker.io", "https://index.docker.io/v1/")


@dataclass(frozen=True, slots=True)
class Login:
    """A password, or an identity token, which takes its place where the registry gives out tokens."""

    user: str = ""
    password: str = ""
    identity_token: str = ""

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_login(repository: str) -> Login | None:
    """Of the first file that knows it, by the longest part of HOST/PATH; None where nobody has logged in."""
    for path in _list_files():
        document = _read(path)
        for place in _list_places(repository):
            if (found := _find_in(document, place)) is not None:
                return found
    return None


def _list_files() -> Iterator[Path]:
    home = Path.home()
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    yield (Path(runtime) if runtime else Path(f"/run/containers/{os.getuid()}")) / "containers/auth.json"
    yield Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _list_places(repository: str) -> Iterator[str]:
    """HOST/TEAM/WEB, HOST/TEAM, HOST; of Docker Hub all its names."""
    place = repository
    while "/" in place:
        yield place
        place = place.rpartition("/")[0]
    yield from _DOCKER_HUB if place == "docker.io" else (place,)


def _find_in(document: Mapping[str, Any], place: str) -> Login | None:
    helpers = document.get("credHelpers")
    if isinstance(helpers, dict) and isinstance(helper := helpers.get(place), str):
        return _ask(helper, place)
    entries = document.get("auths")
    for key, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict) and place in (key, _simplify(key)) and (login := _read_entry(entry)):
            return login
    store = document.get("credsStore")
    return _ask(store, place) if isinstance(store, str) and store and "/" not in place else None


def _simplify(key: str) -> str:
    """docker wrote addresses once: https://HOST/v1/."""
    _, scheme, rest = key.partition("://")
    return rest.partition("/")[0] if scheme else key


def _read_entry(entry: Mapping[str, Any]) -> Login | None:
    try:
        user, _, password = base64.b64decode(str(entry.get("auth") or "")).decode().partition(":")
    except ValueError:
        return None
    token = str(entry.get("identitytoken") or "")
    return Login(user, password.rstrip("\0"), token) if user or token else None


def _ask(helper: str, place: str) -> Login | None:
    """A credential helper; None where it knows nobody there, or is not here."""
    try:
        program = require_tool(f"docker-credential-{helper}")
        reply = run_tool([program, "get"], stdin=place.encode(), timeout_seconds=HELPER_SECONDS).stdout
        found = json.loads(reply)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ToolMissing, ToolFailed, ValueError, KeyError, TypeError):
        return None
    return Login(identity_token=secret) if user == _TOKEN_USER else Login(user, secret)
