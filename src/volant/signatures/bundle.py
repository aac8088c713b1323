# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles: of an artifact in a registry, and of a file (`cosign sign-blob --bundle`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from volant.signatures import media_types
from volant.signatures.keys import (
    PrivateKey,
    PublicKey,
    fingerprint,
    is_digest_signed,
    is_signed,
    sign,
    sign_digest,
)

PREDICATE = "https://sigstore.dev/cosign/sign/v1"
MOST_BYTES = 1 << 20
_PAYLOAD_TYPE = "application/vnd.in-toto+json"


def make_file_bundle(key: PrivateKey, digest: bytes) -> bytes:
    """`digest`: SHA-256 of the file."""
    message = {
        "messageDigest": {"algorithm": "SHA2_256", "digest": base64.b64encode(digest).decode()},
        "signature": base64.b64encode(sign_digest(key, digest)).decode(),
    }
    material = {"publicKey": {"hint": fingerprint(key.public_key())}}
    return json.dumps(
        {"mediaType": media_types.BUNDLE, "verificationMaterial": material, "messageSignature": message}
    ).encode()


def make_artifact_bundle(key: PrivateKey, digest: str) -> bytes:
    """`digest`: of the artifact's manifest, as sha256:…; what cosign 3 signs of an image."""
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": PREDICATE,
        "predicate": {},
    }
    payload = json.dumps(statement, separators=(",", ":")).encode()
    signature = base64.b64encode(sign(key, _encode_for_signing(payload))).decode()
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": _PAYLOAD_TYPE,
        "signatures": [{"sig": signature}],
    }
    material = {"publicKey": {"hint": fingerprint(key.public_key())}}
    return json.dumps(
        {"mediaType": media_types.BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}
    ).encode()


def _encode_for_signing(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding (secure-systems-lab/dsse, protocol.md)."""
    kind = _PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def is_artifact_trusted(keys: Sequence[PublicKey], bundle: bytes, digest: str) -> bool:
    """Whether one of the keys signed this artifact. Statements of other kinds (attestations) count for nothing."""
    try:
        envelope = _read(bundle)["dsseEnvelope"]
        if envelope["payloadType"] != _PAYLOAD_TYPE:
            return False
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]]
        statement = json.loads(payload)
        is_ours = statement["predicateType"] == PREDICATE and any(
            subject["digest"].get("sha256") == digest.removeprefix("sha256:")
            for subject in statement["subject"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    signed = _encode_for_signing(payload)
    return is_ours and any(is_signed(key, raw, signed) for key in keys for raw in signatures[:8])


def is_file_trusted(keys: Sequence[PublicKey], bundle: bytes, digest: bytes) -> bool:
    """Whether one of the keys signed what has this SHA-256."""
    try:
        signature = base64.b64decode(_read(bundle)["messageSignature"]["signature"], validate=True)
    except (ValueError, KeyError, TypeError):
        return False
    return any(is_digest_signed(key, signature, digest) for key in keys)


def _read(bundle: bytes) -> dict[str, Any]:
    try:
        found = json.loads(bundle) if len(bundle) <= MOST_BYTES else None
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(found, dict) or not str(found.get("mediaType")).startswith(media_types.BUNDLES):
        raise ValueError("no Sigstore bundle")
    return found
