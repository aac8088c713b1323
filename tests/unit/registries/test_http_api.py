# SPDX-License-Identifier: Apache-2.0
"""Who is let in by a registry's API, with which word."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from support.scripted_registry import Answer, Asked, start_scripted_registry
from volant.errors import InvalidInput, NotPermitted, Unreachable
from volant.registries import http_api
from volant.registries.http_api import RegistryApi

BASIC = "Basic " + base64.b64encode(b"ann:secret").decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def log_in(home: Path, place: str, **entry: str) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    document = {"auths": {place: entry or {"auth": BASIC.removeprefix("Basic ")}}}
    (home / ".docker" / "config.json").write_text(json.dumps(document))


def test_a_password_is_sent_only_where_it_is_asked_for(home: Path) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.headers.get("authorization") == BASIC:
            return Answer()
        return Answer(401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    with start_scripted_registry(answer) as registry:
        with pytest.raises(NotPermitted, match="does not let you"):
            RegistryApi(f"{registry.place}/team/web").get("x", "k")
        log_in(home, registry.place)
        assert RegistryApi(f"{registry.place}/team/web").get("x", "k").status == 200
    sent = [asked.headers.get("authorization") for asked in registry.asked]
    assert sent == [None, None, None, BASIC]


@pytest.mark.parametrize("token", ["", "refresh"])
def test_tokens_are_fetched_for_what_is_asked(token: str, home: Path) -> None:
    place = ""

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            form = parse_qs(asked.body.decode() or urlsplit(asked.path).query)
            assert (form["service"], form["scope"]) == (["s"], ["repository:team/web:pull"])
            if token:
                assert (asked.method, form["refresh_token"]) == ("POST", ["refresh"])
                return Answer(body=b'{"access_token": "word"}')
            assert asked.headers["authorization"] == BASIC
            return Answer(body=b'{"token": "word"}')
        if asked.headers.get("authorization") == "Bearer word":
            return Answer()
        challenge = f'Bearer realm="http://{place}/token",service="s",scope="repository:team/web:pull"'
        return Answer(401, headers={"WWW-Authenticate": challenge})

    with start_scripted_registry(answer) as registry:
        place = registry.place
        log_in(home, place, **({"identitytoken": token} if token else {}))
        api = RegistryApi(f"{place}/team/web")
        assert [api.get("x", "k").status for _ in range(2)] == [200, 200]
    assert [asked.path.partition("?")[0] for asked in registry.asked] == [
        "/v2/team/web/x", "/token", "/v2/team/web/x", "/v2/team/web/x",
    ]  # fmt: skip


@pytest.mark.parametrize("reply", [b"{}", b"[]", b"no", b'{"token": "a\\r\\nX: y"}', b'{"token": 7}'])
def test_token_services_that_give_none(reply: bytes) -> None:
    place = ""

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/token"):
            return Answer(body=reply)
        return Answer(401, headers={"WWW-Authenticate": f'Bearer realm="http://{place}/token"'})

    with start_scripted_registry(answer) as registry:
        place = registry.place
        with pytest.raises(NotPermitted, match="token service"):
            RegistryApi(f"{place}/team/web").get("x", "k")


@pytest.mark.parametrize(
    "challenge", ["", "Digest x", 'Bearer realm="file:///etc/passwd"', "Bearer", "Basic"]
)
def test_challenges_that_nobody_can_answer(challenge: str) -> None:
    reply = Answer(401, headers={"WWW-Authenticate": challenge})
    with start_scripted_registry(lambda _: reply) as registry, pytest.raises(NotPermitted):
        RegistryApi(f"{registry.place}/team/web").get("x", "k")
    assert all(asked.path == "/v2/team/web/x" for asked in registry.asked)


def test_an_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "MOST_SECONDS", -1.0)
    with (
        start_scripted_registry(lambda _: Answer()) as registry,
        pytest.raises(InvalidInput, match="too long"),
    ):
        RegistryApi(f"{registry.place}/team/web").get("x", "k")


def test_nobody_there_or_no_http() -> None:
    with pytest.raises(Unreachable):
        RegistryApi("127.0.0.1:1/team/web").get("x", "k")
