# SPDX-License-Identifier: Apache-2.0
"""Keys for signing, in the forms that people have them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from nacl.secret import SecretBox

from volant.signatures.keys import PrivateKey


def make_key() -> PrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def write_private(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_public(key: PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def seal(key: PrivateKey, password: bytes, **changes: Any) -> bytes:
    """As cosign generate-key-pair does, with less work for the password."""
    params = {"N": 1024, "r": 8, "p": 1, **changes}
    salt, nonce = os.urandom(32), os.urandom(24)
    secret = hashlib.scrypt(password, salt=salt, n=1024, r=8, p=1, dklen=32)
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    document = {
        "kdf": {"name": "scrypt", "params": params, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(SecretBox(secret).encrypt(plain, nonce).ciphertext).decode(),
    }
    text = base64.encodebytes(json.dumps(document).encode())
    label = b"ENCRYPTED SIGSTORE PRIVATE KEY"
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, text, label)
