# SPDX-License-Identifier: Apache-2.0
"""Lists of referrers as registries, and people who mean harm, answer them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from support.scripted_registry import INDEX_TYPE, Answer, Asked, start_scripted_registry
from volant.errors import Conflict, InvalidInput, NotFound, NotPermitted, Unreachable
from volant.registries import skopeo
from volant.registries.http_api import MOST_BYTES, RegistryApi
from volant.registries.referrers import MOST_PAGES, MOST_REFERRERS, list_referrers, tell_registry

DIGEST = f"sha256:{'a' * 64}"
TAG = DIGEST.replace(":", "-")
KIND = "application/vnd.example.signature+json"
LIST = f"/v2/team/web/referrers/{DIGEST}"


def describe(letter: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": "m", "digest": f"sha256:{letter * 64}", "size": 5, **more}


def write_index(entries: Sequence[Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": list(entries)}).encode()


@pytest.fixture(autouse=True)
def no_logins(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)

    def inspect(place: str, what: str) -> bytes:
        raise NotFound("there is no such tag")

    monkeypatch.setattr(skopeo, "inspect", inspect)


def fetch(place: str) -> list[dict[str, Any]]:
    return list_referrers(RegistryApi(f"{place}/team/web"), DIGEST, KIND)


def test_pages_are_followed() -> None:
    def answer(asked: Asked) -> Answer:
        if "page=2" in asked.path:
            return Answer(body=write_index([describe("c")]))
        link = f'<{LIST}?page=1>; rel="prev", <{LIST}?artifactType=x&page=2>; rel="next"'
        return Answer(body=write_index([describe("b")]), headers={"Link": link})

    with start_scripted_registry(answer) as registry:
        assert [entry["digest"][7] for entry in fetch(registry.place)] == ["b", "c"]
    first = registry.asked[0]
    assert first.path == f"{LIST}?artifactType=application%2Fvnd.example.signature%2Bjson"
    assert first.headers["accept"] == INDEX_TYPE


def test_pages_that_never_end_or_lead_elsewhere() -> None:
    def endless(asked: Asked) -> Answer:
        number = int(asked.path.rpartition("n=")[2]) if "n=" in asked.path else 0
        link = {"Link": f'<{LIST}?n={number + 1}>; rel="next"'}
        return Answer(body=write_index([describe("b")]), headers=link)

    with start_scripted_registry(endless) as registry:
        assert len(fetch(registry.place)) == len(registry.asked) == MOST_PAGES
    circle = {"Link": f'<{LIST}?n=0>; rel="next"'}
    with start_scripted_registry(lambda _: Answer(body=write_index([]), headers=circle)) as registry:
        assert fetch(registry.place) == []
    assert len(registry.asked) == 2
    for target in ("http://127.0.0.1:1/v2/team/web/x", "//127.0.0.1:1/", "/v2/other/referrers", "../../../x"):
        link = {"Link": f'<{target}>; rel="next"'}
        with start_scripted_registry(
            lambda _, link=link: Answer(body=write_index([]), headers=link)
        ) as registry:
            assert fetch(registry.place) == []
        assert len(registry.asked) == 1


def test_what_is_no_descriptor_does_not_count() -> None:
    odd: list[Any] = [
        None,
        7,
        [],
        {},
        describe("b", size=True),
        describe("b", size=-1),
        describe("B"),
        describe("b", annotations=7),
    ]
    with start_scripted_registry(lambda _: Answer(body=write_index([*odd, describe("c")]))) as registry:
        assert [entry["digest"][7] for entry in fetch(registry.place)] == ["c"]
    many = [describe("b")] * (MOST_REFERRERS + 9)
    with start_scripted_registry(lambda _: Answer(body=write_index(many))) as registry:
        assert len(fetch(registry.place)) == MOST_REFERRERS


@pytest.mark.parametrize(
    "body",
    [
        b"x" * (MOST_BYTES + 1),
        b"[]",
        b"{",
        b"[" * 100_000,
        b'{"manifests": {"a": 1}}',
        b"\xff\xfe",
    ],
    ids=["huge", "list", "cut off", "deep", "object", "bytes"],
)
def test_lists_that_are_none(body: bytes) -> None:
    with start_scripted_registry(lambda _: Answer(body=body)) as registry, pytest.raises(InvalidInput):
        fetch(registry.place)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"{}", "application/json"),
        Answer(200, b"<html>", "text/html"),
        Answer(303, b"", "text/html", {"Location": "http://127.0.0.1:1/"}),
        Answer(400, b"", "text/plain"),
        Answer(200, write_index([describe("b")]), "application/json"),
    ],
    ids=["404", "page", "redirected", "400", "other type"],
)
def test_registries_without_the_list_have_an_index(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def inspect(place: str, what: str) -> bytes:
        places.append(place)
        return write_index([describe("d")])

    monkeypatch.setattr(skopeo, "inspect", inspect)
    with start_scripted_registry(lambda _: answer) as registry:
        assert [entry["digest"][7] for entry in fetch(registry.place)] == ["d"]
        assert places == [f"{registry.place}/team/web:{TAG}"]


def test_a_registry_that_is_ill_is_no_registry_without_signatures() -> None:
    with start_scripted_registry(lambda _: Answer(503)) as registry, pytest.raises(Unreachable, match="503"):
        fetch(registry.place)
    with start_scripted_registry(lambda _: Answer(403)) as registry, pytest.raises(NotPermitted):
        fetch(registry.place)
    with pytest.raises(Unreachable):
        fetch("127.0.0.1:1")


class Registry:
    """Keeps what is put. `lists`: whether it says OCI-Subject; `others`: what somebody else writes in between."""

    def __init__(self, *, lists: bool = False, others: int = 0) -> None:
        self.lists, self.others = lists, others
        self.kept: dict[str, bytes] = {}

    def answer(self, asked: Asked) -> Answer:
        if asked.method == "GET":
            content = self.kept.get(asked.path)
            return Answer(404) if content is None else Answer(body=content)
        self.kept[asked.path] = asked.body
        if asked.path.endswith(TAG) and self.others:
            self.others -= 1
            self.kept[asked.path] = write_index([describe(str(self.others))])
        return Answer(201, headers={"OCI-Subject": DIGEST} if self.lists else {})

    @property
    def entries(self) -> list[Any]:
        found: list[Any] = json.loads(self.kept[f"/v2/team/web/manifests/{TAG}"])["manifests"]
        return found


def tell(registry: Registry) -> None:
    with start_scripted_registry(registry.answer) as started:
        tell_registry(
            RegistryApi(f"{started.place}/team/web"), DIGEST, b"{}", describe("b", artifactType=KIND)
        )


def test_the_index_is_kept_where_the_registry_does_not_list() -> None:
    registry = Registry(lists=True)
    tell(registry)
    assert list(registry.kept) == [f"/v2/team/web/manifests/sha256:{'b' * 64}"]
    registry = Registry()
    for _ in range(2):
        tell(registry)
    assert registry.entries == [describe("b", artifactType=KIND)]
    other = describe("c", platform={"os": "x"}, more=1)
    registry.kept[f"/v2/team/web/manifests/{TAG}"] = json.dumps(
        {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [other], "annotations": {"a": "b"}}
    ).encode()
    tell(registry)
    assert registry.entries == [other, describe("b", artifactType=KIND)]
    assert json.loads(registry.kept[f"/v2/team/web/manifests/{TAG}"])["annotations"] == {"a": "b"}


def test_others_who_write_the_index_at_the_same_time() -> None:
    registry = Registry(others=3)
    tell(registry)
    assert [entry["digest"][7] for entry in registry.entries] == ["0", "b"]
    with pytest.raises(Conflict, match="others write it"):
        tell(Registry(others=100))


@pytest.mark.parametrize("content", [b"[]", b'{"manifests": 7}', b'{"mediaType": "m", "manifests": []}'])
def test_a_tag_that_is_no_index_stays(content: bytes) -> None:
    registry = Registry()
    registry.kept[f"/v2/team/web/manifests/{TAG}"] = content
    with pytest.raises(InvalidInput):
        tell(registry)
    assert registry.kept[f"/v2/team/web/manifests/{TAG}"] == content
