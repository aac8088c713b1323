# SPDX-License-Identifier: Apache-2.0
"""ECDSA keys on P-256 in PEM, private ones also as cosign seals them (scrypt, and NaCl's secretbox)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from volant.errors import InvalidInput, NotFound, ToolMissing

MOST_KEY_BYTES = 64 << 10
# cosign's own (N = 65536, r = 8) and four times that.
MOST_SCRYPT_BYTES = 256 << 20
_SEALED = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")

PrivateKey = EllipticCurvePrivateKey
PublicKey = EllipticCurvePublicKey


def load_private_key(path: Path, ask_password: Callable[[], bytes]) -> PrivateKey:
    """`ask_password` is called where the key is sealed. Raises NotFound, InvalidInput, ToolMissing."""
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_KEY_BYTES)
    except OSError as error:
        raise NotFound(
            f"cannot sign by {path}: {error.strerror}", resolution="make one: cosign generate-key-pair"
        ) from error
    sealed = _read_sealed(text)
    password = ask_password() if sealed is not None or b"ENCRYPTED" in text else None
    try:
        if sealed is not None:
            key = serialization.load_der_private_key(_unseal(sealed, password or b""), None)
        else:
            key = serialization.load_pem_private_key(text, password)
    except (ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        cause = "its password is another one, or it is damaged" if password is not None else "it is none"
        raise InvalidInput(f"cannot sign by the key in {path}: {cause}") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise InvalidInput(
            f"cannot sign by the key in {path}: it is not ECDSA on P-256",
            resolution="make one: cosign generate-key-pair",
        )
    return key


def _read_sealed(text: bytes) -> bytes | None:
    """What is between the lines of a key that cosign has sealed; None for any other."""
    lines = text.decode("ascii", "replace").split("\n")
    begins = [f"-----BEGIN {label}-----" for label in _SEALED]
    if (first := next((number for number, line in enumerate(lines) if line.strip() in begins), None)) is None:
        return None
    body = []
    for line in lines[first + 1 :]:
        if line.startswith("-----END"):
            break
        body.append(line.strip())
    try:
        return base64.b64decode("".join(body), validate=True)
    except ValueError:
        return b""


def _unseal(sealed: bytes, password: bytes) -> bytes:
    """A PKCS #8 document (go-securesystemslib, encrypted/encrypted.go). Raises ValueError, KeyError, TypeError."""
    try:
        from nacl.exceptions import CryptoError
        from nacl.secret import SecretBox
    except ImportError as error:
        raise ToolMissing(
            "cannot open a key that cosign has sealed: the Python library PyNaCl is missing",
            resolution="pip install pynacl",
        ) from error
    document = json.loads(sealed)
    kdf, cipher = document["kdf"], document["cipher"]
    if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
        raise ValueError("sealed in another way")
    cost, block, lanes = (int(kdf["params"][name]) for name in ("N", "r", "p"))
    needed = 128 * cost * block
    if min(cost, block, lanes) < 1 or needed * lanes > MOST_SCRYPT_BYTES:
        raise ValueError("asks for too much memory")
    secret = hashlib.scrypt(
        password, salt=base64.b64decode(kdf["salt"]), n=cost, r=block, p=lanes, dklen=32,
        maxmem=2 * needed + (1 << 20),
    )  # fmt: skip
    try:
        return SecretBox(secret).decrypt(
            base64.b64decode(document["ciphertext"]), base64.b64decode(cipher["nonce"])
        )
    except CryptoError as error:
        raise ValueError("another password") from error


def load_public_key(pem: str) -> PublicKey:
    """Raises InvalidInput."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            "cannot trust what is no public key in PEM", resolution="give a file as cosign.pub"
        ) from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise InvalidInput(
            "cannot trust a key that is not ECDSA on P-256", resolution="cosign generate-key-pair"
        )
    return key


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of the key's DER, base64: how a Sigstore bundle hints at it."""
    return base64.b64encode(hashlib.sha256(_encode(key)).digest()).decode()


def _encode(key: PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def sign(key: PrivateKey, data: bytes) -> bytes:
    return key.sign(data, ECDSA(hashes.SHA256()))


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """The signature of what has this SHA-256."""
    return key.sign(digest, ECDSA(Prehashed(hashes.SHA256())))


def is_signed(key: PublicKey, signature: bytes, data: bytes) -> bool:
    return is_digest_signed(key, signature, hashlib.sha256(data).digest())


def is_digest_signed(key: PublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        key.verify(signature, digest, ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True
