# SPDX-License-Identifier: Apache-2.0
"""A registry as companies have it: TLS by a CA of its own, a password, and a name that is not this machine's.

Its name leads to it through a proxy of the test's own, so that nothing of this machine's name service is changed.
"""

from __future__ import annotations

import contextlib
import datetime
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from support.image_registry import start_registry
from support.signing_keys import make_key
from volant.signatures.keys import PrivateKey

NAME = "registry.test"
USER, PASSWORD = "tester", "words-of-a-test"  # of a registry that lives as long as a test
# bcrypt of the above, as htpasswd -B writes it.
_LINE = f"{USER}:$2b$05$abcdefghijklmnopqrstuuFYQFAI.90Ra3ZBYsrEUN0OK.9Tcuj7S\n"


@dataclass(frozen=True, slots=True)
class SecureRegistry:
    place: str
    authority: Path
    log: Path

    def count(self, method: str, path: str) -> int:
        """Requests that it has answered; `path` is a pattern."""
        line = re.compile(rf'"{method} {path} HTTP/')
        return len(line.findall(self.log.read_text(errors="replace")))


@contextlib.contextmanager
def start_secure_registry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecureRegistry]:
    """Who trusts `authority` and knows the password gets in; the environment leads there and nowhere else."""
    authority = folder / "authority.crt"
    _write_certificates(folder, authority)
    (folder / "htpasswd").write_text(_LINE)
    more = (
        f"  tls:\n    certificate: {folder / 'registry.crt'}\n    key: {folder / 'registry.key'}\n"
        f"auth:\n  htpasswd:\n    realm: test\n    path: {folder / 'htpasswd'}\n"
    )
    with start_registry(folder, more) as address, _start_proxy(address) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://{proxy}")
        for name in (
            "NO_PROXY",
            "no_proxy",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
            "REGISTRY_AUTH_FILE",
            "DOCKER_CONFIG",
        ):
            monkeypatch.delenv(name, raising=False)
        home = folder / "home"
        home.mkdir()
        for name in ("HOME", "XDG_RUNTIME_DIR"):
            monkeypatch.setenv(name, str(home))
        yield SecureRegistry(f"{NAME}:5443", authority, folder / "registry.log")


def trust(registry: SecureRegistry, home: Path) -> None:
    """As a person does for podman and skopeo."""
    folder = home / ".config" / "containers" / "certs.d" / registry.place
    folder.mkdir(parents=True)
    shutil.copy(registry.authority, folder / "ca.crt")


def _write_certificates(folder: Path, authority: Path) -> None:
    root_key, key = make_key(), make_key()
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
    root = _make_certificate(root_name, root_name, root_key, root_key, is_authority=True)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    authority.write_bytes(root.public_bytes(Encoding.PEM))
    certificate = _make_certificate(name, root_name, key, root_key, is_authority=False)
    (folder / "registry.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "registry.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )


def _make_certificate(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, signer: PrivateKey, *, is_authority: bool
) -> x509.Certificate:
    today = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())


@contextlib.contextmanager
def _start_proxy(target: str) -> Iterator[str]:
    """Takes every CONNECT (RFC 9110, 9.3.6) to the registry."""
    host, _, port = target.partition(":")

    def serve(near: socket.socket) -> None:
        with near, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (data := near.recv(4096)):
                    return
                head += data
            with socket.create_connection((host, int(port))) as far:
                near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=copy, args=(far, near), daemon=True)
                back.start()
                copy(near, far)
                back.join()

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
