# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from support.signing_keys import make_key
from volant.errors import InvalidInput
from volant.registries.certificates import make_tls_context


def make_authority() -> bytes:
    key, name = make_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority")])
    today = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_authorities_of_one_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    before = make_tls_context("r.io:5000", is_checked=True).cert_store_stats()["x509_ca"]
    folder = tmp_path / "containers" / "certs.d" / "r.io:5000"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(make_authority())
    (folder / "notes.txt").write_text("of no use")
    found = make_tls_context("r.io:5000", is_checked=True)
    assert found.cert_store_stats()["x509_ca"] == before + 1
    assert (found.verify_mode, found.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert make_tls_context("other.io", is_checked=True).cert_store_stats()["x509_ca"] == before
    (folder / "broken.crt").write_text("no certificate")
    with pytest.raises(InvalidInput, match="broken"):
        make_tls_context("r.io:5000", is_checked=True)


def test_nobody_is_in_between_on_loopback() -> None:
    assert make_tls_context("127.0.0.1:5000", is_checked=False).verify_mode == ssl.CERT_NONE
