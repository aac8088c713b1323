# SPDX-License-Identifier: Apache-2.0
"""How a host becomes a node, and how it stops being one, with an administrator's kubeconfig.

The node gets a certificate of its own (system:node:NAME), with which Kubernetes' Node authorizer and NodeRestriction
let it touch its own pods and no others'. The administrator's rights are used here and kept nowhere.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.certificates_v1 import (
    CertificateSigningRequestCondition,
    CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
)
from lightkube.models.core_v1 import Toleration
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.node_v1 import Scheduling
from lightkube.resources.certificates_v1 import CertificateSigningRequest
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Node, Pod
from lightkube.resources.node_v1 import RuntimeClass

from volant.errors import Conflict, NotPermitted, Unreachable
from volant.kubernetes.certificate import NODE_PREFIX, SIGNER
from volant.kubernetes.cluster import read_ca
from volant.kubernetes.node import LEASE_NAMESPACE, TAINT
from volant.kubernetes.volume_rights import allow_volumes, disallow_volumes
from volant.whole_file import write_whole_file

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
RUNTIME_CLASS = "volant"
POLL_SECONDS = 0.5
CONFLICT = 409
Say = Callable[[str], None]


def join(admin: Path, node: str, target: Path, *, wait_seconds: float, say: Say) -> None:
    """Make the node's own kubeconfig at `target`, where the daemon finds it, and wait until the node is ready."""
    config = KubeConfig.from_file(admin).get()
    assert config is not None
    client = Client(config=config)
    deadline = time.monotonic() + wait_seconds
    _make_runtime_class(client)
    try:
        allow_volumes(client, node)
    except ApiError as error:
        say(f"claims get no volumes here: {error}")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _get_client_certificate(client, node, key, deadline)
    say(f"the cluster knows {NODE_PREFIX}{node}")
    document = make_kubeconfig(config.cluster.server, read_ca(admin), certificate, key)
    keep_kubeconfig(target, document)
    say(f"wrote {target}; the daemon begins as soon as it runs")
    while not _is_ready(client, node):
        approve_serving(client, node)
        if time.monotonic() > deadline:
            raise Unreachable(
                f"cannot finish joining: node {node} is not ready after {wait_seconds:g} s",
                resolution="see that the daemon runs (volar daemon status) and what it says (volar daemon logs)",
            )
        time.sleep(POLL_SECONDS)
    say(f"node {node} is ready")
    while not approve_serving(client, node) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def leave(admin: Path, node: str, target: Path, *, force: bool, say: Say) -> None:
    """Take the node out of its cluster. Conflict while pods run on it, unless `force`."""
    client = Client(config=KubeConfig.from_file(admin).get())
    with suppress(ApiError):
        client.patch(Node, node, {"spec": {"unschedulable": True}})
    running = list(client.list(Pod, namespace="*", fields={"spec.nodeName": node}))
    names = sorted(
        f"{pod.metadata.namespace}/{pod.metadata.name}" for pod in running if pod.metadata is not None
    )
    if names and not force:
        raise Conflict(
            f"cannot leave the cluster: {len(names)} pods are on node {node}",
            details=names[:20],
            resolution=f"kubectl drain {node} --ignore-daemonsets, then again; --force leaves them to the cluster",
        )
    for pod in running:
        assert pod.metadata is not None and pod.metadata.name and pod.metadata.namespace
        with suppress(ApiError):
            client.delete(Pod, pod.metadata.name, namespace=pod.metadata.namespace)
    disallow_volumes(client, node)
    with suppress(ApiError):
        client.delete(Node, node)
    with suppress(ApiError):
        client.delete(Lease, node, namespace=LEASE_NAMESPACE)
    with suppress(FileNotFoundError):
        target.unlink()
    say(
        f"node {node} has left the cluster; VMs of its pods are deleted when the daemon joins again, or by hand"
    )


