# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from support.signing_keys import make_key, seal, write_private, write_public
from volant.errors import InvalidInput, NotFound
from volant.signatures.keys import (
    is_digest_signed,
    is_signed,
    load_private_key,
    load_public_key,
    sign,
    sign_digest,
)

KEY = make_key()


def load(tmp_path: Path, content: bytes, password: bytes = b"") -> ec.EllipticCurvePrivateKey:
    path = tmp_path / "cosign.key"
    path.write_bytes(content)
    return load_private_key(path, lambda: password)


def never() -> bytes:
    raise AssertionError("asked for a password that nobody needs")


def test_forms_of_private_keys(tmp_path: Path) -> None:
    locked = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    older = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    for content in (locked, older, write_private(KEY), seal(KEY, b"word")):
        assert load(tmp_path, content, b"word").private_numbers() == KEY.private_numbers()
    (tmp_path / "plain").write_bytes(write_private(KEY))
    load_private_key(tmp_path / "plain", never)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"words",
        seal(KEY, b"word", N=1 << 30),
        seal(KEY, b"word", N=0),
        seal(KEY, b"word", N="x"),
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n!\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\ne30=\n-----END ENCRYPTED COSIGN PRIVATE KEY-----\n",
    ],
)
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidInput, match="cannot sign by the key in"):
        load(tmp_path, content, b"word")


def test_another_password(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="password is another one"):
        load(tmp_path, seal(KEY, b"word"), b"words")
    with pytest.raises(NotFound, match="No such file"):
        load_private_key(tmp_path / "none", never)


def test_other_kinds_of_keys(tmp_path: Path) -> None:
    for other in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(InvalidInput, match="not ECDSA on P-256"):
            load(tmp_path, other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pem = other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(InvalidInput, match="not ECDSA on P-256"):
            load_public_key(pem.decode())
    with pytest.raises(InvalidInput, match="no public key"):
        load_public_key(write_private(KEY).decode())


def test_signatures() -> None:
    public = load_public_key(write_public(KEY))
    signature = sign(KEY, b"words")
    assert is_signed(public, signature, b"words")
    assert not is_signed(public, signature, b"word")
    assert not is_signed(make_key().public_key(), signature, b"words")
    assert not is_signed(public, b"", b"words")
    assert is_digest_signed(public, sign_digest(KEY, bytes(32)), bytes(32))
