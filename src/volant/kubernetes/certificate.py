# SPDX-License-Identifier: Apache-2.0
"""The certificate that this node serves with: the cluster's CA signs it (signer kubernetes.io/kubelet-serving)."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lightkube.models.certificates_v1 import CertificateSigningRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.certificates_v1 import CertificateSigningRequest

from volant.kubernetes.cluster import Cluster

log = logging.getLogger(__name__)
SIGNER = "kubernetes.io/kubelet-serving"
# Soon while somebody joins, seldom while nobody has approved it.
POLL_SECONDS, MOST_POLL_SECONDS = 2.0, 60.0


NODE_PREFIX = "system:node:"


def read_node_name(pem: bytes) -> str:
    """The node whose client certificate this is; empty where it is somebody else's."""
    try:
        subject = x509.load_pem_x509_certificate(pem).subject
    except ValueError:
        return ""
    names = [str(attribute.value) for attribute in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return names[0].removeprefix(NODE_PREFIX) if names and names[0].startswith(NODE_PREFIX) else ""


class ServingCertificate:
    """Key and certificate in a folder of the agent's own; self-signed until the cluster has signed one."""

    def __init__(self, folder: Path, node: str, address: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.certificate, self.key = folder / "serving.crt", folder / "serving.key"
        self._node = node
        self._names = x509.SubjectAlternativeName(
            [x509.DNSName(node), x509.IPAddress(ipaddress.ip_address(address))]
        )
        self._subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{NODE_PREFIX}{node}"),
            ]
        )

    def is_good(self) -> bool:
        """Whether there is one that the cluster signed and that is good for another day."""
        try:
            found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        except (OSError, ValueError):
            return False
        return found.issuer != found.subject and found.not_valid_after_utc > datetime.now(UTC) + timedelta(
            days=1
        )

    def sign_for_now(self) -> None:
        """One of our own, so that the server can begin."""
        key = self._make_key()
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder().subject_name(self._subject).issuer_name(self._subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=1))
            .add_extension(self._names, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        self.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    async def request(self, cluster: Cluster) -> None:
        """Ask for one, wait until somebody has approved it, and keep it."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        asked = (
            x509.CertificateSigningRequestBuilder().subject_name(self._subject)
            .add_extension(self._names, critical=False).sign(key, hashes.SHA256())
        )  # fmt: skip
        spec = CertificateSigningRequestSpec(
            request=base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode(),
            signerName=SIGNER,
            usages=["digital signature", "server auth"],
        )
        made = await cluster.client.create(
            CertificateSigningRequest(metadata=ObjectMeta(generateName=f"volant-{self._node}-"), spec=spec)
        )
        assert made.metadata is not None and made.metadata.name
        log.info("waiting for certificate request %s to be approved", made.metadata.name)
        pause_seconds = POLL_SECONDS
        while made.status is None or not made.status.certificate:
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(1.5 * pause_seconds, MOST_POLL_SECONDS)
            made = await cluster.client.get(CertificateSigningRequest, made.metadata.name or "")
            assert made.metadata is not None
        self.certificate.write_bytes(base64.b64decode(made.status.certificate))

    def _make_key(self) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        content = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(self.key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        return key
