# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from support.signing_keys import make_key
from volant.signatures import bundle
from volant.signatures.keys import sign

KEY = make_key()
KEYS = [KEY.public_key()]
DIGEST = f"sha256:{'a' * 64}"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


def make_bundle(**changes: Any) -> bytes:
    """Of an artifact, as cosign 3 writes it."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": "a" * 64}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        **changes,
    }
    payload = json.dumps(statement).encode()
    signed = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"sig": base64.b64encode(sign(KEY, signed)).decode()}],
    }
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    return json.dumps({"mediaType": kind, "dsseEnvelope": envelope}).encode()


def test_an_artifact() -> None:
    assert bundle.is_artifact_trusted(KEYS, make_bundle(), DIGEST)
    assert not bundle.is_artifact_trusted(KEYS, make_bundle(), f"sha256:{'b' * 64}")
    assert not bundle.is_artifact_trusted([make_key().public_key()], make_bundle(), DIGEST)


def test_one_that_we_make() -> None:
    made = bundle.make_artifact_bundle(KEY, DIGEST)
    assert bundle.is_artifact_trusted(KEYS, made, DIGEST)
    assert not bundle.is_artifact_trusted(KEYS, made, f"sha256:{'b' * 64}")
    document = json.loads(made)
    assert base64.b64decode(document["verificationMaterial"]["publicKey"]["hint"], validate=True)
    assert json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))["predicate"] == {}


def test_a_statement_about_it_is_no_signature() -> None:
    """An SBOM or a report of weaknesses is signed by the same key."""
    assert not bundle.is_artifact_trusted(
        KEYS, make_bundle(predicateType="https://spdx.dev/Document"), DIGEST
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        make_bundle().replace(b"sigstore", b"other"),
        make_bundle(subject=5),
        make_bundle(subject=[5]),
        make_bundle(subject=[{"digest": []}]),
        make_bundle().replace(b"sig", b"gis"),
    ],
)
def test_what_is_no_bundle(content: bytes) -> None:
    assert not bundle.is_artifact_trusted(KEYS, content, DIGEST)
    assert not bundle.is_file_trusted(KEYS, content, bytes(32))


def test_a_file() -> None:
    made = bundle.make_file_bundle(KEY, bytes(32))
    assert bundle.is_file_trusted(KEYS, made, bytes(32))
    assert not bundle.is_file_trusted(KEYS, made, bytes(31) + b"x")
    assert not bundle.is_file_trusted([make_key().public_key()], made, bytes(32))
    assert not bundle.is_artifact_trusted(KEYS, made, DIGEST)