def _make_runtime_class(client: Client) -> None:
    """RuntimeClass `volant`: a pod that names it goes to nodes like this one, whatever their taint."""
    toleration = Toleration(key=TAINT.key, value=TAINT.value, effect=TAINT.effect, operator="Equal")
    scheduling = Scheduling(nodeSelector={"type": "virtual-kubelet"}, tolerations=[toleration])
    made = RuntimeClass(handler=RUNTIME_CLASS, metadata=ObjectMeta(name=RUNTIME_CLASS), scheduling=scheduling)
    try:
        client.create(made)
    except ApiError as error:
        if error.status.code == 403:
            raise NotPermitted(
                "cannot join the cluster: this kubeconfig's user may not make a RuntimeClass",
                resolution="use an administrator's kubeconfig",
            ) from error
        if error.status.code != CONFLICT:
            raise


def _get_client_certificate(
    client: Client, node: str, key: ec.EllipticCurvePrivateKey, deadline: float
) -> bytes:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{NODE_PREFIX}{node}"),
        ]
    )
    asked = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    spec = CertificateSigningRequestSpec(
        request=base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode(),
        signerName=CLIENT_SIGNER,
        usages=["digital signature", "client auth"],
    )
    made = client.create(
        CertificateSigningRequest(metadata=ObjectMeta(generateName=f"volant-{node}-"), spec=spec)
    )
    _approve(client, made)
    assert made.metadata is not None and made.metadata.name
    while True:
        found = client.get(CertificateSigningRequest, made.metadata.name).status
        if found is not None and found.certificate:
            return base64.b64decode(found.certificate)
        if time.monotonic() > deadline:
            raise Unreachable("cannot join the cluster: its controller manager signs no certificate")
        time.sleep(POLL_SECONDS)


def approve_serving(client: Client, node: str) -> bool:
    """Let the node serve with a certificate of the cluster's; whether there was one to approve."""
    found = False
    for request in client.list(CertificateSigningRequest):
        spec, status = request.spec, request.status
        if spec.signerName != SIGNER or spec.username != f"{NODE_PREFIX}{node}":
            continue
        found = True
        if status is None or not status.conditions:
            _approve(client, request)
    return found


def _approve(client: Client, request: CertificateSigningRequest) -> None:
    """Once, whoever else has changed the request meanwhile, as the cluster's own approver does."""
    assert request.metadata is not None and request.metadata.name
    while request.status is None or not request.status.conditions:
        approved = CertificateSigningRequestCondition(
            type="Approved", status="True", reason="JoinedByVolar", message="volar cluster join",
            lastUpdateTime=datetime.now(UTC),
        )  # fmt: skip
        body = CertificateSigningRequest.Approval(
            metadata=request.metadata, spec=request.spec,
            status=CertificateSigningRequestStatus(conditions=[approved]),
        )  # fmt: skip
        try:
            client.replace(body, request.metadata.name)
        except ApiError as error:
            if error.status.code != CONFLICT:
                raise
            request = client.get(CertificateSigningRequest, request.metadata.name)
            assert request.metadata is not None and request.metadata.name
        else:
            return


def _is_ready(client: Client, node: str) -> bool:
    try:
        found = client.get(Node, node)
    except ApiError:
        return False
    conditions = (found.status.conditions if found.status is not None else None) or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def keep_kubeconfig(target: Path, document: bytes) -> None:
    """It holds a private key: this user's alone, and there whole or not at all, since the daemon begins with it."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole_file(target, document, mode=0o600)


def make_kubeconfig(server: str, ca: bytes, certificate: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    text = {
        name: base64.b64encode(content).decode()
        for name, content in (("ca", ca), ("certificate", certificate), ("key", private))
    }
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "volant",
        "clusters": [{"name": "volant", "cluster": {"server": server, "certificate-authority-data": text["ca"]}}],
        "users": [
            {"name": "volant", "user": {"client-certificate-data": text["certificate"], "client-key-data": text["key"]}}
        ],
        "contexts": [{"name": "volant", "context": {"cluster": "volant", "user": "volant"}}],
    }  # fmt: skip
    return json.dumps(document, indent=2).encode() + b"\n"
