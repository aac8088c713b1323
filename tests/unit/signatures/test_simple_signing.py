# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from support.signing_keys import make_key
from volant.signatures import simple_signing

KEY = make_key()
KEYS = [KEY.public_key()]
DIGEST = f"sha256:{'a' * 64}"


def test_documents() -> None:
    document = simple_signing.make_document("r.io/team/web", DIGEST)
    signature = simple_signing.sign_document(KEY, document)
    assert simple_signing.is_trusted(KEYS, document, signature, DIGEST)
    assert not simple_signing.is_trusted(KEYS, document, signature, f"sha256:{'b' * 64}")
    assert not simple_signing.is_trusted(KEYS, document + b" ", signature, DIGEST)
    assert not simple_signing.is_trusted([make_key().public_key()], document, signature, DIGEST)
    for other in (b"{}", b"[]", b"words", b"[" * 100_000, document.replace(b"cosign", b"atomic")):
        signed = simple_signing.sign_document(KEY, other)
        assert not simple_signing.is_trusted(KEYS, other, signed, DIGEST)
    assert not simple_signing.is_trusted(KEYS, document, "no base64", DIGEST)
