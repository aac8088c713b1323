# SPDX-License-Identifier: Apache-2.0
"""Signed plugins from keys to a daemon with a policy, through a real registry."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.image_registry import KINDS, RegistryKind
from support.in_process_daemon import InProcessDaemon, start_in_process
from support.plugin_files import make_plugin
from support.signing_keys import make_key, seal, write_private, write_public
from volant.errors import NotPermitted
from volant.fledge.signing import sign_file
from volant.registries.signatures import fetch_signatures
from volant.signatures.keys import PrivateKey, sign
from volant.volar.cli import run

KEY = make_key()
TYPE = "application/vnd.in-toto+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kind: RegistryKind = request.param
    with kind.start(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLANT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COSIGN_PASSWORD", "word")
    monkeypatch.chdir(tmp_path)
    Path("cosign.key").write_bytes(seal(KEY, b"word"))
    Path("cosign.pub").write_text(write_public(KEY))
    Path("other.key").write_bytes(write_private(make_key()))
    Path("web.tar.gz").write_bytes(make_plugin("web"))


@pytest.fixture
def daemon() -> Iterator[InProcessDaemon]:
    with start_in_process() as started:
        yield started


def volar(daemon: InProcessDaemon, *arguments: str) -> int:
    return run(list(arguments), daemon.client)


def push(daemon: InProcessDaemon, reference: str, key: str = "") -> str:
    assert (
        volar(daemon, "plugins", "push", "web.tar.gz", reference, *(["--sign-by", key] if key else [])) == 0
    )
    return reference


def has_plugin(daemon: InProcessDaemon) -> bool:
    return any(plugin["name"] == "web" for plugin in daemon.client.list_plugins())


def test_only_what_the_key_signed_comes_in(
    registry: str, daemon: InProcessDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volar(daemon, "system", "policy", "set", f"{registry}/*", "--key", "cosign.pub") == 0
    unsigned = push(daemon, f"{registry}/a/web:1")
    for verb in ("install", "pull"):
        assert volar(daemon, "plugins", verb, unsigned) == NotPermitted.exit_code
        assert f"cannot install {unsigned}: it is not signed" in capsys.readouterr().err
    foreign = push(daemon, f"{registry}/b/web:1", "other.key")
    assert volar(daemon, "plugins", "install", foreign) == NotPermitted.exit_code
    assert "none of its 2 signatures is of what it is" in capsys.readouterr().err
    assert not has_plugin(daemon)
    # Signed beside the other's signature, which stays; and once.
    for _ in range(2):
        push(daemon, foreign, "cosign.key")
    digest = capsys.readouterr().out.split("(")[-1].split(")")[0]
    found = fetch_signatures(f"{registry}/b/web", digest)
    assert (len(found.documents), len(found.bundles)) == (2, 2)
    assert volar(daemon, "plugins", "install", foreign) == 0
    assert has_plugin(daemon)


def test_files_have_a_rule_of_their_own(
    registry: str, daemon: InProcessDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volar(daemon, "system", "policy", "set", "*", "--key", "cosign.pub") == 0
    assert volar(daemon, "plugins", "install", "web.tar.gz") == NotPermitted.exit_code
    assert "no rule of the policy is for it" in capsys.readouterr().err
    assert volar(daemon, "system", "policy", "set", "local", "--key", "cosign.pub") == 0
    path = Path("web.tar.gz").resolve()
    ways = (
        lambda: daemon.client.install_plugin(path),
        lambda: daemon.client.post("/plugins", {"path": str(path)}),
    )
    for install in ways:
        with pytest.raises(NotPermitted, match="it is not signed"):
            install()
    sign_file(path, KEY)
    path.write_bytes(make_plugin("other"))
    for install in ways:
        with pytest.raises(NotPermitted, match="it is not what was signed"):
            install()
    path.write_bytes(make_plugin("web"))
    for install in ways:
        assert install()["name"] == "web"
        daemon.client.remove_plugin("web")
    assert volar(daemon, "plugins", "install", "web.tar.gz") == 0
    daemon.client.remove_plugin("web")
    path.with_name("web.tar.gz.sigstore.json").unlink()
    assert volar(daemon, "system", "policy", "set", "local", "--allow") == 0
    assert volar(daemon, "plugins", "install", "web.tar.gz") == 0


def test_bundles_in_the_registrys_index(registry: str, daemon: InProcessDaemon) -> None:
    """As cosign 3 leaves them where a registry does not list referrers."""
    reference = push(daemon, f"{registry}/c/web:1")
    content = request(registry, "GET", "/v2/c/web/manifests/1")
    write_index(registry, "c/web", content, add_bundle(registry, "c/web", content, KEY))
    assert volar(daemon, "system", "policy", "set", "*", "--key", "cosign.pub") == 0
    assert volar(daemon, "plugins", "install", reference) == 0


def test_bundles_that_only_the_registry_lists(registry: str, daemon: InProcessDaemon) -> None:
    reference = push(daemon, f"{registry}/d/web:1")
    content = request(registry, "GET", "/v2/d/web/manifests/1")
    add_bundle(registry, "d/web", content, KEY)
    lists = asks_for_referrers(registry, "d/web", content)
    assert volar(daemon, "system", "policy", "set", "*", "--key", "cosign.pub") == 0
    assert volar(daemon, "plugins", "install", reference) == (0 if lists else NotPermitted.exit_code)


def test_what_is_listed_and_belongs_to_something_else(registry: str) -> None:
    content = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    foreign = add_bundle(registry, "e/web", b"another one", KEY)
    huge = put_manifest(
        registry,
        "e/web",
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": BUNDLE,
            "config": {"mediaType": EMPTY, **put_blob(registry, "e/web", b"{}")},
            "layers": [{"mediaType": BUNDLE, **put_blob(registry, "e/web", b"x" * (2 << 20))}],
            "subject": {"mediaType": MANIFEST, "digest": digest, "size": len(content)},
        },
    )
    write_index(registry, "e/web", content, foreign, huge, add_bundle(registry, "e/web", content, KEY))
    assert len(fetch_signatures(f"{registry}/e/web", digest).bundles) == 1


def test_a_signature_is_entered_where_others_look(
    registry: str, daemon: InProcessDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        push(daemon, f"{registry}/f/web:1", "cosign.key")
    assert capsys.readouterr().err == ""
    content = request(registry, "GET", "/v2/f/web/manifests/1")
    digest = hashlib.sha256(content).hexdigest()
    (entry,) = json.loads(request(registry, "GET", f"/v2/f/web/manifests/sha256-{digest}"))["manifests"]
    assert entry["artifactType"] == BUNDLE
    manifest = json.loads(request(registry, "GET", f"/v2/f/web/manifests/{entry['digest']}"))
    assert manifest["subject"] == {"mediaType": MANIFEST, "digest": f"sha256:{digest}", "size": len(content)}
    if asks_for_referrers(registry, "f/web", content):
        listed = json.loads(request(registry, "GET", f"/v2/f/web/referrers/sha256:{digest}"))["manifests"]
        assert [each["digest"] for each in listed] == [entry["digest"]]


def asks_for_referrers(registry: str, repository: str, content: bytes) -> bool:
    """Whether the registry lists them itself."""
    with closing(http.client.HTTPConnection(registry)) as connection:
        connection.request("GET", f"/v2/{repository}/referrers/sha256:{hashlib.sha256(content).hexdigest()}")
        return connection.getresponse().status == 200


def add_bundle(registry: str, repository: str, subject: bytes, key: PrivateKey) -> dict[str, Any]:
    digest = hashlib.sha256(subject).hexdigest()
    statement = {
        "subject": [{"digest": {"sha256": digest}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
    }
    payload = json.dumps(statement).encode()
    signature = sign(key, f"DSSEv1 {len(TYPE)} {TYPE} {len(payload)} ".encode() + payload)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": TYPE,
        "signatures": [{"sig": base64.b64encode(signature).decode()}],
    }
    bundle = json.dumps({"mediaType": BUNDLE, "dsseEnvelope": envelope}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": {"mediaType": EMPTY, **put_blob(registry, repository, b"{}")},
        "layers": [{"mediaType": BUNDLE, **put_blob(registry, repository, bundle)}],
        "subject": {"mediaType": MANIFEST, "digest": f"sha256:{digest}", "size": len(subject)},
    }
    return {"artifactType": BUNDLE, **put_manifest(registry, repository, manifest)}


def write_index(registry: str, repository: str, subject: bytes, *entries: dict[str, Any]) -> None:
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}
    put_manifest(registry, repository, index, f"sha256-{hashlib.sha256(subject).hexdigest()}")


def put_blob(registry: str, repository: str, content: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    with closing(http.client.HTTPConnection(registry)) as connection:
        connection.request("POST", f"/v2/{repository}/blobs/uploads/")
        place = connection.getresponse().headers["Location"]
    path = place[place.index("/v2/") :]
    joint = "&" if "?" in path else "?"
    request(registry, "PUT", f"{path}{joint}digest={digest}", content, "application/octet-stream")
    return {"digest": digest, "size": len(content)}


def put_manifest(registry: str, repository: str, manifest: dict[str, Any], tag: str = "") -> dict[str, Any]:
    content = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    request(registry, "PUT", f"/v2/{repository}/manifests/{tag or digest}", content, manifest["mediaType"])
    return {"mediaType": manifest["mediaType"], "digest": digest, "size": len(content)}


def request(registry: str, method: str, path: str, body: bytes | None = None, kind: str = MANIFEST) -> bytes:
    with closing(http.client.HTTPConnection(registry)) as connection:
        connection.request(method, path, body, {"Accept": f"{MANIFEST}, {INDEX}", "Content-Type": kind})
        reply = connection.getresponse()
        content = reply.read()
    assert reply.status < 300, content
    return content
